"""Ids that sort by the time at which they were made: `job-01k9…`, a prefix and a ULID in lower case."""

from __future__ import annotations

import os
import threading
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's, without i, l, o and u
_LENGTH, _RANDOM_BITS = 26, 80
_lock = threading.Lock()
_last = 0


def new_id(prefix: str) -> str:
    """A new id. Within a process each is above the one before; across processes they sort by the millisecond.

    >>> first, second = new_id("job"), new_id("job")
    >>> first < second, len(first)
    (True, 30)
    """
    global _last
    fresh = (time.time_ns() // 1_000_000) << _RANDOM_BITS | int.from_bytes(os.urandom(_RANDOM_BITS // 8), "big")
    with _lock:
        _last = value = fresh if fresh > _last else _last + 1
    letters = [_ALPHABET[value >> shift & 31] for shift in range(5 * (_LENGTH - 1), -1, -5)]
    return f"{prefix}-{''.join(letters)}"

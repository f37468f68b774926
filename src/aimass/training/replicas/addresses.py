"""Where the workers of a group find each other's addresses: in the block that they share, and nowhere else.

Every slot has a note of a few records that its worker alone writes: `number, count, (key size, value size, key, value)...`. The
number is that of the group; a note of another number counts as empty. A record never changes once it is counted, so that whoever
is killed while it writes leaves nothing half written to anybody, and nobody ever waits for a lock.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

from torch._C._distributed_c10d import Store

if TYPE_CHECKING:
    from aimass.parameters.replicas import ReplicaServer

NOTE_BYTES = 4096
_POLL_S = 0.0002
_NUMBER, _COUNT = range(2)
_HEAD_BYTES = 16
_SIZES = struct.Struct("=qq")


class AddressStore(Store):
    """The store through which torch.distributed brings a group together.

    Args:
        server: in whose block the notes are.
        number: the group's; not 0.
        is_current: says whether the group may still be formed; once not, whoever waits gives up.
    """

    def __init__(self, server: ReplicaServer, number: int, is_current: Callable[[], bool]) -> None:
        super().__init__()
        assert server.slot is not None, "only workers are in groups"
        self._number, self._is_current = number, is_current
        self._notes = [server.note(slot) for slot in range(server.layout.num_slots)]
        self._own = self._notes[server.slot]
        self._end = _HEAD_BYTES
        head = self._own[:_HEAD_BYTES].cast("q")
        head[_NUMBER] = 0
        head[_COUNT] = 0
        head[_NUMBER] = number

    def set(self, key: str, value: bytes | str) -> None:
        """Write a record for all to read."""
        record = [key.encode(), value.encode() if isinstance(value, str) else bytes(value)]
        data = _SIZES.pack(*map(len, record)) + b"".join(record)
        stop = self._end + len(data)
        if stop > len(self._own):
            raise RuntimeError(f"the addresses of a group take more than {len(self._own)} bytes")
        self._own[self._end : stop] = data
        self._end = stop
        self._own[:_HEAD_BYTES].cast("q")[_COUNT] += 1

    def get(self, key: str) -> bytes:
        """The value of a key, once anybody has set it."""
        self.wait([key])
        found = self._find(key)
        assert found is not None, "it was waited for"
        return found

    def wait(self, keys: list[str], timeout: timedelta | None = None) -> None:
        """Wait until all keys are set, for as long as nobody who might set them is lost: `timeout` is not heeded.

        Raises:
            RuntimeError: the group is given up.
        """
        while not self.check(keys):
            if not self._is_current():
                raise RuntimeError("a worker was lost while the group was formed")
            time.sleep(_POLL_S)

    def check(self, keys: list[str]) -> bool:
        """Whether all keys are set."""
        return all(self._find(key) is not None for key in keys)

    def _find(self, key: str) -> bytes | None:
        return next((value for note in self._notes for name, value in self._records(note) if name == key.encode()), None)

    def _records(self, note: memoryview) -> Iterator[tuple[bytes, bytes]]:
        """A note's records. Its worker may begin another note meanwhile: what was read before the number changed is whole."""
        head, at = note[:_HEAD_BYTES].cast("q"), _HEAD_BYTES
        for _ in range(head[_COUNT] if head[_NUMBER] == self._number else 0):
            sizes = _SIZES.unpack(note[at : at + _SIZES.size])
            if head[_NUMBER] != self._number:
                return
            start = at + _SIZES.size
            at = start + sum(sizes)
            record = bytes(note[start:at])
            if head[_NUMBER] != self._number:
                return
            yield record[: sizes[0]], record[sizes[0] :]

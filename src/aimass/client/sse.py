"""Server-sent events, as they arrive in pieces."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from aimass.core.errors import AimassError

_LARGEST = 16 << 20
DONE = "done"


@dataclass(frozen=True, kw_only=True)
class Told:
    """One event: its type, its text, and the id after which a reader goes on."""

    type: str
    data: str
    id: str | None


class EventReader:
    """Makes events of a stream's bytes.

    >>> reader = EventReader()
    >>> list(reader.feed(b"id: 7\\nevent: epo")), list(reader.feed(b"ch\\ndata: {}\\n\\n: still here\\n\\n"))
    ([], [Told(type='epoch', data='{}', id='7')])
    """

    def __init__(self) -> None:
        self._rest = b""
        self._type, self._id = "", None  # type: str, str | None
        self._data: list[str] = []

    def feed(self, piece: bytes) -> Iterator[Told]:
        """The events that `piece` completes."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if len(self._rest) > _LARGEST:
            raise AimassError("the service sent an event without an end; is it an AI Mass service?")
        for line in lines:
            told = self._take(line.removesuffix(b"\r").decode("utf-8", "replace"))
            if told is not None:
                yield told

    def _take(self, line: str) -> Told | None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._type = value
        elif name == "id":
            self._id = value
        if line or not (self._data or self._type):
            return None
        told = Told(type=self._type or "message", data="\n".join(self._data), id=self._id)
        self._type, self._data = "", []
        return told


class Following:
    """Where a reader stands in a stream that it follows over broken connections.

    Args:
        after: the id of the last event that is known already.
        limit_s: how long it follows at most; None for as long as it takes.
    """

    def __init__(self, after: str | None = None, limit_s: float | None = None) -> None:
        self.after = after
        self.attempt = 0
        self.is_open = False
        self.is_over = False
        self._until = None if limit_s is None else time.monotonic() + limit_s

    def headers(self) -> dict[str, str]:
        """What asks for the events from here on."""
        found = {"accept": "text/event-stream", "cache-control": "no-cache"}
        return found if self.after is None else {**found, "last-event-id": self.after}

    def wait_s(self, longest_s: float) -> float:
        """How long to wait for the next bytes.

        Raises:
            TimeoutError: the time is up.
        """
        left_s = longest_s if self._until is None else min(longest_s, self._until - time.monotonic())
        if left_s <= 0:
            raise TimeoutError("the stream has not ended in time")
        return left_s

    def new(self, reader: EventReader, piece: bytes) -> Iterator[Told]:
        """The events in a piece, up to the last."""
        self.wait_s(1)
        for told in reader.feed(piece):
            if told.type == DONE:
                self.is_over = True
                return
            self.after, self.attempt = told.id or self.after, 0
            yield told

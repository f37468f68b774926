"""A job's events: those of its run, as its folder has them, and those of the job itself, in one sequence without holes.

The events of a run are numbered from 0 in its folder; how many of them are here says which comes next. Every function joins a
transaction that has already changed the job's row, and so has it to itself.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, func, select

from aimass.core.events import Envelope
from aimass.store import tables
from aimass.training import events as _kinds  # noqa: F401 - it makes the kinds of events known
from aimass.training.showing.news import news

_MOST_BYTES = 4 << 20


class Tail:
    """Reads what is appended to a run's `events.jsonl`, from where it stopped.

    Args:
        run: the run's folder.
        known: how many events were read before.
    """

    def __init__(self, run: Path, known: int) -> None:
        self.run, self._path = run.name, run / "events.jsonl"
        self._position, self._skip = 0, known

    def read(self) -> list[Envelope]:
        """The new events, some megabytes at most; none where there are none. A line that is not whole yet waits."""
        while lines := self._lines():
            raw = [json.loads(line) for line in lines]
            fresh = [event for event in raw if event["seq"] >= self._skip]
            if fresh:
                return [Envelope(**{name: event[name] for name in ("run", "seq", "time", "type", "data", "v")}) for event in fresh]
        return []

    def _lines(self) -> list[bytes]:
        """The next whole lines."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._position)
                chunk = file.read(_MOST_BYTES)
        except FileNotFoundError:
            return []
        whole = chunk[: chunk.rfind(b"\n") + 1]
        self._position += len(whole)
        return whole.splitlines()


def count(connection: Connection, job: str, run: str) -> int:
    """How many events of a run are here."""
    row = tables.job_events.c
    return int(connection.execute(select(func.count()).where(row.job_id == job, row.run == run)).scalar_one())


def add(connection: Connection, job: str, events: Sequence[Envelope]) -> None:
    """Take in events of the job's run."""
    _append(connection, job, [{"run": event.run, "time": event.time, "type": event.type, "data": event.data} for event in events])


def note(connection: Connection, job: str, kind: str, message: str, **data: Any) -> None:
    """Say what happened to the job itself."""
    _append(connection, job, [{"run": "", "time": time.time(), "type": kind, "data": {**data, "message": message}}])


def read(connection: Connection, job: str, after: int, limit: int) -> list[dict[str, Any]]:
    """The events above `after`, as the API shows them."""
    row = tables.job_events
    rows = connection.execute(select(row).where(row.c.job_id == job, row.c.seq > after).order_by(row.c.seq).limit(limit))
    return [_shown(event) for event in rows]


def _append(connection: Connection, job: str, rows: Iterable[dict[str, Any]]) -> None:
    row = tables.job_events.c
    newest = connection.execute(select(func.max(row.seq)).where(row.job_id == job)).scalar_one()
    numbered = [{"job_id": job, "seq": seq, **values} for seq, values in enumerate(rows, start=0 if newest is None else newest + 1)]
    if numbered:
        connection.execute(tables.job_events.insert(), numbered)


def _shown(row: Row[Any]) -> dict[str, Any]:
    data = row.data
    if row.run:
        event = Envelope(run=row.run, seq=0, time=row.time, type=row.type, data=data).event()
        message = news(event) if event is not None else None
    else:
        message, data = data["message"], {name: value for name, value in data.items() if name != "message"}
    return {
        "object": "training.job.event",
        "id": str(row.seq),
        "seq": row.seq,
        "created_at": int(row.time),
        "time": row.time,
        "type": row.type,
        "data": data,
        "message": message,
    }

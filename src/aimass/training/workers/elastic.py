"""Runs whose workers may become more and fewer: how that is asked for, before the run and while it goes. Nothing here imports torch."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aimass.cluster.processors import num_processors
from aimass.core.errors import UsageError
from aimass.core.files import write_json

_NUMBER = re.compile(r"\s*[+-]?\d+\s*")
_RANGE = re.compile(r"\s*(\d+)\s*:\s*(\d+)\s*")


@dataclass(frozen=True)
class WorkerRange:
    """How many workers a run may have.

    Args:
        least: below this it does not go on.
        most: as many seats are there.

    >>> str(WorkerRange(1, 4)), str(WorkerRange(2, 2))
    ('1:4', '2')
    """

    least: int
    most: int

    @property
    def is_elastic(self) -> bool:
        """Whether the number can change."""
        return self.least < self.most

    @property
    def start(self) -> int:
        """How many to begin with: as many as there are processors for."""
        return min(self.most, max(self.least, num_processors())) if self.is_elastic else self.most

    def __str__(self) -> str:
        return f"{self.least}:{self.most}" if self.is_elastic else str(self.most)

    def holds(self, workers: int) -> bool:
        """Whether the run may have so many."""
        return self.least <= workers <= self.most

    def check(self, workers: int) -> None:
        """Refuse a number that the run cannot have.

        Raises:
            UsageError: it is outside of the range, or the range is one number.
        """
        if not self.is_elastic:
            what = f"{self.most} worker{'' if self.most == 1 else 's'} from start to end" if self.most else "no worker processes"
            raise UsageError(f"this run has {what}; give a range, such as workers=(1, 4), to change their number while it goes")
        if isinstance(workers, bool) or not isinstance(workers, int) or not self.holds(workers):
            raise UsageError(f"this run has from {self.least} to {self.most} workers; {workers!r} is outside of that")


def read_workers(value: Any) -> tuple[Any, int | None]:
    """The seats of a run and the least number of workers in them, as people write both: `4`, `(1, 4)`, `[1, 4]` or `"1:4"`.

    Returns:
        the number, as it was given where it is one; and the lower end of a range, or None.

    Raises:
        UsageError: it is a range that cannot be.

    >>> read_workers(4), read_workers((1, 4)), read_workers("2:8"), read_workers("2:2")
    ((4, None), (4, 1), (8, 2), (2, None))
    """
    if isinstance(value, str):
        match = _RANGE.fullmatch(value)
        if match is None:
            if _NUMBER.fullmatch(value):
                return int(value), None
            raise UsageError(f"workers={value!r}: it is a number, or a range such as 1:4")
        value = int(match[1]), int(match[2])
    if not isinstance(value, list | tuple):
        return value, None
    if len(value) != 2 or not all(isinstance(end, int) and not isinstance(end, bool) for end in value):
        raise UsageError(f"workers={value!r}: a range has two whole numbers, the least and the most, such as (1, 4)")
    least, most = value
    if not 1 <= least <= most:
        raise UsageError(f"workers={value!r}: the least is at least 1 and not above the most, such as (1, 4)")
    return most, least if least < most else None


class Wishes:
    """How many workers are wanted of a run that goes: asked for in this process, or by another through a file in the run's folder.

    Args:
        folder: the run's.

    >>> import tempfile
    >>> wishes = Wishes(Path(tempfile.mkdtemp()))
    >>> wishes.take(), Wishes(wishes.folder).leave(3), wishes.take(), wishes.take()
    (None, None, 3, None)
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._left, self._taken = folder / "scale.json", folder / ".scale-taken.json"
        self._asked: int | None = None

    def ask(self, workers: int) -> None:
        """Ask for a number of workers, in the process that drives the run. Any thread may."""
        self._asked = workers

    def leave(self, workers: int) -> None:
        """Ask for a number of workers where the process that drives the run finds it."""
        write_json(self._left, {"workers": workers})

    def take(self) -> int | None:
        """What was asked for since the last call, if anything."""
        asked, self._asked = self._asked, None
        try:
            os.rename(self._left, self._taken)  # a wish that is left meanwhile is then not lost
            left = json.loads(self._taken.read_text(encoding="utf-8"))["workers"]
            self._taken.unlink()
        except (OSError, ValueError, KeyError, TypeError):  # there is none, or somebody else has written there
            return asked
        return left if isinstance(left, int) and asked is None else asked

    def forget(self) -> None:
        """Leave out what was asked for before the run began."""
        self._left.unlink(missing_ok=True)

"""What is done about a driver that lives: it is asked to stop, or killed where that is not enough, and held to its memory."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import Row

from aimass.core.errors import AimassError, StorageError
from aimass.service.jobs import process
from aimass.service.jobs.folder import Holder
from aimass.service.jobs.identity import Identity

PATIENCE_S = 20.0
"""How long a driver that was asked to stop may take for its checkpoint."""
SHORT_PATIENCE_S = 8.0
"""The same where its project's budget is used up: within the interval that is still paid for."""
_LEAVING_S = 15.0
_LOOK_S = 1.0
_SILENT_S = 300.0


class MemoryExceeded(StorageError):
    """A job took more memory than it may."""

    code = "memory_limit"


class Watch:
    """Looks after one driver."""

    def __init__(self) -> None:
        self.verdict: AimassError | None = None
        self._asked: float | None = None
        self._patience_s = PATIENCE_S
        self._result_seen: float | None = None
        self._looked = 0.0
        self._sign: tuple[float, float] | None = None  # the newest sign of life, and when it was seen, which the clock does not tell

    def condemn(self, verdict: AimassError) -> None:
        """The job is to fail with these words, once its driver has written a checkpoint."""
        self.verdict, self._patience_s = verdict, SHORT_PATIENCE_S

    def look(self, driver: Identity, holder: Holder | None, job: Row[Any], *, has_result: bool) -> None:
        """Do what is due. Called again and again."""
        now = time.monotonic()
        if has_result:
            self._result_seen = self._result_seen or now
            if now - self._result_seen > _LEAVING_S:
                process.kill(driver.pid, driver.started)
        elif self._asked is not None:
            if now - self._asked > min(self._patience_s, PATIENCE_S):
                process.kill(driver.pid, driver.started)
        elif job.cancel_requested or self.verdict is not None:
            self._asked = now
            process.ask_to_stop(driver.pid, driver.started)
        elif now - self._looked >= _LOOK_S:
            self._looked = now
            self._hold_to_limits(driver, holder, job)

    def _hold_to_limits(self, driver: Identity, holder: Holder | None, job: Row[Any]) -> None:
        limit = job.memory_bytes
        used = process.memory_bytes(driver.pid, limit)
        if used > limit:
            self.verdict = MemoryExceeded(
                f"the job took {used / 1e9:.2f} GB of memory, and its limit is {limit / 1e9:.2f} GB; create it again with a higher "
                "memory=, or with fewer workers, a smaller batch_size or a smaller model"
            )
            process.kill(driver.pid, driver.started)
        elif holder is not None and self._silent_s(holder.seen) > _SILENT_S:
            process.kill(driver.pid, driver.started)

    def _silent_s(self, seen: float) -> float:
        now = time.monotonic()
        if self._sign is None or self._sign[0] != seen:
            self._sign = seen, now
        return now - self._sign[1]

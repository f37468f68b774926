"""Models that end the engines they run on: three times within a minute, and they are left out for a while, longer each time."""

from __future__ import annotations

from dataclasses import dataclass, field

from aimass.core.errors import Unavailable
from aimass.serving.engines import Served

STRIKES = 3
WITHIN_S = 60.0
FIRST_S = 30.0
LONGEST_S = 600.0


@dataclass
class _Record:
    strikes: list[float] = field(default_factory=list)
    times: int = 0
    until: float = 0.0


class Quarantine:
    """Counts the engines that a model has ended. Requests that die with an engine are no proof; those that die alone, twice, are.

    >>> from aimass.serving.ports import Target
    >>> from pathlib import Path
    >>> target = Target("proj-1", "churn", "churn", 2, "ver-1", Path("/"), 0)
    >>> model, quarantine = Served(target, "ver-1.1", 0.0), Quarantine()
    >>> [quarantine.strike(model, now) for now in (1.0, 2.0, 3.0)]
    [None, None, 30.0]
    >>> quarantine.refuse(model, 4.0)
    Traceback (most recent call last):
    aimass.core.errors.Unavailable: churn (version 2) ended 3 engines within a minute and is left out for 29 s; deploy another version
    """

    def __init__(self) -> None:
        self._records: dict[str, _Record] = {}

    def strike(self, model: Served, now: float) -> float | None:
        """An engine died of the model. For how many seconds it is left out, when it is."""
        record = self._records.setdefault(model.target.version_id, _Record())
        record.strikes = [then for then in record.strikes if now - then < WITHIN_S] + [now]
        if len(record.strikes) < STRIKES:
            return None
        out_s = min(FIRST_S * 2.0**record.times, LONGEST_S)
        record.times, record.until, record.strikes = record.times + 1, now + out_s, []
        return out_s

    def refuse(self, model: Served, now: float) -> None:
        """Let a model pass, or not.

        Raises:
            Unavailable: it is left out.
        """
        record = self._records.get(model.target.version_id)
        if record is None or now >= record.until:
            return
        error = Unavailable(
            f"{model.label} ended {STRIKES} engines within a minute and is left out for {record.until - now:.0f} s; deploy another version"
        )
        error.retry_after_s = record.until - now
        raise error

    def is_out(self, model: Served, now: float) -> bool:
        """Whether a model is left out just now."""
        record = self._records.get(model.target.version_id)
        return record is not None and now < record.until

    def forgive(self, model: Served) -> None:
        """Someone asked for the model by name: let it try."""
        record = self._records.get(model.target.version_id)
        if record is not None:
            record.until = 0.0

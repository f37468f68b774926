"""Which process something is, so that another can tell whether it has gone.

Process numbers are used again, machines boot again, and containers count processes for themselves; so a process is its host, the
boot with the number space it lives in, its number and its start.
"""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

from aimass.cluster.alive import is_alive, process_start

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_LABEL_LENGTH = 32


@dataclass(frozen=True, kw_only=True)
class Identity:
    """One process on one machine.

    >>> here = Identity.of(os.getpid())
    >>> here.is_here, here.is_alive, Identity.read(here.owner("blue")) == here
    (True, True, True)
    """

    host: str
    boot: str
    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> Self:
        """The process with this number on this machine; one that has ended started at 0."""
        return cls(host=host_name(), boot=boot_name(), pid=pid, started=round(process_start(pid) or 0.0, 2))

    @classmethod
    def read(cls, owner: str | None) -> Self | None:
        """The process that `owner` wrote down, or None where it is not of this form."""
        try:
            host, boot, pid, started = (owner or "").split("|")[1:]
            return cls(host=host, boot=boot, pid=int(pid), started=float(started))
        except ValueError:
            return None

    def owner(self, label: str) -> str:
        """One line for the `owner` of a lease: two services in one process differ by their label."""
        return "|".join((label.replace("|", "")[:_LABEL_LENGTH], self.host, self.boot, str(self.pid), f"{self.started:.2f}"))

    @property
    def is_here(self) -> bool:
        """Whether this machine, since it last started, can tell about the process."""
        return (self.host, self.boot) == (host_name(), boot_name())

    @property
    def is_alive(self) -> bool:
        """Whether it is there. Ask only of processes that are here."""
        return is_alive(self.pid, self.started)

    @property
    def is_gone(self) -> bool:
        """Whether it has surely ended: it was on this machine, and is not there, or the machine has started again since."""
        return self.host == host_name() and not (self.boot == boot_name() and self.is_alive)

    def to_json(self) -> dict[str, Any]:
        """Its fields."""
        return asdict(self)


@cache
def host_name() -> str:
    """This machine's name."""
    return platform.node().replace("|", "")[:_LABEL_LENGTH] or "localhost"


@cache
def boot_name() -> str:
    """What differs after each start of the machine, and between the number spaces of containers."""
    try:
        return f"{_BOOT.read_text(encoding='ascii').strip()[:13]}-{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return "unknown"

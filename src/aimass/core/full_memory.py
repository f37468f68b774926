"""What is known when memory ran out: whether an error means that, what the process had and may have, and whom the kernel ended."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from pathlib import Path

from aimass.core.errors import TrainingError

_SAID = re.compile(r"can't allocate memory|out of memory|cannot allocate memory", re.IGNORECASE)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was no memory. torch says it in a RuntimeError.

    >>> is_out_of_memory(MemoryError()), is_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"))
    (True, True)
    """
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and bool(_SAID.search(str(error))))


def out_of_memory() -> TrainingError:
    """What is raised where a training's process has no more memory."""
    return TrainingError(f"the memory is full: {describe_memory()}; lower batch_size, use a smaller model, or fewer workers")


def describe_memory() -> str:
    """What this process has had at most and what it may have, in words: `it had 312 MB, and may have 400 MB of addresses`."""
    had_bytes = _had_bytes()
    had = f"it had {had_bytes / 1e6:.0f} MB" if had_bytes else "it is not known what it had"
    limit_bytes = _limit_bytes()
    return f"{had}, and may have {limit_bytes / 1e6:.0f} MB of addresses (ulimit -v)" if limit_bytes else had


def num_oom_kills(root: Path = Path("/")) -> int:
    """How many processes the kernel has ended for want of memory: of our control group, or else of the machine.

    Args:
        root: where `proc` and `sys` are.
    """
    for path in _counts(root):
        try:
            found = re.search(r"^oom_kill (\d+)$", path.read_text(encoding="ascii"), re.MULTILINE)
        except OSError:
            continue
        if found:
            return int(found[1])
    return 0


def _counts(root: Path) -> Iterator[Path]:
    """Where the kernel counts, the nearest first. Inside a container our own group is the root of what is seen."""
    groups = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for _, controllers, path in (line.split(":", 2) for line in lines):
        if "memory" in controllers.split(","):
            yield groups / "memory" / path.lstrip("/") / "memory.oom_control"
        elif not controllers:
            yield groups / path.lstrip("/") / "memory.events"
    yield groups / "memory.events"
    yield groups / "memory/memory.oom_control"
    yield root / "proc/vmstat"


def _had_bytes() -> int | None:
    try:
        found = re.search(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


def _limit_bytes() -> int | None:
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit

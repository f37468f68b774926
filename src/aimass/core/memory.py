"""Memory that several processes see, with no name in any file system: it is gone when the last of them is.

It is a memfd, because `/dev/shm` is 64 MB in many containers. What does not fit is refused before it is taken, since the
kernel would otherwise answer by killing a process.
"""

from __future__ import annotations

import mmap
import os
import re
import tempfile
from pathlib import Path

from aimass.core.errors import StorageError

_KEPT_FREE_BYTES = 64 << 20


def free_memory_bytes() -> int | None:
    """How many bytes this process may still take: of the machine, and of its control group. None where neither tells."""
    limits = []
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                limits.append(int(line.split()[1]) * 1024)
    except OSError:
        return None
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text(encoding="ascii").strip()
        if limit != "max":
            used = int((group / "memory.current").read_text(encoding="ascii"))
            cached = re.search(r"^inactive_file (\d+)$", (group / "memory.stat").read_text(encoding="ascii"), re.MULTILINE)
            limits.append(int(limit) - used + (int(cached[1]) if cached else 0))  # what files fill is given up when asked for
    except OSError:
        pass  # no control group limits this process
    return min(limits) if limits else None


def has_room(size_bytes: int) -> bool:
    """Whether so much memory may be taken, and a little be left. True where the system does not tell."""
    free = free_memory_bytes()
    return free is None or size_bytes + _KEPT_FREE_BYTES <= free


class SharedMemory:
    """A block of zeroed memory behind a descriptor.

    >>> memory = SharedMemory.create(4096)
    >>> memory.view[:2] = b"ok"
    >>> bytes(SharedMemory.attach(os.dup(memory.descriptor)).view[:2])
    b'ok'
    """

    def __init__(self, descriptor: int, size_bytes: int, *, populate: bool = True) -> None:
        self.descriptor, self.size_bytes = descriptor, size_bytes
        flags = mmap.MAP_SHARED | (getattr(mmap, "MAP_POPULATE", 0) if populate else 0)
        self._map = mmap.mmap(descriptor, size_bytes, flags=flags)
        self.view = memoryview(self._map)

    @classmethod
    def create(cls, size_bytes: int) -> SharedMemory:
        """Take `size_bytes` of memory now.

        Raises:
            StorageError: it does not fit.
        """
        if not has_room(size_bytes):
            raise StorageError(
                f"{size_bytes / 1e6:.0f} MB of shared memory are needed and {(free_memory_bytes() or 0) / 1e6:.0f} MB are free; "
                "use fewer workers, a smaller model or a machine with more memory"
            )
        descriptor = _anonymous_file()
        try:
            os.ftruncate(descriptor, size_bytes)
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(descriptor, 0, size_bytes)
            return cls(descriptor, size_bytes)
        except OSError as error:
            os.close(descriptor)
            raise StorageError(
                f"{size_bytes / 1e6:.0f} MB of shared memory could not be had ({error.strerror}); use fewer workers or a smaller model"
            ) from error

    @classmethod
    def attach(cls, descriptor: int, *, populate: bool = True) -> SharedMemory:
        """Map what another process created, from a descriptor that it passed on.

        Args:
            descriptor: the block's.
            populate: have every page at hand from the start. Without it this process holds those alone that it touches.
        """
        return cls(descriptor, os.fstat(descriptor).st_size, populate=populate)

    def close(self) -> None:
        """Give the descriptor back. The memory itself goes with the last view of it."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("aimass", os.MFD_CLOEXEC)
    descriptor, path = tempfile.mkstemp(prefix="aimass-")
    os.unlink(path)
    return descriptor

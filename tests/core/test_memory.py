import os

import pytest

from aimass.core import memory
from aimass.core.errors import StorageError
from aimass.core.memory import SharedMemory


def test_what_one_process_writes_another_reads():
    block = SharedMemory.create(5000)
    assert bytes(block.view[:10]) == bytes(10)
    pid = os.fork()
    if pid == 0:
        SharedMemory.attach(block.descriptor).view[4990:4995] = b"hello"
        os._exit(0)
    os.waitpid(pid, 0)
    assert bytes(block.view[4990:4995]) == b"hello"
    block.close()
    assert bytes(block.view[4990:4995]) == b"hello", "views outlive the descriptor"
    block.close()


def test_what_does_not_fit_is_refused_before_it_is_taken(monkeypatch):
    before = memory.free_memory_bytes()
    with pytest.raises(StorageError, match=r"MB of shared memory are needed and .* MB are free; use fewer workers"):
        SharedMemory.create(1 << 50)
    monkeypatch.setattr(memory, "free_memory_bytes", lambda: 100 << 20)
    with pytest.raises(StorageError, match="101 MB of shared memory are needed"):
        SharedMemory.create(101_000_000)
    assert before is not None
    assert before > 0

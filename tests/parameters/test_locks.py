import os
import signal

from aimass.parameters.locks import ByteLocks, WatchfulLocks


def in_child(action):
    """Run `action` in a forked process and return whether it was true."""
    pid = os.fork()
    if pid == 0:
        os._exit(0 if action() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_lock_keeps_other_processes_out_until_it_is_given_back():
    locks = ByteLocks(os.memfd_create("locks"))
    with locks.held(7):
        assert in_child(lambda: not locks.try_acquire(7))
        assert in_child(lambda: locks.try_acquire(8))
        with locks.held(7):
            pass
        assert in_child(lambda: not locks.try_acquire(7)), "an inner block gave the outer one's lock back"
    assert in_child(lambda: locks.try_acquire(7))
    os.close(locks.descriptor)


def test_readers_share_and_a_dead_holder_keeps_nothing():
    locks = ByteLocks(os.memfd_create("locks"))
    locks.acquire_shared(0)
    assert in_child(lambda: locks.acquire_shared(0) is None)
    assert in_child(lambda: not locks.try_acquire(0))
    locks.release(0)
    assert in_child(lambda: locks.try_acquire(1))  # and dies with it
    assert locks.try_acquire(1)
    os.close(locks.descriptor)


def test_watchful_locks_look_after_the_holder_while_they_wait():
    descriptor = os.memfd_create("locks")
    reader, writer = os.pipe()
    for kind in ("acquire", "acquire_shared"):
        pid = os.fork()
        if pid == 0:
            ByteLocks(descriptor).acquire(3)
            os.write(writer, b"held")
            signal.pause()
        os.read(reader, 4)
        calls = []

        def watch(pid=pid, calls=calls):
            calls.append(pid)
            if len(calls) == 3:
                os.kill(pid, signal.SIGKILL)

        locks = WatchfulLocks(descriptor, watch)
        getattr(locks, kind)(3)
        locks.release(3)
        assert len(calls) >= 3
        os.waitpid(pid, 0)
    for opened in (descriptor, reader, writer):
        os.close(opened)

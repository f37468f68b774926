"""What is done about a driver that lives."""

import os
from types import SimpleNamespace

from aimass.service.jobs.folder import Holder
from aimass.service.jobs.identity import Identity
from aimass.service.jobs.watching import Watch

JOB = SimpleNamespace(cancel_requested=False, memory_bytes=10**12)


def test_only_a_driver_that_stays_silent_is_killed(monkeypatch):
    killed, clock = [], SimpleNamespace(now=1000.0)
    monkeypatch.setattr("aimass.service.jobs.watching.time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr("aimass.service.jobs.process.kill", lambda *process: killed.append(process))
    driver, watch = Identity.of(os.getpid()), Watch()

    def look(seen, after_s):
        clock.now += after_s
        watch.look(driver, Holder(process=driver, epoch=1, since=0.0, seen=seen), JOB, has_result=False)
        return len(killed)

    assert look(seen=5.0, after_s=2) == 0  # the clock was set forward, or the machine has slept: the sign of life looks old
    assert look(seen=6.0, after_s=299) == 0
    assert look(seen=6.0, after_s=299) == 0
    assert look(seen=6.0, after_s=2) == 1

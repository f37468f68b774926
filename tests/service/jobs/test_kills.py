"""kill -9 of drivers and of the service, at random moments over several jobs."""

import os
import random
import signal
import threading
import time
from collections import Counter
from itertools import pairwise

import pytest
from databases import postgres
from jobplace import LONG, Place, finish, has_trained, service, wait_for
from processes import is_running
from sqlalchemy import select

from aimass.billing import ledger
from aimass.service.jobs.folder import JobFolder
from aimass.store import tables

NUM_JOBS = 2  # one trains in its driver, one with a worker
KILLS = int(os.environ.get("AIMASS_TEST_KILLS", "3"))
MOST_OF_A_DRIVER = 2  # the third in a row would end the job
TICK_S = 0.05  # of the clocks that tell of a process's start and of a file's date, and of milliseconds that are rounded


def started(process):
    """When a process began, by the clock of the bill; the machine counts it from its own start."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + process.started


class Lives(threading.Thread):
    """Looks all the time at which drivers work, and notes of each from when to when it surely did."""

    def __init__(self, place, names):
        super().__init__(daemon=True)
        self.place, self.names, self.seen, self.is_over = place, names, {}, threading.Event()

    def run(self):
        while not self.is_over.wait(0.05):
            dict(self.look())

    def look(self):
        for name in self.names:
            folder = JobFolder(self.place.home / "jobs" / name)
            holder, orders = folder.holder() if folder.is_held() else None, folder.orders()
            if holder is not None and holder.process.is_alive and orders is not None and orders["epoch"] == holder.epoch:
                since, _ = self.seen.get((name, holder.process), (started(holder.process), None))
                self.seen[name, holder.process] = (since, holder.seen)
                yield name, holder.process

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        self.join()

    def of(self, name):
        """From when to when each driver of a job surely trained: from its first row to the last that it told while it was seen."""
        row = tables.job_events.c
        with self.place.database.read() as connection:
            told = connection.execute(select(row.time, row.type).where(row.job_id == name, row.run != "")).all()
        lives = sorted(life for (job, _), life in self.seen.items() if job == name)
        within = [[event for event in told if since <= event.time <= seen] for since, seen in lives]
        begun = [min((event.time for event in those if event.type == "run_started"), default=None) for those in within]
        return [(began, max(event.time for event in those)) for began, those in zip(begun, within, strict=True) if began is not None]


def kill_at_random(place, names, lives, generator):
    """Kill drivers and services until enough have died; the last service is left to finish.

    Returns:
        the job of each driver that died so, and the moments between which it died.
    """
    deaths, died = Counter(), []
    for left in range(KILLS, 0, -1):
        with service(place, f"service {left}") as process:
            time.sleep(generator.uniform(0.5, 3.0))
            alive = dict(lives.look())
            candidates = [name for name in alive if deaths[name] < MOST_OF_A_DRIVER]
            if candidates and generator.random() < 0.7:
                name = generator.choice(candidates)
                deaths[name] += 1
                before = time.time()
                os.kill(alive[name].pid, signal.SIGKILL)
                wait_for(lambda: not is_running(alive[name].pid))  # noqa: B023 - asked at once
                died.append((name, before, time.time()))
                time.sleep(generator.uniform(0.0, 0.5))
            process.kill()
            process.wait()
    return died


def charged(place, job):
    """The stretches of time that a job is charged for."""
    events = [event for event in place.usage() if event.id.startswith(f"train:{job}:")]
    return sorted((event.time - event.quantity / 1000, event.time) for event in events)


def check_bill(bill, lives, deaths):
    """No time is charged twice, all time is in which a driver worked, and none in which it was dead."""
    assert all(end <= since + TICK_S for (_, end), (since, _) in pairwise(bill))
    for since, until in lives:
        missing_s = (until - since) - sum(max(0.0, min(until, end) - max(since, begin)) for begin, end in bill)
        assert missing_s < TICK_S * (1 + len(bill)), (since, until, bill)
    for before, after in deaths:
        assert not [(begin, end) for begin, end in bill if begin < before and end > after + TICK_S], (before, after, bill)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_every_job_ends_once_whoever_is_killed(tmp_path, kind):
    url = f"sqlite:///{tmp_path}/jobs.db" if kind == "sqlite" else postgres()
    place, seed = Place(url, tmp_path / "platform"), random.randrange(2**32)
    print(f"seed {seed}")
    try:
        jobs, data = place.jobs(), place.sample()
        names = [jobs.create(place.project, dataset=data, config={**LONG, "workers": n % 2})["id"] for n in range(NUM_JOBS)]
        with Lives(place, names) as lives:
            died = kill_at_random(place, names, lives, random.Random(seed))
            with service(place, "the last") as process:
                for name in names:
                    has_trained(jobs, place, name)
                found = finish(jobs, place, *names)
                process.communicate("")
        assert sorted(job["result"]["version"] for job in found) == list(range(1, NUM_JOBS + 1))
        for name in names:
            check_bill(charged(place, name), lives.of(name), [(before, after) for job, before, after in died if job == name])
        with place.database.read() as connection:
            assert ledger.trial_balance(connection) == 0
    finally:
        place.database.close()

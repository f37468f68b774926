"""kill -9 of drivers and of the service, at random moments over several jobs."""

import os
import random
import signal
import threading
import time
from collections import Counter

import pytest
from databases import postgres
from jobplace import LONG, Place, charged_s, finish, has_trained, service

from aimass.billing import ledger
from aimass.service.jobs.folder import JobFolder

NUM_JOBS = 2  # one trains in its driver, one with a worker
KILLS = int(os.environ.get("AIMASS_TEST_KILLS", "3"))
MOST_OF_A_DRIVER = 2  # the third in a row would end the job


def age_s(process):
    """How long a process has lived; its start is counted from that of the machine."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - process.started


class Lives(threading.Thread):
    """Looks all the time at which drivers live, and notes how long each did."""

    def __init__(self, place, names):
        super().__init__(daemon=True)
        self.place, self.names, self.seen, self.alive, self.is_over = place, names, {}, {}, threading.Event()

    def run(self):
        while not self.is_over.wait(0.05):
            self.alive = dict(self.look())

    def look(self):
        for name in self.names:
            folder = JobFolder(self.place.home / "jobs" / name)
            holder = folder.holder() if folder.is_held() else None
            if holder is not None and holder.process.is_alive:
                self.seen[name, holder.process] = age_s(holder.process)
                yield name, holder.process

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        self.join()

    def of(self, name):
        """How long each driver of a job lived, in seconds."""
        return [lived_s for (job, _), lived_s in self.seen.items() if job == name]


def kill_at_random(place, names, lives, generator):
    """Kill drivers and services until enough have died; the last service is left to finish."""
    deaths, left = Counter(), KILLS
    while left:
        with service(place, f"service {left}") as process:
            time.sleep(generator.uniform(0.5, 3.0))
            alive = lives.alive
            candidates = [name for name in alive if deaths[name] < MOST_OF_A_DRIVER]
            if candidates and generator.random() < 0.7:
                name = generator.choice(candidates)
                deaths[name] += 1
                os.kill(alive[name].pid, signal.SIGKILL)
                time.sleep(generator.uniform(0.0, 0.5))
            process.kill()
            process.wait()
        left -= 1


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_every_job_ends_once_whoever_is_killed(tmp_path, kind):
    url = f"sqlite:///{tmp_path}/jobs.db" if kind == "sqlite" else postgres()
    place, seed = Place(url, tmp_path / "platform"), random.randrange(2**32)
    print(f"seed {seed}")
    try:
        jobs, data = place.jobs(), place.sample()
        names = [jobs.create(place.project, dataset=data, config={**LONG, "workers": n % 2})["id"] for n in range(NUM_JOBS)]
        with Lives(place, names) as lives:
            kill_at_random(place, names, lives, random.Random(seed))
            with service(place, "the last") as process:
                for name in names:
                    has_trained(jobs, place, name)
                found = [finish(jobs, place, name) for name in names]
                process.communicate("")
        assert sorted(job["result"]["version"] for job in found) == list(range(1, NUM_JOBS + 1))
        for name in names:
            lived_s = lives.of(name)
            assert charged_s(place, name) == pytest.approx(sum(lived_s), rel=0.2, abs=2 * len(lived_s))
        with place.database.read() as connection:
            assert ledger.trial_balance(connection) == 0
    finally:
        place.database.close()

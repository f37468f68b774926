"""What tests of jobs work with: a database with a project, stores, data sets, and services of jobs on them."""

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from aimass.billing import prices
from aimass.core.events import read_events
from aimass.core.ids import new_id
from aimass.data import describe
from aimass.service.jobs import service as scheduling
from aimass.service.jobs import watching
from aimass.service.jobs.folder import JobFolder
from aimass.service.jobs.limits import Limits
from aimass.service.jobs.service import Jobs
from aimass.store import tables
from aimass.store.blobs import Blobs
from aimass.store.database import Database
from aimass.store.registry import Registry

ENDED = ("succeeded", "failed", "cancelled")
LONG = {
    "epochs": 100_000,
    "batch_size": 1,
    "checkpoint": {"every": 0.2},
}  # a row a step, to tell of few epochs a second
STEPS_AN_EPOCH = 120  # of the sample that these jobs train on
LIMITS = Limits(cpus=4, memory_bytes=16 * 10**9)


class Place:
    """What jobs need, and a few words for tests."""

    def __init__(self, url, home):
        self.url, self.home = url, Path(home)
        self.database = Database.open(url)
        prices.ensure(self.database)
        self.blobs = Blobs(str(self.home / "blobs"))
        self.registry = Registry(self.database, self.blobs)
        self.project = "proj-one"
        with self.database.write() as connection:
            project = {"id": self.project, "name": "one", "created": time.time()}
            connection.execute(self.database.insert(tables.projects).values(project).on_conflict_do_nothing())

    def sample(self, name="iris", **settings):
        """A data set of a sample."""
        values = {"sample": name, "settings": settings, "description": describe(name, **settings)}
        return self._dataset(name=name, **values)

    def file(self, content, target, name="rows", **settings):
        """A data set of a file with this content."""
        blob = self.blobs.put([content.encode()])
        path = self.home / f"{name}.csv"
        path.write_text(content)
        description = describe(path, target, **settings)
        values = {"sha256": blob.sha256, "suffix": ".csv", "settings": {"target": target, **settings}, "description": description}
        return self._dataset(name=name, file_id=new_id("file"), **values)

    def _dataset(self, **values):
        identity = new_id("ds")
        with self.database.write() as connection:
            connection.execute(tables.datasets.insert().values(id=identity, project_id=self.project, created=time.time(), **values))
        return identity

    def jobs(self, label="a", limits=LIMITS):
        return Jobs(self.database, self.blobs, self.registry, self.home, limits, label)

    def row(self, job):
        with self.database.read() as connection:
            return connection.execute(tables.jobs.select().where(tables.jobs.c.id == job)).one()

    def moments(self, job, kind):
        """When events of a kind happened, however many others there are."""
        event = tables.job_events.c
        with self.database.read() as connection:
            rows = connection.execute(tables.job_events.select().where(event.job_id == job, event.type == kind).order_by(event.seq))
            return [row.time for row in rows]

    def usage(self):
        with self.database.read() as connection:
            return connection.execute(tables.usage_events.select()).all()


def be_patient(setattr=setattr):
    """Let no driver be killed because the machine is slow."""
    setattr(scheduling, "_LEAVING_S", 120.0)
    for name in ("PATIENCE_S", "SHORT_PATIENCE_S", "_LEAVING_S"):
        setattr(watching, name, 120.0)


def wait_for(condition, timeout_s=120.0):
    """Wait until a condition holds, and return what it said."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.03)
    return found


def ended(jobs, project, job, timeout_s=180.0):
    """Wait for a job's end."""

    def has_ended():
        found = jobs.get(project, job)
        return found if found["status"] in ENDED else None

    return wait_for(has_ended, timeout_s)


def told(jobs, place, job):
    """All of a job's events."""
    found, page = [], {"has_more": True}
    while page["has_more"]:
        page = jobs.events(place.project, job, after=found[-1]["seq"] if found else -1, limit=1000)
        found += page["data"]
    return found


def types(jobs, place, job):
    """The kinds of a job's events."""
    return [event["type"] for event in told(jobs, place, job)]


def has_trained(jobs, place, job):
    """Wait until a job has a checkpoint."""
    return wait_for(lambda: "checkpoint" in types(jobs, place, job))


def driver_of(place, job, but=None):
    """Wait for a job's driver, another than `but`."""

    def found():
        folder = JobFolder(place.home / "jobs" / job)
        holder = folder.holder() if folder.is_held() else None
        return holder.process if holder is not None and (but is None or holder.process != but) else None

    return wait_for(found)


@contextmanager
def service(place, label="other"):
    """A service of jobs in a process of its own."""
    environment = {**os.environ, "DATABASE_PASSWORD": "secret", "AWS_SECRET_ACCESS_KEY": "secret", "AIMASS_DATABASE_URL": place.url}
    process = subprocess.Popen(
        [sys.executable, __file__, place.url, str(place.home), label],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def finish(jobs, place, *names):
    """Let endless jobs succeed: stop them, and give them an end that is near. One with an end of its own may be over too early."""
    for job in names:
        jobs.cancel(place.project, job)
    for job in names:
        found = ended(jobs, place.project, job)
        assert found["status"] == "cancelled", found["error"]
        steps = max(0, JobFolder(place.home / "jobs" / job).newest_step())
        jobs.resume(place.project, job, {"epochs": steps // STEPS_AN_EPOCH + 2})
    return [check_once(place, jobs, job, ends=("cancelled", "succeeded")) for job in names]


def check_once(place, jobs, job, ends=("succeeded",)):
    """The job ended once, with one version, its events have no hole, and no time is charged twice."""
    found = ended(jobs, place.project, job)
    assert found["status"] == "succeeded", found["error"]
    with place.database.read() as connection:
        versions = [row for row in connection.execute(tables.versions.select()) if row.lineage.get("job") == job]
        rows = connection.execute(
            tables.job_events.select().where(tables.job_events.c.job_id == job).order_by(tables.job_events.c.seq)
        ).all()
    assert len(versions) == 1
    assert [row.seq for row in rows] == list(range(len(rows)))
    assert tuple(row.type for row in rows if row.type in ENDED) == ends
    (run,) = {row.run for row in rows if row.run}
    written = list(read_events(place.home / "jobs" / job / "runs" / run / "events.jsonl"))
    assert [(row.type, row.time) for row in rows if row.run] == [(event.type, event.time) for event in written]
    return found


def charged_s(place, job):
    return sum(event.quantity for event in place.usage() if event.id.startswith(f"train:{job}:")) / 1000


def main(url, home, label):
    """A service of jobs in a process of its own. It says when it has begun, and leaves when its input ends."""
    be_patient()
    place = Place(url, home)
    jobs = place.jobs(label)
    jobs.start()
    print("ready", flush=True)
    sys.stdin.read()
    jobs.close()
    place.database.close()
    print("torch" if "torch" in sys.modules else "light", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

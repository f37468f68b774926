"""Cancelling, resuming, refusing, limiting."""

import os
import signal
from itertools import pairwise

import pytest
from jobplace import LONG, driver_of, ended, has_trained, told, types

from aimass.core.errors import Conflict, DataError, NotFound, UsageError
from aimass.service.jobs.limits import Limits
from aimass.store import tables
from aimass.store.paging import Page


def test_a_cancelled_job_keeps_a_checkpoint_and_goes_on_from_it(place, jobs):
    job = jobs.create(place.project, dataset=place.sample(), config=LONG)["id"]
    has_trained(jobs, place, job)
    jobs.cancel(place.project, job)
    found = ended(jobs, place.project, job)
    assert (found["status"], found["error"], found["result"]) == ("cancelled", None, None)
    with pytest.raises(Conflict, match="has ended"):
        jobs.cancel(place.project, job)
    done = found["progress"]["step"]
    epochs = int(found["progress"]["epoch"]) + 5
    with pytest.raises(UsageError, match="batch_size cannot change"):
        jobs.resume(place.project, job, {"batch_size": 7})
    with pytest.raises(UsageError, match="'acuracy', and this run measures"):
        jobs.resume(place.project, job, {"stop.target": "acuracy>=0.9"})
    assert jobs.resume(place.project, job, {"epochs": epochs})["status"] == "validating_files"
    found = ended(jobs, place.project, job)
    assert found["status"] == "succeeded", found["error"]
    assert found["config"]["stop"]["epochs"] == epochs
    starts = [event["data"]["resumed_at_step"] for event in told(jobs, place, job) if event["type"] == "run_started"]
    assert starts == [None, done]
    with pytest.raises(Conflict, match="only failed and cancelled"):
        jobs.resume(place.project, job)


def test_a_queued_job_is_cancelled_at_once(place):
    jobs = place.jobs()
    job = jobs.create(place.project, dataset=place.sample())["id"]
    assert jobs.cancel(place.project, job)["status"] == "cancelled"
    assert types(jobs, place, job) == ["created", "cancelled"]


def test_a_driver_that_will_not_stop_is_killed(place, jobs, monkeypatch):
    monkeypatch.setattr("aimass.service.jobs.watching.PATIENCE_S", 0.5)
    job = jobs.create(place.project, dataset=place.sample(), config=LONG)["id"]
    has_trained(jobs, place, job)
    os.kill(driver_of(place, job).pid, signal.SIGSTOP)
    jobs.cancel(place.project, job)
    assert ended(jobs, place.project, job)["status"] == "cancelled"


def test_what_cannot_work_is_refused_at_the_door(place):
    jobs, data = place.jobs(limits=Limits(cpus=2, memory_bytes=4 * 10**9)), place.sample()
    create = lambda **asked: jobs.create(place.project, **{"dataset": data, **asked})  # noqa: E731
    with pytest.raises(UsageError, match="no setting 'epoch'"):
        create(config={"epoch": 3})
    with pytest.raises(UsageError, match=r"cpus=3: .* at most the 2 processors"):
        create(config={"workers": 3})
    with pytest.raises(UsageError, match=r"cpus=3: .* at most the 2 processors"):
        create(config={"workers": "1:3"})
    with pytest.raises(UsageError, match="the least is at least 1 and not above the most"):
        create(config={"workers": [2, 1]})
    with pytest.raises(UsageError, match="'allreduce', as it is set, needs the same workers from start to end"):
        create(config={"workers": [1, 2], "strategy": "allreduce"})
    with pytest.raises(UsageError, match=r"memory=8 GB: .* 4 GB"):
        create(memory="8GB")
    with pytest.raises(UsageError, match="memory='much'"):
        create(memory="much")
    with pytest.raises(UsageError, match="cannot reach the service"):
        create(config={"model": {"name": "custom", "module": "os.Thing"}})
    with pytest.raises(UsageError, match="device='cuda' is not there"):
        create(config={"device": "cuda"})
    with pytest.raises(UsageError, match=r"health\.webhook is for runs of your own"):
        create(config={"health": {"webhook": "http://169.254.169.254/"}})
    with pytest.raises(UsageError, match="cannot name a model"):
        create(model="../up")
    with pytest.raises(NotFound, match="no data set"):
        create(dataset="ds-none")
    with pytest.raises(UsageError, match="'acuracy', and this run measures"):
        create(config={"stop.target": "acuracy>=0.9"})
    with pytest.raises(UsageError, match="needs validation rows"):
        create(dataset=place.sample("wine", split=[0.9, 0.0, 0.1]), config={"stop.target": "accuracy>=0.9"})
    assert jobs.list(place.project)["data"] == []


def test_jobs_run_in_order_within_the_limits(place):
    jobs = place.jobs(limits=Limits(cpus=1, memory_bytes=16 * 10**9))
    made = [jobs.create(place.project, dataset=place.sample(), config={"epochs": 1})["id"] for _ in range(2)]
    jobs.start()
    try:
        assert [ended(jobs, place.project, job)["status"] for job in made] == ["succeeded"] * 2
    finally:
        jobs.close(stop_drivers=True)
    rows = [place.row(job) for job in made]
    assert all(one.ended <= other.started for one, other in pairwise(rows))
    versions, _ = place.registry.versions(place.project, "iris", Page())
    assert sorted(version.number for version in versions) == [1, 2]


def test_a_job_over_its_memory_fails_and_says_so(place, jobs):
    large = {**LONG, "model": {"name": "mlp", "hidden": [4000, 4000]}}  # of its own; what it shares with other processes counts in part
    job = jobs.create(place.project, dataset=place.sample(), config=large, memory="200MB")["id"]
    found = ended(jobs, place.project, job)
    assert found["status"] == "failed"
    assert found["error"]["code"] == "memory_limit"
    assert "its limit is 0.20 GB" in found["error"]["message"]


def test_a_data_set_whose_bytes_are_gone_fails_the_job(place, jobs):
    data = place.file("a,b\n" + "\n".join(f"{n},{n % 2}" for n in range(60)), "b")
    with place.database.read() as connection:
        sha256 = connection.execute(tables.datasets.select().where(tables.datasets.c.id == data)).one().sha256
    place.blobs.delete(sha256)
    job = jobs.create(place.project, dataset=data)["id"]
    found = ended(jobs, place.project, job)
    assert (found["status"], found["error"]["code"]) == ("failed", "not_found")


def test_a_run_that_cannot_go_on_fails_with_its_own_words(place, jobs):
    job = jobs.create(place.project, dataset=place.sample("diabetes"), config={"lr": 1e30, "optimizer": "sgd", "epochs": 50})["id"]
    found = ended(jobs, place.project, job)
    assert found["status"] == "failed"
    assert "NaN or infinity" in found["error"]["message"]


def test_a_file_is_trained_on_and_named_in_the_lineage(place, jobs):
    rows = "\n".join(f"{n},{'yes' if n % 3 else 'no'}" for n in range(120))
    data = place.file(f"a,b\n{rows}", "b", name="sales")
    job = jobs.create(place.project, dataset=data, config={"epochs": 1})["id"]
    assert ended(jobs, place.project, job)["status"] == "succeeded"
    version = place.registry.version(place.project, "sales")
    assert version.lineage["dataset"] == data
    assert len(version.lineage["sha256"]) == 64
    assert version.card["data"]["rows"]["training"] == 96
    assert version.card["data"]["name"] == "sales"
    said = [event["message"] for event in told(jobs, place, job) if event["type"] == "run_started"]
    assert said[0].startswith("training on sales: 96 rows")


def test_a_foreign_project_sees_nothing(place, jobs):
    job = jobs.create(place.project, dataset=place.sample(), config=LONG)["id"]
    for ask in (jobs.get, jobs.cancel, jobs.resume, jobs.events):
        with pytest.raises(NotFound, match="no job"):
            ask("proj-other", job)
    with pytest.raises(NotFound):
        jobs.create("proj-other", dataset=place.row(job).dataset_id)


def test_a_data_set_without_a_target_is_refused(place):
    jobs, data = place.jobs(), place.sample()
    with place.database.write() as connection:
        connection.execute(tables.datasets.update().values(description={"split": None}))
    with pytest.raises(DataError, match="no target"):
        jobs.create(place.project, dataset=data)

"""Drivers and services that die, leave, and come back."""

import os
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest
from jobplace import LONG, charged_s, check_once, driver_of, ended, finish, has_trained, service, types, wait_for
from processes import is_running

from aimass.core.errors import StorageError
from aimass.service.jobs.folder import JobFolder
from aimass.store import tables


def kill(driver):
    os.kill(driver.pid, signal.SIGKILL)
    wait_for(lambda: not is_running(driver.pid))


def test_a_killed_driver_is_followed_by_another(place, jobs):
    job = jobs.create(place.project, dataset=place.sample(), config={**LONG, "workers": 1})["id"]
    has_trained(jobs, place, job)
    first = driver_of(place, job)
    kill(first)
    second = driver_of(place, job, but=first)
    assert second != first
    assert types(jobs, place, job).count("restarted") == 1
    wait_for(lambda: len(place.moments(job, "run_started")) == 2)
    finish(jobs, place, job)
    assert len({event.id.split(":")[2] for event in place.usage()}) == 3  # the first, the second, and the one that ended it


def test_a_driver_that_dies_before_its_first_checkpoint_begins_again(place, jobs, flowers):
    place.registry.add(place.project, "flowers", flowers)
    start = {"start_from": "flowers", "model": {"name": "mlp", "hidden": [8]}, "adapter": "lora"}
    job = jobs.create(place.project, dataset=place.sample(), config={**LONG, **start, "checkpoint": {"every": 1000}})["id"]
    wait_for(lambda: "run_started" in types(jobs, place, job))
    first = driver_of(place, job)
    kill(first)
    driver_of(place, job, but=first)
    wait_for(lambda: types(jobs, place, job).count("run_started") == 2)
    assert types(jobs, place, job).count("started_from") == 2
    finish(jobs, place, job)


def test_a_driver_that_keeps_dying_fails_the_job(place, jobs):
    job = jobs.create(place.project, dataset=place.sample(), config={**LONG, "checkpoint": {"every": 1000}})["id"]
    driver = None
    for _ in range(3):
        driver = driver_of(place, job, but=driver)
        with (place.home / "jobs" / job / "driver.log").open("a") as log:
            log.write("the last words\n")
        kill(driver)
    found = ended(jobs, place.project, job)
    assert (found["status"], found["error"]["code"]) == ("failed", "driver_died")
    assert "died 3 times in a row (killed by signal 9)" in found["error"]["message"]
    assert "the last words" in found["error"]["message"]


def test_a_driver_lives_through_the_leave_and_the_death_of_its_services(place):
    jobs = place.jobs()
    with service(place) as process:
        job = jobs.create(place.project, dataset=place.sample(), config=LONG)["id"]
        has_trained(jobs, place, job)
        driver = driver_of(place, job)
        environment = Path(f"/proc/{driver.pid}/environ").read_text()
        assert process.communicate("")[0] == "light\n"
        assert place.row(job).owner is None  # it lets go at once
        assert is_running(driver.pid)
    assert "secret" not in environment
    assert place.url not in environment
    epoch = jobs.get(place.project, job)["epoch"]
    with service(place, "the next") as process:
        wait_for(lambda: jobs.get(place.project, job)["epoch"] == epoch + 1)
        process.kill()
        process.wait()
    jobs.start()
    try:
        wait_for(lambda: place.row(job).owner == jobs.owner)
        assert jobs.get(place.project, job)["epoch"] == epoch + 2
        assert driver_of(place, job) == driver
        assert "restarted" not in types(jobs, place, job)
        finish(jobs, place, job)
    finally:
        jobs.close(stop_drivers=True)


def test_drivers_that_are_stopped_with_their_service_go_on_with_the_next(place):
    first = place.jobs()
    first.start()
    job = first.create(place.project, dataset=place.sample(), config=LONG)["id"]
    has_trained(first, place, job)
    driver = driver_of(place, job)
    first.close(stop_drivers=True)
    assert not is_running(driver.pid)
    assert first.get(place.project, job)["status"] == "queued"
    second = place.jobs("b")
    second.start()
    try:
        assert driver_of(place, job, but=driver) != driver
        finish(second, place, job)
    finally:
        second.close(stop_drivers=True)


def test_the_time_in_which_nobody_worked_is_not_charged(place):
    jobs = place.jobs()
    with service(place) as process:
        job = jobs.create(place.project, dataset=place.sample(), config=LONG)["id"]
        has_trained(jobs, place, job)
        process.kill()
        process.wait()
    driver, (began,) = driver_of(place, job), place.moments(job, "run_started")
    seen = JobFolder(place.home / "jobs" / job).holder().seen
    kill(driver)
    dead = time.time()
    time.sleep(0.5)  # in which nobody works
    jobs.cancel(place.project, job)
    jobs.start()
    try:
        assert ended(jobs, place.project, job)["status"] == "cancelled"
    finally:
        jobs.close(stop_drivers=True)
    assert seen - began - 0.01 < charged_s(place, job) < dead - began + 0.01  # within a tick of the clock that files are dated by


def test_a_runner_whose_lease_is_gone_writes_nothing_more(place, jobs):
    job = jobs.create(place.project, dataset=place.sample(), config=LONG)["id"]
    has_trained(jobs, place, job)
    driver = driver_of(place, job)
    here = place.row(job).driver["host"]
    with place.database.write() as connection:
        values = {
            "owner": "another",
            "epoch": 77,
            "lease_until": time.time() + 1000,
            "driver": {"host": "elsewhere", "boot": "x", "epoch": 77},
        }
        connection.execute(tables.jobs.update().where(tables.jobs.c.id == job).values(**values))
    wait_for(lambda: not is_running(driver.pid))  # it belongs to nobody on this machine
    assert here != "elsewhere"
    row = place.row(job)
    assert (row.state, row.owner, row.epoch, row.version_id) == ("running", "another", 77, None)
    with place.database.write() as connection:  # and when that machine is lost, the job begins again here
        connection.execute(tables.jobs.update().where(tables.jobs.c.id == job).values(lease_until=time.time() - 1))
    assert driver_of(place, job, but=driver) != driver
    finish(jobs, place, job)
    assert place.row(job).epoch > 77


@pytest.mark.parametrize("workers", [0, 2])
def test_a_driver_leaves_no_process_behind(place, jobs, workers):
    job = jobs.create(place.project, dataset=place.sample(), config={**LONG, "workers": workers}, cpus=1)["id"]
    has_trained(jobs, place, job)
    driver = psutil.Process(driver_of(place, job).pid)
    wait_for(lambda: len(driver.children(recursive=True)) >= workers)
    below = driver.children(recursive=True)
    jobs.cancel(place.project, job)
    assert ended(jobs, place.project, job)["status"] == "cancelled"
    wait_for(lambda: not any(is_running(process.pid) for process in below))


def test_a_job_that_cannot_be_carried_on_fails_after_some_tries(place, jobs, monkeypatch):
    job = jobs.create(place.project, dataset=place.sample(), config=LONG)["id"]
    has_trained(jobs, place, job)
    driver = driver_of(place, job)
    monkeypatch.setattr("aimass.service.jobs.service._PAUSE_S", 0.05)
    monkeypatch.setattr("aimass.service.jobs.journal.add", lambda *_: {}["seq"])
    found = ended(jobs, place.project, job)
    assert (found["status"], found["error"]["code"]) == ("failed", "internal")
    assert "failed 5 times in a row to carry it on (KeyError)" in found["error"]["message"]
    assert not is_running(driver.pid)
    assert place.row(job).owner is None
    assert charged_s(place, job) > 0
    monkeypatch.undo()
    assert jobs.resume(place.project, job)["error"] is None
    assert driver_of(place, job, but=driver) != driver


def test_a_store_that_is_away_is_waited_for(place, jobs, monkeypatch):
    tries, put_file = [], place.blobs.put_file

    def away(path):
        tries.append(path)
        if len(tries) < 8:
            raise StorageError("the store does not answer")
        return put_file(path)

    monkeypatch.setattr("aimass.service.jobs.service._PAUSE_S", 0.01)
    monkeypatch.setattr(place.blobs, "put_file", away)
    check_once(place, jobs, jobs.create(place.project, dataset=place.sample(), config={"epochs": 1})["id"])
    assert len(tries) >= 8


def test_leases_are_kept_while_the_store_keeps_the_scheduler_waiting(place, monkeypatch):
    monkeypatch.setattr("aimass.service.jobs.service._RENEW_S", 0.05)
    jobs = place.jobs()
    asked, answer = threading.Event(), threading.Event()

    def slow(_):
        asked.set()
        assert answer.wait(120)
        return 1

    jobs.start()
    try:
        job = jobs.create(place.project, dataset=place.sample(), config=LONG)["id"]
        wait_for(lambda: place.row(job).state == "running")
        monkeypatch.setattr(place.blobs, "size", slow)
        jobs.create(place.project, dataset=place.file("a,b\n" + "1,0\n2,1\n" * 20, "b"))
        assert asked.wait(120)
        before = place.row(job).lease_until
        wait_for(lambda: place.row(job).lease_until > before)
        answer.set()
    finally:
        answer.set()
        jobs.close(stop_drivers=True)

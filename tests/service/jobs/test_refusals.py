"""Jobs that their own process refuses before the first row: only it has the network, and sees what does not fit."""

import pytest
from jobplace import LONG, charged_s, ended, finish, has_trained, service, types, wait_for

from aimass.billing import budgets, ledger
from aimass.service.jobs.folder import JobFolder
from aimass.store import tables

FROZEN = {"model": {"name": "mlp", "hidden": [8]}, "start_from": "flowers", "freeze": "layers.7"}
SHALLOW = {"model": {"name": "linear"}, "strategy": "pipeline", "workers": 2}
HUGE = {"model": {"name": "mlp", "hidden": [6_000_000, 8_000_000]}}  # more than a process has addresses for
SEEN_EARLY = {**HUGE, "optimizer": {"rates": {"layers.0": 0.5}}}


@pytest.fixture
def known(place, flowers):
    place.registry.add(place.project, "flowers", flowers)


def check_costs_nothing(place):
    """Nothing is charged, nothing stays put aside, and the books add up."""
    with place.database.read() as connection:
        assert ledger.trial_balance(connection) == 0
        assert connection.execute(tables.reservations.select()).all() == []
    assert place.usage() == []


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (FROZEN, "freeze='layers.7' fits no parameter"),
        (SHALLOW, "pipeline"),
        (HUGE, "the memory is full"),
        (SEEN_EARLY, "the memory is full"),
    ],
    ids=["a pattern that fits nothing", "too few layers", "no memory", "no memory to look at the names"],
)
def test_what_only_the_network_tells_fails_the_job_and_costs_nothing(place, jobs, known, config, sentence):
    with place.database.write() as connection:
        budgets.set_budget(connection, place.project, limit_micro=10**6, period_name="total")
    job = jobs.create(place.project, dataset=place.sample(), config={"epochs": 2, **config})["id"]
    found = ended(jobs, place.project, job)
    assert found["status"] == "failed"
    assert sentence in found["error"]["message"]
    assert {"run_started", "restarted"} & set(types(jobs, place, job)) == set()
    check_costs_nothing(place)


def test_a_refusal_costs_nothing_whoever_is_killed_before_it(place, known):
    jobs = place.jobs()
    with service(place) as first:
        job = jobs.create(place.project, dataset=place.sample(), config=FROZEN)["id"]
        folder = JobFolder(place.home / "jobs" / job)
        wait_for(folder.holder)
        folder.end_holder()  # unless it has refused already
        first.kill()
        first.wait()
    with service(place, "next") as second:
        found = ended(jobs, place.project, job)
        second.communicate("")
    assert (found["status"], found["error"]["code"]) == ("failed", "invalid_request")
    check_costs_nothing(place)


def test_the_meter_begins_with_the_first_row(place, jobs):
    job = jobs.create(place.project, dataset=place.sample(), config=LONG)["id"]
    has_trained(jobs, place, job)
    finish(jobs, place, job)
    began, stopped = place.moments(job, "run_started"), place.moments(job, "run_ended")
    result = JobFolder(place.home / "jobs" / job).result(place.row(job).epoch)
    metered = [sum(event.quantity for event in place.usage() if event.data["epoch"] == epoch) / 1000 for epoch in (1, 2)]
    assert metered[1] == pytest.approx(result["ended"] - began[1], abs=0.01)
    assert metered[0] >= stopped[0] - began[0] - 0.01
    assert charged_s(place, job) == pytest.approx(sum(metered))

"""What a job does where its project has a budget."""

import time

from jobplace import LONG, ended, has_trained, told

from aimass.billing import budgets, ledger
from aimass.service.jobs.funds import Funds
from aimass.service.jobs.metering import Meter
from aimass.store import tables

INTERVAL_MICRO = 1000  # ten seconds of a worker at $0.36 an hour


def give(place, limit_micro):
    with place.database.write() as connection:
        budgets.set_budget(connection, place.project, limit_micro=limit_micro, period_name="total")


def test_a_job_that_cannot_be_paid_for_does_not_start(place, jobs):
    give(place, INTERVAL_MICRO)
    job = jobs.create(place.project, dataset=place.sample(), config={"epochs": 1})["id"]
    found = ended(jobs, place.project, job)
    assert (found["status"], found["error"]["code"]) == ("failed", "insufficient_quota")
    assert place.usage() == []
    give(place, 100 * INTERVAL_MICRO)
    jobs.resume(place.project, job)
    assert ended(jobs, place.project, job)["status"] == "succeeded"


def test_a_job_stops_at_a_checkpoint_where_the_budget_ends(place, jobs, monkeypatch):
    monkeypatch.setattr("aimass.service.jobs.metering.INTERVAL_S", 1.0)
    monkeypatch.setattr("aimass.service.jobs.funds.INTERVAL_S", 1.0)
    give(place, 1000 * INTERVAL_MICRO)
    job = jobs.create(place.project, dataset=place.sample(), config=LONG)["id"]
    has_trained(jobs, place, job)
    give(place, 1)
    found = ended(jobs, place.project, job)
    assert (found["status"], found["error"]["code"]) == ("failed", "insufficient_quota")
    assert "budget" in found["error"]["message"]
    with place.database.read() as connection:
        reserved = connection.execute(tables.reservations.select()).all()
        assert ledger.trial_balance(connection) == 0
    assert reserved == []
    give(place, 1000 * INTERVAL_MICRO)
    step = found["progress"]["step"]
    jobs.resume(place.project, job, {"epochs": int(found["progress"]["epoch"]) + 2})
    assert ended(jobs, place.project, job)["status"] == "succeeded"
    assert [event["data"]["resumed_at_step"] for event in told(jobs, place, job) if event["type"] == "run_started"] == [None, step]


def test_two_intervals_are_put_aside_however_long_nobody_charged(place):
    give(place, 1000 * INTERVAL_MICRO)
    funds, since = Funds("job-1", place.project, 1), time.time()
    meter = {"job": "job-1", "project": place.project, "model": "m", "epoch": 1, "epoch_started": since, "workers": 1}
    with place.database.write() as connection:
        funds.begin(connection, since)
        for later_s in (10, 6000, 10, 30):
            usage, since = Meter(**meter, reservation=funds.reservation).charge(since, since + later_s)
            ledger.post(connection, usage)
            funds.renew(connection, usage, since)
            assert [row.amount_micro for row in connection.execute(tables.reservations.select())] == [2 * INTERVAL_MICRO]

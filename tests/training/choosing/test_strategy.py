"""`strategy="auto"`: each way that it can go, on real runs; only how even the machine is has to be made up."""

import pytest

import aimass
from aimass.training.choosing import strategy as choosing
from aimass.training.choosing.measuring import evenness

WIDE = {"name": "mlp", "hidden": [512, 512]}


@pytest.fixture(scope="module")
def wine():
    return aimass.data.load("wine")


@pytest.fixture
def even(monkeypatch):
    def make(speed):
        monkeypatch.setattr(choosing, "evenness", lambda workers: speed)

    make(0.9)
    return make


def finished(data, **settings):
    run = aimass.train(data, strategy="auto", **settings).wait()
    assert run.state == "succeeded"
    assert run.config.strategy.name == "auto"
    events = list(run.events())
    found = [envelope.data for envelope in events if envelope.type == "strategy_chosen"][-1]
    assert next(envelope.data for envelope in events if envelope.type == "run_started")["strategy"] == found["strategy"]
    return run, found


@pytest.mark.parametrize(("workers", "expected"), [(0, "single"), (1, "async_sgd")])
def test_with_fewer_than_two_nothing_has_to_be_measured(workers, expected, wine):
    run, found = finished(wine, workers=workers, epochs=1)
    assert (found["strategy"], found["step_s"]) == (expected, None)
    assert run.metrics()["steps"] == 5


def test_even_workers_go_in_rounds_and_what_was_chosen_is_kept(even, wine):
    run, found = finished(wine, workers=2, epochs=1)
    assert found["strategy"] == "parameter_server"
    assert "rounds wait little" in found["reason"]
    assert found["exchange_share"] < 0.5
    even(0.3)
    longer = run.resume(epochs=2).wait()
    assert [envelope.data for envelope in longer.events() if envelope.type == "strategy_chosen"] == [found]
    alone = longer.resume(epochs=3, workers=0).wait()
    assert [envelope.data["strategy"] for envelope in alone.events() if envelope.type == "run_started"][-1] == "single"


@pytest.mark.parametrize(
    ("batch_size", "expected", "why"), [(32, "load_balanced_sgd", "as much less to do"), (8, "async_sgd", "nobody waits")]
)
def test_a_slow_worker_gets_less_or_is_not_waited_for(batch_size, expected, why, even, wine):
    even(0.4)
    _, found = finished(wine, workers=(1, 2), batch_size=batch_size, epochs=1)
    assert (found["strategy"], found["evenness"]) == (expected, 0.4)
    assert "has 40% of the fastest's speed" in found["reason"]
    assert why in found["reason"]


def test_sparse_gradients_need_no_rounds(even):
    shops = aimass.data.load([{"shop": f"s{n % 500}", "sold": str(n % 5 < 2)} for n in range(1000)], "sold")
    _, found = finished(shops, model="linear", optimizer="auto", workers=2, epochs=1)
    assert found["strategy"] == "async_sgd"
    assert "workers seldom meet" in found["reason"]


def test_long_exchanges_become_rare(even, wine, monkeypatch):
    monkeypatch.setattr(choosing, "LONG_EXCHANGE", 0.02)  # a network of this size is over it on any machine, however busy
    _, found = finished(wine, model=WIDE, batch_size=1, workers=2, max_steps=30, optimizer="auto")
    assert found["strategy"] == "model_averaging"
    assert found["settings"]["every"] >= 1
    _, found = finished(wine, model=WIDE, batch_size=1, workers=2, max_steps=30, optimizer="ftrl")  # whose p comes from its own sums
    assert found["strategy"] == "parameter_server"


def test_leases_of_several_batches_are_none_of_a_round(even, wine):
    _, found = finished(wine, workers=2, epochs=1, lease={"batches": 2})
    assert found["strategy"] == "async_sgd"


def test_a_batch_of_all_rows_is_shared_out(even, wine):
    _, found = finished(wine, workers=2, epochs=1, batch_size=None)
    assert found["strategy"] == "load_balanced_sgd"
    assert "a batch is all rows" in found["reason"]


def test_how_even_this_machine_is():
    assert 0 < evenness(2) <= 1

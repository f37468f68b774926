"""Asynchronous SGD in its two readings, and what its workers tell of themselves."""

import pytest
import torch

import aimass
from aimass.training.config import TrainConfig


@pytest.fixture(scope="module")
def waiting():
    """A run whose workers wait for the parameters that hold their gradients."""
    data = aimass.data.load("wine")
    return aimass.train(data, strategy={"name": "async_sgd", "wait": True}, workers=2, epochs=8, lr=0.01).wait()


def test_it_learns_and_counts_each_batch_once(waiting):
    history, metrics = waiting.history(), waiting.metrics()
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    assert sum(metrics["staleness"]) == metrics["steps"] == 8 * 5


def test_each_epoch_tells_the_workers_states(waiting):
    told = [event.data for event in waiting.events() if event.type == "worker_states"]
    assert [data["epoch"] for data in told] == list(range(1, 9))
    for data in told:
        assert [worker["worker"] for worker in data["workers"]] == [0, 1]
        assert {worker["state"] for worker in data["workers"]} <= {"COMPUTE", "EXCHANGE", "WAIT", "IDLE"}


def test_the_last_states_add_up(waiting):
    workers, steps = waiting.metrics()["workers"], waiting.metrics()["steps"]
    assert sum(worker["iteration"] for worker in workers) == steps
    assert all(0 <= worker["clock"] < steps for worker in workers)
    at_work = [worker for worker in workers if worker["iteration"]]
    assert all(worker["compute_s"] > 0 for worker in at_work)
    assert sum(worker["wait_s"] for worker in workers) > 0


def test_who_does_not_wait_spends_no_time_on_it():
    run = aimass.train("iris", workers=1, epochs=2).wait()
    (worker,) = run.metrics()["workers"]
    assert worker["wait_s"] == 0
    assert (worker["clock"], worker["iteration"]) == (7, 8)


@pytest.mark.parametrize("workers", [0, 1])
def test_alone_it_waits_for_nobody_and_has_the_bits_of_single(workers):
    settings = {"epochs": 3, "seed": 2}
    alone = aimass.train("iris", strategy="single", **settings).wait()
    waits = aimass.train("iris", strategy={"name": "async_sgd", "wait": True}, workers=workers, **settings).wait()
    for theirs, ours in zip(alone.model.module.parameters(), waits.model.module.parameters(), strict=True):
        assert torch.equal(theirs, ours)
    assert "workers" not in alone.metrics()


def test_it_goes_with_what_corrects_late_gradients_and_with_a_range_of_workers():
    strategy = {"name": "ap_sgd", "wait": True, "compensation": "adaptive"}
    config = TrainConfig.parse({"strategy": strategy, "workers": "1:3"})
    assert config.strategy.name == "async_sgd"
    run = aimass.train("wine", strategy=strategy, workers=2, epochs=3).wait()
    assert run.metrics()["steps"] == 3 * 5

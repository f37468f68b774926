"""What a run counts of what its workers send and receive."""

import os
import signal
import time

import pytest

import aimass

NUM_PARAMETERS = 9091
VECTOR = 4 * NUM_PARAMETERS


def first(run, *types):
    """The first event of the last of these types, once all have happened."""
    while True:
        found = {envelope.type: envelope for envelope in reversed(list(run.events()))}
        if set(types) <= set(found):
            return found[types[-1]]
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("strategy", "sent"),
    [
        ("async_sgd", 20 * VECTOR),
        ("parameter_server", 20 * VECTOR),
        ({"name": "parameter_server", "staleness": 2, "push": "delta", "sync_every": 4}, 5 * VECTOR),
        ("allreduce", 2 * 10 * (VECTOR + 8)),  # 2 workers in 10 rounds: 2 (m − 1) / m of the gradient and two numbers behind it
    ],
    ids=["async_sgd", "rounds", "deltas", "allreduce"],
)
def test_each_exchange_counts_what_it_would_send(strategy, sent):
    run = aimass.train("iris", strategy=strategy, workers=2, epochs=5).wait()
    assert run.metrics()["steps"] == 20
    assert (run.metrics()["bytes_sent"], run.metrics()["bytes_received"]) == (sent, sent)
    moved = [epoch["bytes_moved"] for epoch in run.history()]
    assert moved == sorted(moved)
    assert 0 < moved[0] < moved[-1] == 2 * sent


def test_the_callers_own_process_sends_nothing():
    assert aimass.train("iris", strategy="async_sgd", epochs=1).wait().metrics()["bytes_sent"] == 0


def test_a_run_that_goes_on_goes_on_counting():
    run = aimass.train("iris", workers=2, max_steps=8).wait()
    longer = run.resume(max_steps=20).wait()
    assert longer.metrics()["bytes_sent"] == longer.metrics()["bytes_received"] == 20 * VECTOR


def test_what_a_dead_worker_had_sent_stays_counted():
    run = aimass.train("iris", workers=2, epochs=10**6)
    os.kill(first(run, "epoch", "worker_started").data["pid"], signal.SIGKILL)
    first(run, "worker_lost")
    run.cancel()
    metrics = run.wait().metrics()
    assert metrics["bytes_received"] % VECTOR == metrics["bytes_sent"] % VECTOR == 0
    assert metrics["steps"] - 1 <= metrics["bytes_sent"] // VECTOR <= metrics["bytes_received"] // VECTOR <= metrics["steps"] + 2

"""Late gradients in whole runs: counted, bounded, scaled, corrected, and spread over servers."""

import contextlib

import pytest
import torch
from faults.test_runs import events_of, wait_until
from training import gathering

import aimass
from aimass.core.errors import Conflict, UsageError
from aimass.training.workers import entry as worker_entry

CORRECTED = {"compensation": "adaptive", "scale_steps": True}


@pytest.mark.parametrize(
    "strategy",
    [
        {"name": "async_sgd", **CORRECTED},
        {"name": "async_sgd", "compensation": "constant", "atomic": False},
        {"name": "parameter_server", "staleness": 2, "servers": 3, "sync_every": 2, **CORRECTED},
        {"name": "parameter_server", "staleness": None, "push": "delta", "sync_every": 4, "servers": 2},
    ],
    ids=lambda strategy: " ".join(map(str, strategy.values())),
)
def test_late_gradients_lead_to_the_same_accuracy(strategy, monkeypatch):
    monkeypatch.setattr(worker_entry, "main", gathering.main)
    run = aimass.train("digits", workers=3, strategy=strategy, epochs=8).wait()
    metrics = run.metrics()
    assert metrics["validation"]["accuracy"] > 0.9
    pushes = sum(metrics["staleness"])
    assert pushes == metrics["steps"] or strategy.get("sync_every")
    assert metrics["steps"] == 8 * 45
    assert metrics["staleness_most"] >= metrics["staleness_mean"] > 0
    assert metrics.get("largest_lead", 0) <= (strategy.get("staleness") or 0)
    if bound := strategy.get("staleness"):
        assert metrics["staleness_most"] <= (2 * bound + 1) * 2, "each of two others, from k behind to k ahead and one more"
    servers = metrics.get("servers", [])
    assert len(servers) == strategy.get("servers", 0)
    if servers:
        assert sum(server["parameters"] for server in servers) == sum(p.numel() for p in run.model.module.parameters())
        assert {server["steps"] for server in servers} == {pushes}
        assert all(server["busy_s"] > 0 and server["waited_s"] >= 0 for server in servers)
        for server in servers:
            fetched = server["bytes"] / (4 * server["parameters"]) - pushes
            assert pushes <= fetched <= pushes + 3, "one pull a push, and one more of a worker that then had to leave"


def test_counts_go_on_with_a_run():
    settings = {"strategy": {"name": "ssp", "staleness": 1, "servers": 2}, "workers": 2}
    run = aimass.train("digits", **settings, max_steps=60).wait()
    before = run.metrics()
    after = run.resume(max_steps=120).wait().metrics()
    assert sum(after["staleness"]) == 120
    assert after["largest_lead"] <= 1
    assert after["held_back_s"] >= before["held_back_s"]
    for earlier, later in zip(before["servers"], after["servers"], strict=True):
        assert later["steps"] == 120
        assert later["bytes"] >= 2 * earlier["bytes"] - 16 * later["parameters"]
        assert later["busy_s"] > earlier["busy_s"]


def test_workers_come_and_go_within_the_bound():
    strategy = {"name": "parameter_server", "staleness": 1}
    run = aimass.train("digits", workers=(1, 3), strategy=strategy, epochs=60)
    for wanted in (1, 3, 2):
        with contextlib.suppress(Conflict):  # on a fast machine it has ended
            run.scale(wanted)
        wait_until(lambda: [event["workers"] for event in events_of(run, "progress")][-1:] == [wanted] or run.state != "running")  # noqa: B023
    metrics = run.wait().metrics()
    assert sum(metrics["staleness"]) == metrics["steps"] == 60 * 45
    assert metrics["largest_lead"] <= 1


def test_servers_in_rounds_tell_their_load_too():
    run = aimass.train("iris", workers=2, strategy={"name": "parameter_server", "servers": 2}, epochs=5).wait()
    servers = run.metrics()["servers"]
    sent = run.metrics()["steps"]
    assert len({server["steps"] for server in servers}) == 1
    assert sent / 2 <= servers[0]["steps"] <= sent
    assert [server["bytes"] for server in servers] == [4 * server["parameters"] * sent for server in servers]
    assert all(server["busy_s"] > 0 for server in servers)


def test_a_single_worker_is_never_late_and_nothing_is_changed_for_it():
    plain = {"name": "async_sgd"}
    late = [{"name": "async_sgd", **CORRECTED}, {"name": "parameter_server", "staleness": 1, "servers": 4, **CORRECTED}]
    runs = [aimass.train("wine", workers=1, strategy=strategy, epochs=3, seed=2).wait() for strategy in (plain, *late)]
    expected = torch.cat([p.flatten() for p in runs[0].model.module.parameters()])
    for run in runs[1:]:
        assert torch.equal(torch.cat([p.flatten() for p in run.model.module.parameters()]), expected)
        assert run.metrics()["staleness_most"] == 0


def test_what_cannot_work_is_refused():
    with pytest.raises(UsageError, match=r"strategy.servers=900: the model has 15 parameters; give at most so many servers"):
        aimass.train("iris", model="linear", workers=2, strategy={"name": "parameter_server", "servers": 900}).wait()
    with pytest.raises(UsageError, match="compensation_strength needs compensation='constant' or 'adaptive'"):
        aimass.train("iris", workers=2, strategy={"name": "async_sgd", "compensation_strength": 1.0})

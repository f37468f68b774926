"""Supernodes: against plain PyTorch and rounds, what they tell, and what they refuse."""

import time

import pytest
import torch
from training import gathering
from training.plain import assert_same, average_plainly, train_plainly

import aimass
from aimass.core.errors import UsageError
from aimass.training.settling import settle
from aimass.training.strategy import STRATEGIES, parse_strategy
from aimass.training.workers import entry as worker_entry
from aimass.training.workers.shaping import shaped

SMALL = {"model": {"name": "mlp", "hidden": [16]}, "batch_size": 16, "seed": 4, "epochs": 3}


@pytest.fixture(scope="module")
def wine():
    return aimass.data.load("wine")


def test_one_group_equals_a_round_of_the_parameter_server(wine):
    settings = {**SMALL, "workers": 2, "optimizer": {"name": "sgd", "lr": 0.1}, "clip": 0.3}
    ours = aimass.train(wine, **settings, strategy={"name": "supernode", "groups": 1}).wait()
    rounds = aimass.train(wine, **settings, strategy="parameter_server").wait()
    assert_same(ours.model, dict(rounds.model.module.named_parameters()))
    assert ours.metrics()["steps"] == rounds.metrics()["steps"]
    assert ours.metrics()["staleness"] == [ours.metrics()["groups"][0]["exchanges"]]  # nobody else moves the root's p


def test_one_group_equals_plain_torch_on_the_batches_put_together(wine):
    """However its work is divided: by speed, and unevenly at an epoch's end."""
    settings = {**SMALL, "workers": 3, "optimizer": {"name": "adam", "lr": 0.01}}
    run = aimass.train(wine, **settings, strategy={"name": "超级节点", "groups": 1, "sync_every": 2}).wait()
    plain = {**settings, "strategy": {"name": "parameter_server", "sync_every": 2}}
    assert_same(run.model, train_plainly(wine, plain, lambda p: torch.optim.Adam(p, lr=0.01), leases_at_once=3))


def test_parameters_and_states_are_averaged_by_rows_and_given_back(wine, monkeypatch):
    """Against a plain loop in which two take steps with momentum from the same p and the same velocity, and meet again."""
    monkeypatch.setattr(worker_entry, "main", gathering.main_of_groups)
    settings = {**SMALL, "workers": 2, "optimizer": {"name": "momentum", "lr": 0.05}}
    settings["strategy"] = {"name": "supernode", "push": "delta", "sync_every": 2, "balance": False}
    run = aimass.train(wine, **settings).wait()

    def two_halves_of_a_lease(plan):
        for lease in range(plan.num_leases):
            batches = torch.from_numpy(plan.rows(lease)).split(16)
            half = int(len(batches) / 2 + 0.5)
            yield [batches[:half], batches[half:]]

    assert_same(run.model, average_plainly(wine, settings, two_halves_of_a_lease))


class Normed(torch.nn.Sequential):
    def __init__(self):
        super().__init__(torch.nn.Linear(13, 16), torch.nn.BatchNorm1d(16), torch.nn.Linear(16, 3))


def test_running_statistics_and_states_come_through_in_groups_that_keep_to_themselves(wine):
    strategy = {"name": "supernode", "groups": 2, "push": "delta", "sync_every": 4}
    run = aimass.train(wine, model=Normed(), strategy=strategy, workers=4, epochs=12, batch_size=8, lr=0.01).wait()
    assert run.history()[-1]["train_loss"] < run.history()[0]["train_loss"] / 2
    assert run.model.evaluate(wine.test)["accuracy"] > 0.75
    assert run.model.module[1].running_mean.abs().sum() > 0


@pytest.fixture(scope="module")
def four(wine):
    return aimass.train(wine, **SMALL, workers=4, strategy={"name": "supernode", "groups": 2}).wait()


def test_every_row_is_some_members_once_an_epoch(four, wine):
    metrics = four.metrics()
    members = [member for group in metrics["groups"] for member in group["members"]]
    assert [member["worker"] for member in members] == [0, 1, 2, 3]
    assert sum(member["rows"] for member in members) == 3 * len(wine.train)
    assert metrics["steps"] == 3 * -(-len(wine.train) // 16)
    assert sum(metrics["staleness"]) == sum(group["exchanges"] for group in metrics["groups"])


def test_the_root_exchanges_with_groups_and_not_with_workers(four):
    metrics, vector = four.metrics(), 4 * sum(p.numel() for p in four.model.module.parameters())
    exchanges = sum(group["exchanges"] for group in metrics["groups"])
    assert metrics["root_bytes_sent"] == exchanges * vector
    began = sum(group["exchanges"] > 0 for group in metrics["groups"])  # a group whose workers start late may find nothing left to do
    fetched = metrics["root_bytes_received"] - exchanges * vector
    assert began * vector <= fetched <= 2 * vector, "each supernode fetches p before its first exchange"
    shares = sum(member["turns"] for group in metrics["groups"] for member in group["members"])
    assert metrics["bytes_sent"] == vector * (2 * shares - exchanges)  # to the root, to a supernode, and to its members


def test_the_table_of_each_group_is_told_at_each_epoch(four):
    told = [event.data for event in four.events() if event.type == "groups"]
    assert [event["epoch"] for event in told] == [1, 2, 3]
    at_work = [group for group in told[-1]["groups"] if group["exchanges"]]  # the others' workers came too late
    assert at_work
    for group in at_work:
        assert group["supernode"] in [member["worker"] for member in group["members"]]
        assert all(member["pid"] > 0 for member in group["members"] if member["turns"])
        assert any(member["turns"] for member in group["members"])


def happened(run, *kinds):
    """Wait until a run has told of each of these."""
    while not set(kinds) <= {event.type for event in run.events()}:
        assert run.state == "running"
        time.sleep(0.01)


def test_a_run_that_stopped_goes_on_with_other_groups_and_without(wine):
    batches = -(-len(wine.train) // 16)
    run = aimass.train(wine, **{**SMALL, "epochs": 10**6}, workers=4, strategy="supernode")
    happened(run, "epoch")
    run.cancel()
    epochs = int(run.wait().metrics()["epochs"])
    for more, changes in (
        (2, {"strategy": {"name": "supernode", "groups": 1}, "workers": 3}),
        (4, {"strategy": "async_sgd"}),
        (6, {"strategy": "hierarchical"}),
    ):
        run = run.resume(epochs=epochs + more, **changes).wait()
        assert run.metrics()["steps"] == (epochs + more) * batches


def test_workers_join_and_leave_their_groups(wine):
    run = aimass.train(wine, **{**SMALL, "epochs": 10**6}, workers=(2, 4), strategy={"name": "supernode", "groups": 2})
    happened(run, "epoch")
    run.scale(4)
    while sum(event.type == "worker_started" for event in run.events()) < 4:
        time.sleep(0.01)
    run.scale(2)
    happened(run, "worker_left")
    run.cancel()
    metrics = run.wait().metrics()
    rows = sum(member["rows"] for group in metrics["groups"] for member in group["members"])
    assert metrics["steps"] * 16 - 16 * metrics["epochs"] - 16 <= rows <= metrics["steps"] * 16


def test_a_slow_member_gets_less_to_do(wine, monkeypatch):
    monkeypatch.setattr(worker_entry, "main", gathering.main_of_groups)
    with shaped(slow={1: 30.0}):
        run = aimass.train(wine, **{**SMALL, "epochs": 10**6}, workers=2, strategy="supernode")
    while not any(event.type == "groups" and event.data["groups"][0]["members"][1]["turns"] > 30 for event in run.events()):
        assert run.state == "running"
        time.sleep(0.05)
    run.cancel()
    fast, slow = run.wait().metrics()["groups"][0]["members"]
    assert 0 < slow["rows"] < fast["rows"]
    assert slow["rows"] / slow["turns"] < fast["rows"] / fast["turns"]


def test_like_ends_up_with_like_and_every_row_counts(wine):
    strategy = {"name": "supernode", "groups": 2, "push": "delta", "sync_every": 2}
    with shaped(slow={1: 30.0, 3: 30.0}):
        run = aimass.train(wine, **{**SMALL, "epochs": 10**6}, workers=4, strategy=strategy)

    def members():
        seen = [event.data["groups"] for event in run.events() if event.type == "groups"]
        return {frozenset(one["worker"] for one in group["members"]) for group in seen[-1]} if seen else set()

    while members() != {frozenset({0, 2}), frozenset({1, 3})}:
        assert run.state == "running"
        time.sleep(0.05)
    formed = [event.data for event in run.events() if event.type == "groups_formed"]
    assert formed[-1]["unlike"] < formed[-1]["before"]
    run.cancel()
    metrics = run.wait().metrics()
    rows = sum(member["rows"] for group in metrics["groups"] for member in group["members"])
    assert metrics["steps"] * 16 - 16 * metrics["epochs"] - 32 <= rows <= metrics["steps"] * 16


@pytest.mark.parametrize(
    ("workers", "strategy", "said"),
    [
        (0, {}, "workers=0 would be a supernode of one"),
        (1, {}, "workers=1 would be a supernode of one"),
        (4, {"group_size": 1}, "strategy.group_size=1 would be a supernode of one"),
        (4, {"group_size": 5}, "is more than workers=4"),
        (5, {"groups": 3}, "strategy.groups=3 of workers=5 would leave a supernode of one"),
        (4, {"groups": 2, "group_size": 2}, "leave one of them out"),
    ],
)
def test_a_supernode_of_one_is_refused_before_a_process_starts(workers, strategy, said):
    with pytest.raises(UsageError, match=said):
        settle({"strategy": {"name": "supernode", **strategy}, "workers": workers})


@pytest.mark.parametrize("alias", ["super_node", "hierarchical", "hierarchical_sgd", "超级节点", "Super-Node"])
def test_its_names_lead_to_it(alias):
    assert parse_strategy(alias).name == STRATEGIES.canonical(alias) == "supernode"

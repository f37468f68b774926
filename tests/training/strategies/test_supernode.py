"""Supernodes: against plain PyTorch and rounds, what they tell, and what they refuse."""

import pytest
import torch
from training.plain import assert_same, train_plainly

import aimass
from aimass.core.errors import UsageError
from aimass.training.strategy import STRATEGIES, parse_strategy
from aimass.training.train import settle

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
    assert metrics["root_bytes_received"] == (exchanges + 2) * vector  # each supernode fetches p before its first exchange
    shares = sum(member["turns"] for group in metrics["groups"] for member in group["members"])
    assert metrics["bytes_sent"] == vector * (2 * shares - exchanges)  # to the root, to a supernode, and to its members


def test_the_table_of_each_group_is_told_at_each_epoch(four):
    told = [event.data for event in four.events() if event.type == "groups"]
    assert [event["epoch"] for event in told] == [1, 2, 3]
    for group in told[-1]["groups"]:
        assert group["supernode"] in [member["worker"] for member in group["members"]]
        assert all(member["pid"] > 0 and member["turns"] > 0 for member in group["members"])


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

"""Members that answer as one."""

import pytest
import torch
from torch import nn

from aimass.core.errors import UsageError
from aimass.models.config import build_module, parse_model
from aimass.models.ensembles import EnsembleNetwork


class Says(nn.Module):
    """A member that answers what it was given."""

    def __init__(self, outputs):
        super().__init__()
        self.outputs = torch.tensor(outputs)

    def forward(self, numbers):
        return self.outputs[: len(numbers)]


def ask(task, combine, *outputs):
    network = EnsembleNetwork([Says(one) for one in outputs], task, combine).eval()
    return network(torch.zeros(len(outputs[0]), 1))


def test_probabilities_are_averaged():
    one, other = [[2.0, -1.0, 0.5], [0.0, 0.0, 3.0]], [[-50.0, 60.0, 0.0], [1.0, 2.0, 3.0]]
    found = torch.softmax(ask("multiclass", "average", one, other), dim=1)
    torch.testing.assert_close(found, (torch.softmax(torch.tensor(one), 1) + torch.softmax(torch.tensor(other), 1)) / 2)
    one, other, third = [[2.0], [-90.0]], [[-1.0], [95.0]], [[0.3], [0.0]]
    found = torch.sigmoid(ask("binary", "average", one, other, third))
    torch.testing.assert_close(found, torch.sigmoid(torch.tensor([one, other, third])).mean(0))


def test_numbers_are_averaged():
    assert ask("regression", "average", [[1.0], [2.0]], [[3.0], [-4.0]]).tolist() == [[2.0], [-1.0]]


def test_the_majority_has_it_and_the_shares_of_votes_are_the_probabilities():
    found = ask("multiclass", "vote", [[1.0, 0.0, 9.0]], [[5.0, 2.0, 0.0]], [[0.1, 0.0, 0.0]])
    torch.testing.assert_close(torch.softmax(found, dim=1), torch.tensor([[2 / 3, 0.0, 1 / 3]]), atol=1e-5, rtol=0.0)
    found = ask("binary", "vote", [[9.0], [1.0]], [[-0.1], [2.0]], [[-0.1], [3.0]])
    torch.testing.assert_close(torch.sigmoid(found), torch.tensor([[1 / 3], [1.0]]), atol=1e-5, rtol=0.0)


def test_while_it_learns_each_member_may_have_rows_of_its_own():
    torch.manual_seed(0)
    members = [nn.Linear(2, 3) for _ in range(3)]
    network, rows = EnsembleNetwork(members, "multiclass", "vote"), torch.randn(5, 2)
    network.sizes = [2, 0, 3]
    assert torch.equal(network(rows), torch.cat([members[0](rows[:2]), members[2](rows[2:])]))
    network(rows).sum().backward()
    assert members[1].weight.grad is None


@pytest.mark.parametrize("member", ["ensemble", "custom"])
def test_what_cannot_be_a_member_is_refused(member):
    with pytest.raises(UsageError, match="is none of these"):
        parse_model({"name": "ensemble", "member": {"name": member}})


def test_a_member_answers_by_classes_or_numbers():
    with pytest.raises(UsageError, match="the model 'transformer' answers by text, so it cannot be a member; train it by another strategy"):
        parse_model({"name": "ensemble", "member": {"name": "transformer"}})


def test_it_must_know_what_it_answers():
    with pytest.raises(UsageError, match="set task to"):
        build_module(parse_model("ensemble"), 3, (), 2)

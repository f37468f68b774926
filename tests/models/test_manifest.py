"""The plan of p."""

import json

import pytest
import torch
from torch import nn

from aimass.core.errors import UsageError
from aimass.models.manifest import Entry, Group, Manifest


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode = nn.Linear(3, 4)
        self.norm = nn.LayerNorm((2, 2))
        self.decode = nn.Linear(3, 4, bias=False)
        self.decode.weight = self.encode.weight


def test_weights_come_first_then_biases_and_norms():
    manifest = Manifest.of(nn.Sequential(nn.Conv1d(2, 3, 2), nn.BatchNorm1d(3), nn.Linear(4, 2)))
    assert [(entry.name, entry.offset, entry.shape, entry.group) for entry in manifest.entries] == [
        ("0.weight", 0, (3, 2, 2), "decay"),
        ("2.weight", 12, (2, 4), "decay"),
        ("0.bias", 20, (3,), "no_decay"),
        ("1.weight", 23, (3,), "no_decay"),
        ("1.bias", 26, (3,), "no_decay"),
        ("2.bias", 29, (2,), "no_decay"),
    ]
    assert manifest.groups == (Group(name="decay", start=0, stop=20), Group(name="no_decay", start=20, stop=31))
    assert manifest.num_parameters == 31


def test_a_norm_over_two_dimensions_is_not_decayed():
    groups = {entry.name: entry.group for entry in Manifest.of(Tied()).entries}
    assert groups == {"encode.weight": "decay", "encode.bias": "no_decay", "norm.weight": "no_decay", "norm.bias": "no_decay"}


def test_an_empty_group_is_left_out():
    assert [group.name for group in Manifest.of(nn.Linear(3, 2, bias=False)).groups] == ["decay"]


def test_tied_weights_lie_in_p_once():
    manifest = Manifest.of(Tied())
    assert manifest.aliases == {"decode.weight": "encode.weight"}
    assert manifest.num_parameters == 12 + 4 + 4 + 4


def test_parameters_that_share_their_memory_lie_in_p_once():
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    module[1].weight.data = module[0].weight.data
    assert Manifest.of(module).aliases == {"1.weight": "0.weight"}


def test_frozen_parameters_stay_outside():
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1))
    module[0].requires_grad_(False)
    assert [entry.name for entry in Manifest.of(module).entries] == ["1.weight", "1.bias"]


def test_views_share_the_vector():
    manifest = Manifest.of(nn.Linear(3, 2))
    flat = torch.arange(8.0)
    views = manifest.views(flat)
    assert torch.equal(views["weight"], torch.tensor([[0.0, 1, 2], [3, 4, 5]]))
    views["bias"].fill_(-1)
    assert torch.equal(flat[6:], torch.tensor([-1.0, -1.0]))


def test_survives_json():
    manifest = Manifest.of(Tied().double())
    assert Manifest.from_json(json.loads(json.dumps(manifest.to_json()))) == manifest
    assert manifest.entries[0] == Entry(name="encode.weight", offset=0, shape=(4, 3), dtype="float64", group="decay")


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.LazyLinear(3), "'weight' has no shape yet; run one batch"),
        (nn.Linear(2, 2, device="meta"), "'weight' has no values .* materialize"),
        (nn.Linear(2, 2, dtype=torch.complex64), "'weight' is torch.complex64; only real"),
    ],
)
def test_parameters_that_cannot_lie_in_p(module, message):
    with pytest.raises(UsageError, match=message):
        Manifest.of(module)

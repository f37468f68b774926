import torch
from torch import nn

from aimass.models.ensembles import EnsembleNetwork
from aimass.models.networks import MLPNetwork
from aimass.models.transfer.start import copy_fitting, output_parameters
from aimass.models.transformers import TransformerNetwork


def test_the_outputs_of_an_ensemble_are_those_of_its_members():
    members = [MLPNetwork(4, [], 3, hidden=(5,)) for _ in range(2)]
    found = output_parameters(EnsembleNetwork(members, "multiclass", "average"))
    assert found == {f"members.{number}.layers.2.{part}" for number in (0, 1) for part in ("weight", "bias")}


def test_tied_weights_that_are_there_once_are_copied_to_both_of_their_layers():
    first, second = (TransformerNetwork(layers=1, heads=2, width=8, context=4) for _ in range(2))
    tensors = {name: tensor for name, tensor in first.state_dict().items() if name != "head.next.weight"}
    assert copy_fitting(second, tensors).fresh == ()
    assert torch.equal(second.head.next.weight, first.embedding.byte.weight)


def test_what_a_norm_counts_goes_with_its_weights():
    first, second = (nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)) for _ in range(2))
    first(torch.randn(8, 2))
    copy_fitting(second, first.state_dict())
    assert all(torch.equal(tensor, first.state_dict()[name]) for name, tensor in second.state_dict().items())
    fresh = copy_fitting(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)), {**first.state_dict(), "1.running_mean": torch.zeros(4)}).fresh
    assert fresh == ("1.weight", "1.bias")

"""Where a model is cut: every parameter in one slice, and the dearest slice as cheap as may be."""

from itertools import combinations, pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from aimass.core.errors import UsageError
from aimass.models.manifest import Manifest
from aimass.models.networks import MLPNetwork
from aimass.training.slices.cut import check_layers, cut_evenly, cut_into_layers, cut_tensors


def cut(module, num_slices, split="cost", inputs=None):
    inputs = [torch.zeros(2, 4)] if inputs is None else inputs
    return cut_into_layers(module, Manifest.of(module), inputs, num_slices, split, batch_size=8)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=9), st.integers(1, 4))
def test_no_other_cut_has_a_cheaper_dearest_part(costs, num_slices):
    if len(costs) < num_slices:
        return
    cuts = cut_evenly(costs, num_slices)
    assert (cuts[0], cuts[-1], len(cuts)) == (0, len(costs), num_slices + 1)
    assert all(start < stop for start, stop in pairwise(cuts))

    def dearest(ends):
        return max(sum(costs[start:stop]) for start, stop in pairwise(ends))

    assert dearest(cuts) == min(dearest([0, *inner, len(costs)]) for inner in combinations(range(1, len(costs)), num_slices - 1))


def test_slices_are_consecutive_layers_that_together_are_the_model():
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 64), nn.ReLU(), nn.Sequential(nn.Linear(64, 8), nn.Tanh()), nn.Linear(8, 2))
    first, second = cut(module, 2)
    assert first.pieces == ("0 Flatten", "1 Linear", "2 ReLU")
    assert second.pieces == ("3.0 Linear", "3.1 Tanh", "4 Linear")
    assert (first.outputs, second.outputs) == ((64,), (2,))
    assert (first.flops, second.flops) == (2 * 4 * 64, 2 * (64 * 8 + 8 * 2))
    assert sorted((*first.spans, *second.spans)) == [(0, 256), (256, 784), (784, 848), (848, 858)]
    assert [one.pieces[0] for one in cut(module, 3, "module")] == ["0 Flatten", "3.0 Linear", "4 Linear"]


def test_embeddings_are_a_layer_of_their_own():
    module = MLPNetwork(3, [(40, 2)], 2, hidden=(4,))
    inputs = [torch.zeros(2, 3), torch.zeros(2, 1, dtype=torch.int64)]
    assert [one.num_parameters for one in cut(module, 3, "layer", inputs)] == [80, 5 * 4 + 4, 4 * 2 + 2]
    check_layers(module, 2, "module")


def test_a_tied_tensor_belongs_to_the_first_slice_that_has_it():
    tied = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    tied[2].weight = tied[0].weight
    first, second = cut(tied, 2)
    assert (first.num_parameters, first.borrows) == (20, ())
    assert (second.num_parameters, second.borrows) == (4, ((0, 16, 0),))
    tied[2].bias = tied[0].bias
    with pytest.raises(UsageError, match=r"slice 1 would have no parameters of its own.*untie them, or use strategy='sharded'"):
        cut(tied, 2)


def test_a_slice_may_be_frozen_as_a_whole():
    module = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    module[0].requires_grad_(False)
    first, second = cut(module, 2)
    assert (first.spans, first.borrows, second.spans) == ((), (), ((0, 16), (16, 20)))


def test_forgotten_parameters_are_refused():
    forgetful = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    forgetful.pieces = lambda: [forgetful[0], forgetful[1]]
    forgetful.register_parameter("scale", nn.Parameter(torch.ones(1)))
    with pytest.raises(UsageError, match="leave out some of its parameters"):
        cut(forgetful, 2)


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 3)), min_size=1, max_size=4), st.integers(1, 4))
def test_tensors_are_cut_by_rows_as_fsdp_does(shapes, num_slices):
    module = nn.ParameterList([torch.zeros(shape) for shape in shapes])
    manifest = Manifest.of(module)
    p = torch.arange(manifest.num_parameters)
    slices = cut_tensors(manifest, num_slices)
    for slot, one in enumerate(slices):
        ours = [p[start:stop] for start, stop in one.spans]
        chunks = [torch.chunk(view, num_slices) for view in manifest.views(p).values()]
        theirs = [chunk[slot].flatten() for chunk in chunks if slot < len(chunk)]
        assert torch.equal(torch.cat([torch.empty(0), *ours]), torch.cat([torch.empty(0), *theirs]))

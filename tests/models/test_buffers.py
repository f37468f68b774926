"""Running statistics as a flat vector and by name."""

import torch
from torch import nn

from aimass.models.buffers import Buffers


class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(2)
        self.register_buffer("scale", torch.tensor([[3.0, 4.0]], dtype=torch.float64))
        self.register_buffer("mask", torch.ones(5), persistent=False)


def test_floats_are_one_vector_without_what_is_not_state():
    buffers = Buffers(Masked())
    assert torch.equal(buffers.floats(), torch.tensor([3.0, 4.0, 0.0, 0.0, 1.0, 1.0]))
    assert buffers.num_floats == 6


def test_floats_are_a_copy_and_can_be_put_back():
    module = Masked()
    buffers = Buffers(module)
    before = buffers.floats()
    module.norm(torch.randn(8, 2))
    assert not torch.equal(buffers.floats(), before)
    buffers.set_floats(before)
    assert torch.equal(module.norm.running_mean, torch.zeros(2))
    assert torch.equal(module.scale, torch.tensor([[3.0, 4.0]], dtype=torch.float64))


def test_integers_are_copies_by_name():
    module = Masked()
    buffers = Buffers(module)
    before = buffers.integers()
    module.norm(torch.randn(8, 2))
    assert buffers.integers() == {"norm.num_batches_tracked": torch.tensor(1)}
    buffers.set_integers(before)
    assert module.norm.num_batches_tracked == 0


def test_a_module_without_buffers():
    buffers = Buffers(nn.Linear(2, 2))
    assert buffers.floats().shape == (0,)
    buffers.set_floats(torch.empty(0))
    assert buffers.integers() == {}

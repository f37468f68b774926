"""Vectors in 8 bits a value: how far off they are, and what they take."""

import numpy as np
import torch

from aimass.parameters.int8 import BLOCK, Int8Blocks, Int8Copy


def test_each_value_is_within_half_a_step_of_its_block():
    size = 3 * BLOCK + 17
    vector = torch.randn(size, generator=torch.Generator().manual_seed(0)) * torch.logspace(-6, 3, size)
    int8 = Int8Blocks(size)
    sent = int8.send(vector.clone())
    for start in range(0, size, BLOCK):
        block, read = vector[start : start + BLOCK], sent[start : start + BLOCK]
        step = block.abs().max() / 127
        assert (read - block).abs().max() <= step * 0.5001
        assert np.array_equal((read / step).round().numpy(), np.rint(block.numpy() / step.item()))
    torch.testing.assert_close(int8.send(sent.clone()), sent)
    assert int8.num_bytes == size + 4 * 4


def test_nothing_stays_nothing_and_what_is_not_finite_stays_so():
    int8 = Int8Blocks(5)
    assert torch.equal(int8.send(torch.zeros(5)), torch.zeros(5))
    assert not int8.send(torch.tensor([1.0, torch.inf, 0.0, 0.0, 0.0])).isfinite().all()
    assert not int8.send(torch.tensor([1.0, torch.nan, 0.0, 0.0, 0.0])).isfinite().all()
    assert torch.equal(int8.send(torch.ones(5)), torch.ones(5))


def test_a_copy_follows_what_changes_and_its_errors_do_not_add_up():
    generator, size = torch.Generator().manual_seed(1), 2 * BLOCK + 3
    x, copy = torch.randn(size, generator=generator), Int8Copy(Int8Blocks(size))
    assert torch.equal(copy.follow(x.clone()), x)
    assert copy.num_bytes == 4 * size
    for _ in range(50):
        x += 0.01 * torch.randn(size, generator=generator)
        held = copy.follow(x.clone())
        assert (held - x).abs().max() < 0.01 * 6 / 127
        assert copy.num_bytes == size + 4 * 3
    for _ in range(3):
        held = copy.follow(x.clone())
    torch.testing.assert_close(held, x)

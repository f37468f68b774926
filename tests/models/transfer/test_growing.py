import pytest
import torch

from aimass.core.errors import UsageError
from aimass.models.networks import MLPNetwork
from aimass.models.transfer.growing import grow_blocks, grow_layers
from aimass.models.transformers import TransformerNetwork


def build(hidden, **more):
    return MLPNetwork(6, [(4, 2)], 3, hidden=hidden, **more).eval()


@pytest.mark.parametrize(
    ("small", "large", "more"),
    [
        ((8,), (20,), {}),
        ((8, 5), (8, 13), {"activation": "tanh"}),
        ((8,), (12, 9, 30), {}),
        ((8, 5), (8, 5), {"dropout": 0.3}),
        ((), (), {}),
    ],
)
def test_the_larger_one_gives_the_answers_of_the_smaller_one(small, large, more):
    torch.manual_seed(0)
    trained, grown = build(small, **more), build(large, **more)
    grow_layers(trained, grown, torch.Generator().manual_seed(1))
    numbers, categories = torch.randn(50, 6), torch.randint(4, (50, 1))
    torch.testing.assert_close(grown(numbers, categories), trained(numbers, categories), rtol=1e-5, atol=1e-6)


def test_copies_of_a_unit_learn_different_things():
    torch.manual_seed(0)
    trained, grown = build((4,)), build((12,))
    grow_layers(trained, grown, torch.Generator().manual_seed(1))
    grown(torch.randn(50, 6), torch.randint(4, (50, 1))).square().sum().backward()
    gradients = grown.layers[0].weight.grad
    assert len({tuple(row.tolist()) for row in gradients if row.any()}) == sum(bool(row.any()) for row in gradients)


@pytest.mark.parametrize(
    ("small", "large", "why"),
    [
        (build((8,)), build((4,)), r"hidden=\(8,\) with 3 outputs does not grow into hidden=\(4,\)"),
        (build((8, 8)), build((16,)), "at least as wide"),
        (build((8,)), build((16,), activation="tanh"), "the activation"),
        (build((8,), activation="tanh"), build((8, 8), activation="tanh"), "which only ReLU allows"),
        (build((8,), layer_norm=True), build((16,), layer_norm=True), "normalised"),
        (build(()), build((16,)), "activation"),
    ],
)
def test_what_cannot_keep_the_answers_is_refused(small, large, why):
    with pytest.raises(UsageError, match=why):
        grow_layers(small, large, torch.Generator())


def language(**shape):
    return TransformerNetwork(**{"layers": 1, "heads": 2, "width": 8, "context": 6, **shape}).eval()


@pytest.mark.parametrize("larger", [{"layers": 3}, {"context": 10}, {"layers": 2, "context": 7}, {}], ids=str)
def test_a_deeper_or_longer_language_model_gives_the_same_logits(larger):
    torch.manual_seed(0)
    trained, grown = language(), language(**larger)
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    grow_blocks(trained, grown)
    numbers, symbols = torch.empty(5, 0), torch.randint(256, (5, 6), dtype=torch.uint8)
    torch.testing.assert_close(grown(numbers, symbols), trained(numbers, symbols), rtol=1e-6, atol=1e-6)
    assert grown.head.next.weight is grown.embedding.byte.weight
    grown(numbers, symbols).square().sum().backward()
    assert all(block.narrow.weight.grad.any() and block.attended.weight.grad.any() for block in grown.blocks), "what is added learns"


@pytest.mark.parametrize("other", [{"width": 16}, {"heads": 4}, {"tied": False}, {"context": 4}], ids=str)
def test_another_language_model_is_refused(other):
    with pytest.raises(UsageError, match="adds blocks to a transformer"):
        grow_blocks(language(layers=2), language(layers=2, **other))
    with pytest.raises(UsageError, match="adds blocks to a transformer"):
        grow_blocks(language(layers=2), language())

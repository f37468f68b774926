"""A larger network that answers as a smaller one does: it begins where that one stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from aimass.core.errors import UsageError

if TYPE_CHECKING:
    from aimass.models.networks import MLPNetwork
    from aimass.models.transformers import TransformerNetwork


@torch.no_grad()
def grow_layers(small: MLPNetwork, large: MLPNetwork, generator: torch.Generator) -> None:
    """Give a wider and deeper perceptron the function of another.

    A unit that is added is a copy of one that is there, and what goes out of the copies is shared out among them: shares s_i > 0 with
    Σ s_i = 1, drawn at random, so that the copies learn different things. A layer that is added is the identity, which ReLU keeps.

    Args:
        small: what was trained.
        large: as wide or wider in every layer, and as deep or deeper; it is overwritten.
        generator: draws the units to copy and the shares.

    Raises:
        UsageError: `large` is no larger `small`.

    Source: Chen, Goodfellow and Shlens, Net2Net: accelerating learning via knowledge transfer, ICLR 2016.
    """
    old, new = _linear(small), _linear(large)
    widths, wanted = [layer.out_features for layer in old], [layer.out_features for layer in new]
    _check(small, large, widths, wanted)
    weights, biases = [layer.weight.clone() for layer in old], [layer.bias.clone() for layer in old]
    for _ in range(len(new) - len(old)):
        width = widths[-2]
        weights.insert(-1, torch.eye(width))
        biases.insert(-1, torch.zeros(width))
    sources, shares = torch.arange(old[0].in_features), torch.ones(old[0].in_features)
    for layer, weight, bias in zip(new, weights, biases, strict=True):
        incoming = weight[:, sources] * shares
        sources, shares = _copies(len(bias), layer.out_features, generator)
        layer.weight.copy_(incoming[sources])
        layer.bias.copy_(bias[sources])
    large.embeddings.load_state_dict(small.embeddings.state_dict())


@torch.no_grad()
def grow_blocks(small: TransformerNetwork, large: TransformerNetwork) -> None:
    """Give a deeper language model, or one that sees more bytes at once, the function of another.

    A block that is added comes last, and what it adds to its input is 0 at first: its two last projections begin at 0.

    Args:
        small: what was trained.
        large: of the same width and heads, as many blocks or more, as long a context or a longer one; it is overwritten.

    Raises:
        UsageError: `large` is no larger `small`.

    Source: Shen et al., Staged training for transformer language models, ICML 2022.
    """
    there, wanted = _shape_of(small), _shape_of(large)
    if there.fixed != wanted.fixed or there.layers > wanted.layers or small.context > large.context:
        raise UsageError(
            "grow=True adds blocks to a transformer, or lets it see more bytes at once: model.layers and model.context may be larger than "
            f"{there.layers} and {small.context}, and width, heads and tied are to be those of the smaller model"
        )
    large.embedding.byte.load_state_dict(small.embedding.byte.state_dict())
    large.embedding.place.weight[: small.context].copy_(small.embedding.place.weight)
    large.head.load_state_dict(small.head.state_dict())
    for block, trained in zip(large.blocks, small.blocks, strict=False):
        block.load_state_dict(trained.state_dict())
    for added in list(large.blocks)[there.layers :]:
        for name, parameter in added.named_parameters():
            if name.startswith(("attended.", "narrow.")):
                parameter.zero_()


class _Shape(NamedTuple):
    layers: int
    fixed: tuple[int, int, bool]


def _shape_of(network: TransformerNetwork) -> _Shape:
    tied = network.head.next.weight is network.embedding.byte.weight
    heads = int(next(iter(network.blocks)).heads)  # type: ignore[arg-type]
    return _Shape(len(network.blocks), (network.embedding.byte.embedding_dim, heads, tied))


def _copies(there: int, wanted: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Which unit each unit of a wider layer is a copy of, and its share of what goes out of that. Shape (wanted,) each."""
    added = torch.randint(there, (wanted - there,), generator=generator)
    sources = torch.cat([torch.arange(there), added])
    parts = 0.5 + torch.rand(wanted, generator=generator, dtype=torch.float64)
    sums = torch.zeros(there, dtype=torch.float64).index_add_(0, sources, parts)
    return sources, (parts / sums[sources]).float()


def _linear(network: MLPNetwork) -> list[nn.Linear]:
    return [layer for layer in network.layers if isinstance(layer, nn.Linear)]


def _check(small: MLPNetwork, large: MLPNetwork, widths: list[int], wanted: list[int]) -> None:
    kinds: tuple[Any, Any] = [{type(layer) for layer in network.layers} - {nn.Dropout} for network in (small, large)]  # type: ignore[assignment]
    if kinds[0] != kinds[1]:
        raise UsageError("grow=True needs the activation and the layer_norm that the smaller model has; set them as there")
    if nn.LayerNorm in kinds[0]:
        raise UsageError("grow=True cannot keep the answers of layers that are normalised; train the smaller model with layer_norm=False")
    deeper = len(wanted) - len(widths)
    if deeper and (nn.ReLU not in kinds[0] or len(widths) == 1):
        raise UsageError("grow=True adds layers that do nothing yet, which only ReLU allows after a hidden layer; grow the width alone")
    shapes = [table.weight.shape for table in large.embeddings], [table.weight.shape for table in small.embeddings]
    kept = [*widths[:-1], *widths[-2:-1] * max(deeper, 0), widths[-1]]
    same = _linear(small)[0].in_features == _linear(large)[0].in_features and wanted[-1] == widths[-1] and shapes[0] == shapes[1]
    if deeper < 0 or not same or any(width > now for width, now in zip(kept, wanted, strict=True)):
        raise UsageError(
            f"grow=True needs a model with the same inputs and outputs, each layer at least as wide: hidden={tuple(widths[:-1])} with "
            f"{widths[-1]} outputs does not grow into hidden={tuple(wanted[:-1])} with {wanted[-1]}"
        )

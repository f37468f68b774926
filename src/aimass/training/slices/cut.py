"""How a model is cut into as many slices as there are workers: by layers, or each of its tensors by rows.

A model says of which consecutive modules it is made: `pieces()` gives them, or it is an `nn.Sequential`. The first takes what the model
takes, each other one what the one before it gave. A layer is a piece with parameters, and what follows it without any.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import torch
from torch import nn

from aimass.core.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from aimass.models.manifest import Entry, Manifest

_UPDATE_FLOPS = 16
"""What a parameter costs in a step beside its layer's products: the optimizer reads and writes it with its states."""


@dataclass(frozen=True, kw_only=True)
class Slice:
    """One worker's part of the model.

    Args:
        spans: its stretches of p, as (start, stop).
        borrows: stretches of earlier slices that its pieces use too, as (start, stop, whose): tied tensors.
        first, stop: its pieces of the model; none where each tensor is divided by rows.
        pieces: what these are called.
        flops: of a forward pass of one row through it; 0 where nobody counted.
        outputs: the shape of what it gives for one row.
    """

    spans: tuple[tuple[int, int], ...]
    borrows: tuple[tuple[int, int, int], ...] = ()
    first: int = 0
    stop: int = 0
    pieces: tuple[str, ...] = ()
    flops: int = 0
    outputs: tuple[int, ...] = ()

    @property
    def num_parameters(self) -> int:
        """How much of p it is."""
        return sum(stop - start for start, stop in self.spans)


@dataclass(kw_only=True)
class _Unit:
    """Pieces that stay together."""

    first: int
    stop: int
    child: str
    num_parameters: int = 0
    flops: int = 0

    def cost(self, batch_size: int) -> int:
        """What a step costs: a backward pass takes two forward passes."""
        return 3 * self.flops * batch_size + _UPDATE_FLOPS * self.num_parameters


def pieces_of(module: nn.Module) -> list[nn.Module]:
    """The consecutive modules of which a model is made.

    >>> [type(piece).__name__ for piece in pieces_of(nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.ReLU(), nn.Linear(3, 1))))]
    ['Linear', 'ReLU', 'Linear']
    """
    if isinstance(module, nn.Sequential):
        return [piece for child in module for piece in pieces_of(child)]
    pieces = getattr(module, "pieces", None)
    return list(pieces()) if callable(pieces) else [module]


def check_layers(module: nn.Module, num_slices: int, split: str) -> None:
    """See whether a model can be cut into so many slices.

    Args:
        module: the model; its values do not matter.
        num_slices: how many workers there are.
        split: where it may be cut: between layers (`layer`, `cost`) or between its own children (`module`).

    Raises:
        UsageError: it has fewer layers than that.

    >>> check_layers(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)), 2, "layer")
    """
    units = _units_of(module, split)
    if len(units) < num_slices:
        found, what = len(units), "module" if split == "module" else "layer"
        ways = ", split='layer'" if split == "module" and len(_units_of(module, "layer")) >= num_slices else ""
        hint = "" if found > 1 or hasattr(module, "pieces") else "; a module is cut where it is an nn.Sequential or has pieces()"
        raise UsageError(
            f"a pipeline of {num_slices} workers needs {num_slices} {what}s, and the model has {found}{hint}; use fewer workers{ways}, a "
            "deeper model, or strategy='sharded', which divides every tensor"
        )


def cut_into_layers(
    module: nn.Module, manifest: Manifest, inputs: Sequence[Tensor], num_slices: int, split: str, batch_size: int
) -> list[Slice]:
    """Give each worker consecutive layers.

    Args:
        module: the model, with its values.
        manifest: where each tensor lies in p.
        inputs: some rows, as the model takes them.
        num_slices: how many workers there are.
        split: `cost` makes the slice that takes longest as cheap as may be; `module` too, and keeps the model's children whole; `layer`
            gives each as many layers.
        batch_size: rows of a step.

    Raises:
        UsageError: the model cannot be cut so.
    """
    check_layers(module, num_slices, split)
    pieces, units = pieces_of(module), _units_of(module, split)
    flops, shapes = _probe(module, pieces, inputs)
    for unit in units:
        unit.flops = sum(flops[unit.first : unit.stop])
    costs = [1 if split == "layer" else unit.cost(batch_size) for unit in units]
    names = {id(part): name for name, part in module.named_modules()}
    slices: list[Slice] = []
    for first, stop in pairwise(cut_evenly(costs, num_slices)):
        own = pieces[units[first].first : units[stop - 1].stop]
        spans, borrows = _spans_of(module, manifest, own, slices)
        slices.append(
            Slice(
                spans=spans,
                borrows=borrows,
                first=units[first].first,
                stop=units[stop - 1].stop,
                pieces=tuple(_describe(piece, names) for piece in own),
                flops=sum(unit.flops for unit in units[first:stop]),
                outputs=shapes[units[stop - 1].stop - 1],
            )
        )
    _check_whole(manifest, slices)
    return slices


def cut_tensors(manifest: Manifest, num_slices: int) -> list[Slice]:
    """Give each worker some rows of every tensor, as FSDP2 does: ⌈rows / n⌉ each, so that the last may have fewer, or none.

    Raises:
        UsageError: a tensor is a single number, which has no rows.
    """
    for entry in manifest.entries:
        if not entry.shape:
            raise UsageError(f"the parameter {entry.name!r} is a single number, which cannot be sharded; give it the shape (1,)")
    spans = [[rows_of(entry, slot, num_slices) for entry in manifest.entries] for slot in range(num_slices)]
    return [Slice(spans=tuple((start, stop) for start, stop in own if stop > start)) for own in spans]


def rows_of(entry: Entry, slot: int, num_slices: int) -> tuple[int, int]:
    """Where in p one worker's rows of a tensor are: start and stop, perhaps the same."""
    per = -(-entry.shape[0] // num_slices) * (entry.size // max(entry.shape[0], 1))
    return entry.offset + min(slot * per, entry.size), entry.offset + min((slot + 1) * per, entry.size)


def cut_evenly(costs: Sequence[int], num_slices: int) -> list[int]:
    """Cut a row of costs into consecutive parts, none empty, so that the dearest part is as cheap as may be.

    Returns:
        where each part starts, and the end. Of the ways that are equally good, the most even one from the left.

    >>> cut_evenly([5, 1, 1, 1, 5], 3), cut_evenly([1, 1, 1, 1, 1], 2)
    ([0, 1, 4, 5], [0, 3, 5])
    """
    sums, count = [0, *accumulate(costs)], len(costs)
    best = [(float(sums[stop]) if stop else 0.0, float(sums[stop] ** 2)) for stop in range(count + 1)]  # (dearest, sum of squares)
    cuts: list[list[int]] = []
    for parts in range(2, num_slices + 1):
        row, back = [(float("inf"), float("inf"))] * (count + 1), [0] * (count + 1)
        for stop in range(parts, count + 1):
            for cut in range(parts - 1, stop):
                last = sums[stop] - sums[cut]
                found = max(best[cut][0], last), best[cut][1] + last**2
                if found <= row[stop]:
                    row[stop], back[stop] = found, cut
        best, cuts = row, [*cuts, back]
    ends = [count]
    for back in reversed(cuts):
        ends.append(back[ends[-1]])
    return [0, *reversed(ends)]


def _units_of(module: nn.Module, split: str) -> list[_Unit]:
    """The pieces that stay together. What has no parameters goes with what comes before it."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    units: list[_Unit] = []
    for index, piece in enumerate(pieces_of(module)):
        own = [(names.get(id(parameter), ""), parameter.numel()) for parameter in piece.parameters()]
        child = own[0][0].split(".")[0] if own else ""
        is_new = not units or (own and units[-1].num_parameters and not (split == "module" and child == units[-1].child))
        if is_new:
            units.append(_Unit(first=index, stop=index, child=child))
        unit = units[-1]
        unit.stop, unit.child = index + 1, unit.child or child
        unit.num_parameters += sum(size for _, size in own)
    return units


def _probe(module: nn.Module, pieces: Sequence[nn.Module], inputs: Sequence[Tensor]) -> tuple[list[int], list[tuple[int, ...]]]:
    """The flops of each piece for a row, and the shape of what it gives for one."""
    from torch.utils.flop_counter import FlopCounterMode

    rows, modes = len(inputs[0]), {part: part.training for part in module.modules()}
    flops, shapes, values = [], [], tuple(inputs)
    module.eval()
    try:
        with torch.no_grad():
            for index, piece in enumerate(pieces):
                with FlopCounterMode(display=False) as counter:
                    found = piece(*values)
                if not isinstance(found, torch.Tensor) or not found.is_floating_point() or len(found) != rows:
                    raise UsageError(
                        f"piece {index} of the model, {type(piece).__name__}, does not give one floating-point tensor with a row for each "
                        "row that it takes; a pipeline is cut where that is so"
                    )
                flops.append(counter.get_total_flops() // rows)
                shapes.append(tuple(found.shape[1:]))
                values = (found,)
    finally:
        for part, mode in modes.items():
            part.training = mode
    return flops, shapes


def _spans_of(
    module: nn.Module, manifest: Manifest, pieces: Sequence[nn.Module], before: Sequence[Slice]
) -> tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int, int], ...]]:
    """A slice's stretches of p, and those that it borrows: a tensor belongs to the first slice that has it."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    used = {names.get(id(parameter)) for piece in pieces for parameter in piece.parameters()}
    spans: list[tuple[int, int]] = []
    borrows: list[tuple[int, int, int]] = []
    groups = {group.start for group in manifest.groups}
    for entry in manifest.entries:
        if entry.name not in used or not entry.size:
            continue
        start, stop = entry.offset, entry.offset + entry.size
        owners = [slot for slot, one in enumerate(before) if any(low <= start and stop <= high for low, high in one.spans)]
        if owners:
            borrows.append((start, stop, owners[0]))
        elif spans and spans[-1][1] == start and start not in groups:
            spans[-1] = (spans[-1][0], stop)
        else:
            spans.append((start, stop))
    return tuple(spans), tuple(borrows)


def _check_whole(manifest: Manifest, slices: Sequence[Slice]) -> None:
    """Raises UsageError where the slices are not all of p, or one of them learns nothing but what earlier ones have."""
    for slot, one in enumerate(slices):
        if one.borrows and not one.spans:
            tied = ", ".join(sorted({*manifest.aliases, *manifest.aliases.values()}))
            raise UsageError(
                f"slice {slot} would have no parameters of its own: all of its pieces' belong to earlier slices ({tied}); "
                "use fewer workers, untie them, or use strategy='sharded'"
            )
    if sum(one.num_parameters for one in slices) != manifest.num_parameters:
        raise UsageError("the model's pieces() leave out some of its parameters; let each trainable one be in a piece")


def _describe(piece: nn.Module, names: dict[int, str]) -> str:
    name, kind = names.get(id(piece)), type(piece).__name__
    return f"{name} {kind}" if name else kind

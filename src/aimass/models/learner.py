"""A module as training sees it: one flat vector of parameters p, and for a batch one flat gradient g.

On the CPU in float32 the module's tensors are views of p and their `.grad`s are views of g, so neither is ever copied.
On another device, or in another precision, the module holds a cast copy: p is copied into it before a step, and its
gradients are copied into g after it.

Autograd adds into g, which is zeroed before. Collecting fresh gradients into g measured 4% slower a step at 50,000
parameters, alike at a million and 3% faster at five million; adding also leaves 0 for parameters that a batch does not reach.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from aimass.core.errors import UsageError
from aimass.models.buffers import Buffers
from aimass.models.manifest import Manifest

if TYPE_CHECKING:
    from aimass.data.batch import Batch, Encoded
    from aimass.models.tasks import Task

_EVALUATION_ROWS = 4096


@dataclass(frozen=True)
class _Copy:
    """A stretch `p[start:stop]` whose tensors have one type, as the module holds it."""

    start: int
    stop: int
    parameters: Tensor
    gradient: Tensor


class Learner:
    """A module, bound to flat vectors.

    The module is changed: its parameters become views of `parameters`, or cast copies of it.

    Args:
        module: called as `module(numbers)` or `module(numbers, categories)`; gives outputs of shape (rows, num_outputs).
        task: the loss, and how well outputs do.
        device: where the module computes.
        parameters: memory for p, such as a view of shared memory. Shape (num_parameters,), float32, on the CPU.
        gradient: memory for g, alike.

    Raises:
        UsageError: nothing is trainable, a vector does not fit, or the device is not there.

    >>> from aimass.models.tasks import build_task
    >>> learner = Learner(nn.Linear(2, 1), build_task("regression"))
    >>> batch = {"inputs": {"numbers": torch.ones(4, 2)}, "targets": torch.zeros(4), "rows": torch.arange(4), "weights": None}
    >>> loss, gradient = learner.gradient(batch)
    >>> gradient.shape
    torch.Size([3])
    """

    def __init__(
        self,
        module: nn.Module,
        task: Task,
        *,
        device: str | torch.device = "cpu",
        parameters: Tensor | None = None,
        gradient: Tensor | None = None,
    ) -> None:
        self.device = _device(device)
        self.module = module.to(self.device)
        self.task = task
        if not module.training:
            module.train()
        self.manifest = Manifest.of(module)
        if not self.manifest.num_parameters:
            raise UsageError("the module has no trainable parameter; set requires_grad=True on those that should learn")
        self.buffers = Buffers(module)
        size = self.manifest.num_parameters
        self.dtype = getattr(torch, self.manifest.entries[0].dtype)
        self._copies: list[_Copy] = []
        self._parts = list(module.modules())
        self.bind(torch.empty(size) if parameters is None else parameters, torch.zeros(size) if gradient is None else gradient)

    # ------------------------------------------------------------------------------------------------------- binding

    def bind(self, parameters: Tensor, gradient: Tensor, *, copy_module: bool = True) -> None:
        """Point the module at other vectors.

        Args:
            parameters: the new p. Shape (num_parameters,), float32, on the CPU.
            gradient: the new g, alike. What it holds is lost.
            copy_module: write the module's present values into p. False keeps p, and the module takes its values.
        """
        size = self.manifest.num_parameters
        _check_vector("parameters", parameters, size)
        _check_vector("gradient", gradient, size)
        tensors = dict(self.module.named_parameters(remove_duplicate=False))
        if copy_module:
            with torch.no_grad():
                for name, view in self.manifest.views(parameters).items():
                    view.copy_(tensors[name])
        self.parameters, self.gradient_vector = parameters, gradient
        self._copies = self._cast_copies()
        for start, stop, p, g in [(c.start, c.stop, c.parameters, c.gradient) for c in self._copies] or [(0, size, parameters, gradient)]:
            for entry in self.manifest.entries:
                if start <= entry.offset and entry.offset + entry.size <= stop:
                    low = entry.offset - start
                    for name in self.manifest.names_of(entry):
                        tensors[name].grad = None
                        tensors[name].data = p[low : low + entry.size].view(entry.shape)
                        tensors[name].grad = g[low : low + entry.size].view(entry.shape)
        gradient.zero_()
        self.refresh()

    def _cast_copies(self) -> list[_Copy]:
        entries = [entry for entry in self.manifest.entries if entry.size]
        if self.device.type == "cpu" and all(entry.dtype == "float32" for entry in entries):
            return []
        stretches: list[tuple[int, int, str]] = []
        for entry in entries:
            if stretches and stretches[-1][2] == entry.dtype:
                stretches[-1] = (stretches[-1][0], entry.offset + entry.size, entry.dtype)
            else:
                stretches.append((entry.offset, entry.offset + entry.size, entry.dtype))
        return [
            _Copy(
                start,
                stop,
                torch.empty(stop - start, dtype=getattr(torch, dtype), device=self.device),
                torch.zeros(stop - start, dtype=getattr(torch, dtype), device=self.device),
            )
            for start, stop, dtype in stretches
        ]

    def refresh(self) -> None:
        """Copy p into the module, where the module holds a cast copy. `gradient` and `outputs` do so by themselves."""
        for copy in self._copies:
            copy.parameters.copy_(self.parameters[copy.start : copy.stop])

    # ------------------------------------------------------------------------------------------------------ learning

    def gradient(self, batch: Batch) -> tuple[float, Tensor]:
        """The loss of a batch at p, and the gradient of the loss.

        Args:
            batch: inputs, targets and weights of some rows.

        Returns:
            the mean loss, and g: `gradient_vector`, overwritten. Shape (num_parameters,). Parameters without a part in the
            loss have gradient 0.
        """
        targets, weights = batch["targets"], batch["weights"]
        if self._copies:
            self.refresh()
            targets = targets.to(self.device)
            weights = None if weights is None else weights.to(self.device)
        loss = self.task.loss(self._forward(batch["inputs"]), targets, weights)
        if not self._copies:
            self.gradient_vector.zero_()
            loss.backward()  # type: ignore[no-untyped-call]
            return loss.item(), self.gradient_vector
        for copy in self._copies:
            copy.gradient.zero_()
        loss.backward()  # type: ignore[no-untyped-call]
        for copy in self._copies:
            self.gradient_vector[copy.start : copy.stop].copy_(copy.gradient)
        return loss.item(), self.gradient_vector

    def _forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        numbers, categories = inputs["numbers"], inputs.get("categories")
        if self._copies:
            numbers = numbers.to(self.device, self.dtype)
            categories = None if categories is None else categories.to(self.device)
        outputs: Tensor = self.module(numbers) if categories is None else self.module(numbers, categories)
        return outputs

    def outputs(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """What the module gives for some rows, without dropout and without recording a gradient.

        Args:
            inputs: `numbers` (rows, num_numbers), and `categories` (rows, num_categories) where there are any.

        Returns:
            shape (rows, num_outputs), on the CPU.
        """
        self.refresh()
        with torch.no_grad(), self._evaluating():
            return self._forward(inputs).cpu()

    def evaluate(self, encoded: Encoded, batch_size: int = _EVALUATION_ROWS) -> dict[str, float]:
        """How well the module does on encoded rows, by the task's quick metrics.

        Args:
            encoded: rows with targets.
            batch_size: rows per forward pass.
        """
        from aimass.models.tensors import inputs_of, tensor_of

        assert encoded.targets is not None, "rows without targets cannot be evaluated"
        parts = [self.outputs(inputs) for inputs in inputs_of(encoded, batch_size)]
        outputs = torch.cat(parts) if parts else torch.empty(0)
        return self.task.quick(outputs, tensor_of(encoded.targets), None if encoded.weights is None else tensor_of(encoded.weights))

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Switch to evaluation, and back to whichever mode each part of the module was in."""
        modes = [part.training for part in self._parts]
        self.module.eval()
        try:
            yield
        finally:
            for part, mode in zip(self._parts, modes, strict=True):
                part.training = mode

    # --------------------------------------------------------------------------------------------------------- names

    def named(self, flat: Tensor) -> dict[str, Tensor]:
        """The parts of a flat vector by the module's names, sharing its memory. Aliases of tied tensors are left out."""
        return self.manifest.views(flat)

    def load_named(self, tensors: Mapping[str, Tensor]) -> None:
        """Write named tensors into p.

        Raises:
            UsageError: a tensor is missing or has another shape.
        """
        views = self.manifest.views(self.parameters)
        for name, view in views.items():
            if name not in tensors:
                raise UsageError(f"the parameter {name!r} is missing; there are: {', '.join(sorted(tensors)) or 'none'}")
            if tensors[name].shape != view.shape:
                raise UsageError(f"the parameter {name!r} has shape {tuple(tensors[name].shape)} and the module needs {tuple(view.shape)}")
        for name, view in views.items():
            view.copy_(tensors[name])
        self.refresh()

    # ------------------------------------------------------------------------------------------------------- buffers

    def float_buffers(self) -> Tensor:
        """A copy of the floating-point buffers, such as running means. Shape (num_float_buffers,), float32, on the CPU."""
        return self.buffers.floats()

    def set_float_buffers(self, flat: Tensor) -> None:
        """Write what `float_buffers` gave."""
        self.buffers.set_floats(flat)

    def integer_buffers(self) -> dict[str, Tensor]:
        """Copies of the other buffers, such as counts of batches, by name, on the CPU."""
        return self.buffers.integers()

    def set_integer_buffers(self, values: Mapping[str, Tensor]) -> None:
        """Write what `integer_buffers` gave."""
        self.buffers.set_integers(values)


def _device(name: str | torch.device) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"there is no device {name!r}; give 'cpu', 'cuda' or 'cuda:0'") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"the device {str(device)!r} is not here: this PyTorch sees no GPU; leave device out to use the CPU")
    return device


def _check_vector(name: str, vector: Tensor, size: int) -> None:
    fits = vector.shape == (size,) and vector.dtype == torch.float32 and vector.device.type == "cpu" and vector.is_contiguous()
    if not fits:
        raise UsageError(
            f"{name} must be a contiguous float32 vector of {size} elements on the CPU, "
            f"not {vector.dtype} {tuple(vector.shape)} on {vector.device}"
        )

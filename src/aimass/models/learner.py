"""A module as training sees it: one flat vector of parameters p, and for a batch one flat gradient g.

On the CPU a float32 module's tensors are views of p and their `.grad`s are views of g, so neither is ever copied.
On another device, or where the module is of another type, it holds a copy: p is copied into it before a step, and its
gradients are copied into g after it. In bf16 the module stays float32, and its operations cast what they take.

Autograd adds into g, which is zeroed before. Collecting fresh gradients into g measured 4% slower a step at 50,000
parameters, alike at a million and 3% faster at five million; adding also leaves 0 for parameters that a batch does not reach.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from aimass.core.errors import UsageError
from aimass.models.buffers import Buffers
from aimass.models.copies import Copies, Stretch
from aimass.models.devices import find_device
from aimass.models.manifest import Manifest
from aimass.models.precision import Bf16

if TYPE_CHECKING:
    from aimass.data.batch import Batch, Encoded
    from aimass.models.tasks import Task


class Learner:
    """A module, bound to flat vectors.

    The module is changed: its parameters become views of `parameters`, or cast copies of it.

    Args:
        module: called as `module(numbers)` or `module(numbers, categories)`; gives outputs of shape (rows, num_outputs).
        task: the loss, and how well outputs do.
        device: where the module computes.
        precision: in what it does: `"float32"`, the type of its own tensors, or `"bf16"`.
        parameters: memory for p, such as a view of shared memory. Shape (num_parameters,), float32, on the CPU.
        gradient: memory for g, alike.
        rate_of: what the learning rate of a parameter is multiplied with, by its name.

    Raises:
        UsageError: nothing is trainable, a vector does not fit, the device is not there, or the module cannot compute in bf16.

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
        precision: str = "float32",
        parameters: Tensor | None = None,
        gradient: Tensor | None = None,
        rate_of: Callable[[str], float] | None = None,
    ) -> None:
        self.device = find_device(device)
        self.manifest = Manifest.of(module, rate_of)  # before it moves: tensors that share memory would part on the way
        self.module = module.to(self.device)
        self.task = task
        if not module.training:
            module.train()
        if not self.manifest.num_parameters:
            raise UsageError("the module has no trainable parameter; set requires_grad=True on those that should learn")
        self.buffers = Buffers(module)
        size = self.manifest.num_parameters
        self.dtype = getattr(torch, self.manifest.entries[0].dtype)
        self._copies: Copies | None = None
        self._parts = list(module.modules())
        self._bf16: Bf16 | None = None
        self.compute_in(precision)
        pinned = self.device.type == "cuda"
        self.bind(
            torch.empty(size, pin_memory=pinned) if parameters is None else parameters,
            torch.zeros(size, pin_memory=pinned) if gradient is None else gradient,
        )

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
        self._copies = Copies(self.manifest, self.device, parameters, gradient) if Copies.are_needed(self.manifest, self.device) else None
        for stretch in self._copies.stretches if self._copies else [Stretch(0, size, parameters, gradient)]:
            for entry, values, grads in stretch.entries(self.manifest):
                for name in self.manifest.names_of(entry):
                    tensors[name].grad = None
                    tensors[name].data = values
                    tensors[name].grad = grads
        gradient.zero_()
        self.refresh()

    def refresh(self) -> None:
        """Copy p into the module, where the module holds a copy. `gradient` and `outputs` do so by themselves."""
        if self._copies is not None:
            self._copies.load()

    @property
    def can_bf16(self) -> bool:
        """Whether the module could compute in bf16: all its parameters are float32."""
        return all(entry.dtype == "float32" for entry in self.manifest.entries)

    def compute_in(self, precision: str) -> None:
        """Compute gradients in `"float32"` or `"bf16"` from now on.

        Raises:
            UsageError: the module is not float32, so that it cannot compute in bf16.
        """
        if precision == "bf16" and not self.can_bf16:
            others = ", ".join(sorted({entry.dtype for entry in self.manifest.entries} - {"float32"}))
            raise UsageError(
                f"precision='bf16' needs a float32 module, and this one holds {others}; call its .float() or leave precision out"
            )
        if self._bf16 is not None:
            self._bf16.remove()
        self._bf16 = Bf16(self.module, self.device) if precision == "bf16" else None

    def settle(self) -> None:
        """Leave the module on the CPU, with memory of its own, as it is saved: nothing of a run holds on to it any more."""
        parameters = self.parameters.clone()
        self.compute_in("float32")
        self.device = torch.device("cpu")
        self.module.to(self.device)
        self.bind(parameters, torch.zeros_like(parameters), copy_module=False)

    # ------------------------------------------------------------------------------------------------------ learning

    def learn_only(self, part: slice) -> None:
        """Compute gradients only of the tensors that lie in a part of p, if only partly, from now on. g is 0 for the others.

        Args:
            part: where in p, with a start and a stop.
        """
        tensors = dict(self.module.named_parameters(remove_duplicate=False))
        for entry in self.manifest.entries:
            for name in self.manifest.names_of(entry):
                tensors[name].requires_grad_(entry.offset < part.stop and entry.offset + entry.size > part.start)

    def gradient(self, batch: Batch) -> tuple[float, Tensor]:
        """The loss of a batch at p, and the gradient of the loss.

        Args:
            batch: inputs, targets and weights of some rows.

        Returns:
            the mean loss, and g: `gradient_vector`, overwritten. Shape (num_parameters,). Parameters without a part in the
            loss have gradient 0.
        """
        targets, weights, copies = batch["targets"], batch["weights"], self._copies
        if copies is not None:
            copies.load()
            targets = targets.to(self.device, non_blocking=True)
            weights = None if weights is None else weights.to(self.device, non_blocking=True)
        if self._bf16 is None:
            outputs = self._forward(batch["inputs"])
        else:
            with self._bf16.autocast:
                outputs = self._forward(batch["inputs"])
        loss = self.task.loss(outputs, targets, weights)
        if copies is None:
            self.gradient_vector.zero_()
        else:
            copies.zero_gradient()
        if loss.requires_grad:  # none of the tensors to learn may have a part in it
            loss.backward()  # type: ignore[no-untyped-call]
        return loss.item() if copies is None else copies.collect(loss), self.gradient_vector

    def _forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        numbers, categories = inputs["numbers"], inputs.get("categories")
        if self._copies is not None:
            numbers = numbers.to(self.device, self.dtype, non_blocking=True)
            categories = None if categories is None else categories.to(self.device, non_blocking=True)
        outputs: Tensor = self.module(numbers) if categories is None else self.module(numbers, categories)
        return outputs

    def outputs(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """What the module gives for some rows, without dropout, without recording a gradient, and never in bf16: what is measured
        is what will be saved.

        Args:
            inputs: `numbers` (rows, num_numbers), and `categories` (rows, num_categories) where there are any.

        Returns:
            shape (rows, num_outputs), on the CPU.
        """
        self.refresh()
        with torch.no_grad(), self._evaluating():
            return self._forward(inputs).cpu()

    def evaluate(self, encoded: Encoded, batch_size: int | None = None) -> dict[str, float]:
        """How well the module does on encoded rows, by the task's quick metrics.

        Args:
            encoded: rows with targets.
            batch_size: rows per forward pass; by default as many as the task allows.
        """
        from aimass.models.tensors import inputs_of, tensor_of

        assert encoded.targets is not None, "rows without targets cannot be evaluated"
        self.refresh()
        targets, size = tensor_of(encoded.targets), batch_size or self.task.rows_at_once
        parts = []
        with torch.no_grad(), self._evaluating():
            for inputs, known in zip(inputs_of(encoded, size), torch.split(targets, size), strict=False):
                parts.append(self.task.kept(self._forward(inputs).cpu(), known))
        outputs = torch.cat(parts) if parts else torch.empty(0)
        return self.task.quick(outputs, targets, None if encoded.weights is None else tensor_of(encoded.weights))

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


def _check_vector(name: str, vector: Tensor, size: int) -> None:
    fits = vector.shape == (size,) and vector.dtype == torch.float32 and vector.device.type == "cpu" and vector.is_contiguous()
    if not fits:
        raise UsageError(
            f"{name} must be a contiguous float32 vector of {size} elements on the CPU, "
            f"not {vector.dtype} {tuple(vector.shape)} on {vector.device}"
        )

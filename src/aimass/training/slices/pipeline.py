"""One worker's rounds as a stage of a pipeline: its layers, which take what the stage before gives, micro-batch by micro-batch.

A batch is cut into micro-batches of the same number of rows, since a stage takes in tensors of one shape. The last one is filled up with
copies of a row, which count for nothing. What goes from stage to stage is float32, also where the layers compute in bf16.

A tensor that two stages use belongs to the first of them. The other reads it in p, and hands its gradient over when the batch is through.
It never meets the tensor half changed: it reads only once a batch has come to it, by way of the owner, which changes it between batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe

from aimass.training.replicas.exchange import weight_of
from aimass.training.slices.exchange import Round, SliceExchange
from aimass.training.workers.words import BUFFERED

if TYPE_CHECKING:
    from aimass.data.batch import Batch
    from aimass.training.leases.replicas import Part
    from aimass.training.slices.learner import SlicedLearner
    from aimass.training.workers.worker import Worker

_TIED = 1  # the tag of gradients that are handed over
_SCHEDULES: dict[str, Any] = {"gpipe": ScheduleGPipe, "1f1b": Schedule1F1B}


class PipelineExchange(SliceExchange):
    """What one worker does in each round.

    Args:
        worker: with the learner of a model that is cut into layers.
        micro_batches: into how many parts a batch is cut, at most.
        schedule: `gpipe` or `1f1b`, which needs as many micro-batches as there are stages: a batch that has fewer goes by `gpipe`.
    """

    def __init__(self, worker: Worker, micro_batches: int, schedule: str) -> None:
        super().__init__(worker)
        slices = self._learner.slices
        self._borrowed = self._learner.take_own()
        self._lent = [(slot, start, stop) for slot, one in enumerate(slices) for start, stop, owner in one.borrows if owner == self._slot]
        self._stage = _Stage(self._learner)
        self._micro_batches, self._schedule = micro_batches, _SCHEDULES[schedule]
        self._is_first, self._is_last = self._slot == 0, self._slot == self._size - 1
        self._pipelines: dict[tuple[int, int], Any] = {}
        self._batch_in_hand: Batch | None = None
        self._weight = 1.0
        self._places = _places_of_buffers(self._learner)
        self._publish()

    def _build(self) -> None:
        """The pipelines are made for the batches that come: each takes micro-batches of one size."""

    def _forget(self) -> None:
        super()._forget()
        self._pipelines.clear()

    def _compute(self, part: Part) -> Round:
        (number,) = part.batches
        batch = self._batch(number)
        num_rows = len(batch["rows"])
        size = -(-num_rows // self._micro_batches)
        count = -(-num_rows // size)
        self._batch_in_hand, self._weight = batch, weight_of(batch)
        pipeline = self._pipeline(size, count, batch)
        for parameter in self._borrowed:
            _gradient_of(parameter).zero_()
        losses: list[Tensor] = []
        if self._is_last:
            rows = torch.arange(size * count)
            pipeline.step(*self._inputs(batch, size * count), target=rows, losses=losses)
        else:
            pipeline.step(*self._inputs(batch, size * count))
        self._bring_tied_together()
        self._count_traffic(size * count)
        if not self._is_last:
            return Round(num_rows=num_rows)
        return Round(loss=sum(loss.item() for loss in losses) * self._weight, weight=self._weight, num_rows=num_rows)

    def _bring_tied_together(self) -> None:
        """Hand the gradients of what this stage borrows to the owners, and add those that come for what it lends."""
        for parameter, (_, _, owner) in zip(self._borrowed, self._learner.own.borrows, strict=True):
            dist.send(_gradient_of(parameter), owner, tag=_TIED)
        for slot, start, stop in self._lent:
            theirs = torch.empty(stop - start)
            dist.recv(theirs, slot, tag=_TIED)
            self._learner.gradient_vector[start:stop].add_(theirs)

    def _inputs(self, batch: Batch, num_rows: int) -> Sequence[Tensor]:
        """What the first stage takes: the rows, and the last of them again to fill up the last micro-batch."""
        if not self._is_first:
            return ()
        values = [batch["inputs"][name] for name in ("numbers", "categories") if name in batch["inputs"]]
        missing = num_rows - len(batch["rows"])
        return [torch.cat([value, value[-1:].expand(missing, *value.shape[1:])]) for value in values] if missing else values

    def _loss(self, outputs: Tensor, rows: Tensor) -> Tensor:
        """A micro-batch's part of the batch's mean loss. Its gradients add up to that of the mean."""
        batch = self._batch_in_hand
        assert batch is not None, "a batch is under way"
        start, stop = int(rows[0]), min(int(rows[-1]) + 1, len(batch["rows"]))
        weights = None if batch["weights"] is None else batch["weights"][start:stop]
        share = (stop - start if weights is None else weights.sum().item()) / self._weight
        return self._learner.task.loss(outputs[: stop - start], batch["targets"][start:stop], weights) * share

    def _pipeline(self, size: int, count: int, batch: Batch) -> Any:
        if (size, count) not in self._pipelines:
            slices, slot = self._learner.slices, self._slot
            outputs = torch.empty(size, *slices[slot].outputs, device="meta", requires_grad=True)
            if self._is_first:
                inputs = tuple(value[:1].expand(size, *value.shape[1:]).to("meta") for value in self._inputs(batch, len(batch["rows"])))
            else:
                inputs = (torch.empty(size, *slices[slot - 1].outputs, device="meta", requires_grad=True),)
            stage = PipelineStage(self._stage, slot, self._size, self._learner.device, input_args=inputs, output_args=outputs)
            loss = self._loss if self._is_last else _no_loss
            schedule = self._schedule if count >= self._size else ScheduleGPipe
            self._pipelines[size, count] = schedule(stage, count, loss_fn=loss, scale_grads=False)
        return self._pipelines[size, count]

    def _count_traffic(self, num_rows: int) -> None:
        """Outputs go on, and their gradients come back: what one stage sends at a boundary comes back to it in the other direction."""
        slices, slot = self._learner.slices, self._slot
        widths = [torch.Size(one.outputs).numel() for one in (slices[slot - 1 : slot] if slot else [])]
        widths += [] if self._is_last else [torch.Size(slices[slot].outputs).numel()]
        num_bytes = 4 * num_rows * sum(widths)
        handed = 4 * sum(stop - start for start, stop, _ in self._learner.own.borrows)
        taken = 4 * sum(stop - start for _, start, stop in self._lent)
        self._worker.moved(sent=num_bytes + handed, received=num_bytes + taken, messages=2 * (self._size - 1) + len(self._borrowed))

    def _tell(self) -> None:
        self._publish()
        if self._worker.when_leased is not None:
            self._worker.when_leased()

    def _publish(self) -> None:
        """Write this stage's buffers to where the first worker's lie, which are then those of the whole model."""
        if len(self._places):
            self._server.buffers(0)[self._places] = self._learner.float_buffers()[self._places]
        self._words[self._server.layout.slot(0) + BUFFERED] = 1


class _Stage(nn.Module):
    """A worker's pieces, one after the other."""

    def __init__(self, learner: SlicedLearner) -> None:
        super().__init__()
        self.pieces = nn.ModuleList(learner.pieces)
        self._learner = learner

    def forward(self, *values: Tensor) -> Tensor:
        with self._learner.computing:
            for piece in self.pieces:
                values = (piece(*values),)
        return values[0].float()


def _gradient_of(parameter: nn.Parameter) -> Tensor:
    gradient = parameter.grad
    assert gradient is not None, "it was given one"
    return gradient


def _no_loss(*_: Tensor) -> Tensor:
    """The loss of a stage that is not the last: nobody asks for it, but that there is one says that gradients come back."""
    raise AssertionError("the last stage has the loss")


def _places_of_buffers(learner: SlicedLearner) -> Tensor:
    """Where in the flat float buffers those of this worker's pieces lie."""
    own = {id(buffer) for piece in learner.pieces for buffer in piece.buffers()}
    places: list[int] = []
    at = 0
    for buffer in learner.buffers.float_tensors():
        places += range(at, at + buffer.numel()) if id(buffer) in own else ()
        at += buffer.numel()
    return torch.tensor(places, dtype=torch.int64)

"""Pipeline parallelism: every worker has layers of its own, and batches go through all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from aimass.training.strategy import Strategy, StrategyConfig

if TYPE_CHECKING:
    from aimass.training.workers.worker import Worker

ALIASES = (
    "model_slices",
    "model_slice",
    "model_parallel",
    "model_parallelism",
    "pipeline_parallel",
    "pipeline_parallelism",
    "gpipe",
    "模型切片",
    "模型并行",
    "流水线并行",
)


class PipelineConfig(StrategyConfig):
    """Settings of `pipeline`.

    Args:
        split: where the model is cut. `cost`: so that the slice that takes longest takes as little as may be, by counted operations and
            parameters; `layer`: as many layers each; `module`: as `cost`, but only between the model's own children.
        micro_batches: into how many parts a batch is cut, so that the stages work at the same time; twice as many as there are workers,
            unless it is set.
        schedule: `gpipe`: all micro-batches forward, then all backward; `1f1b`: one forward, one backward in turns, so that a stage keeps
            the activations of as many micro-batches as there are stages behind it, and no more. It needs a micro-batch for each stage; a
            batch with fewer goes by `gpipe`.
    """

    name: Literal["pipeline"] = "pipeline"
    split: Literal["cost", "layer", "module"] = "cost"
    micro_batches: Annotated[int, Field(ge=1, le=10**4)] | None = None
    schedule: Literal["gpipe", "1f1b"] = "1f1b"

    @property
    def plane(self) -> str:
        """`layers`: each worker has some of them."""
        return "layers"


class Pipeline(Strategy):
    """The model's layers are cut into as many slices as there are workers, and each batch goes through all of them.

        f = f_n ∘ … ∘ f_1,    p = p_1 ∥ … ∥ p_n,    p_i ← step(p_i, Σ_m (r_m / r) ∇_{p_i} L_m)

    where L_m is the mean loss of micro-batch m with r_m of the batch's r rows. It equals `single` on the same batches. Worker i holds p_i,
    its optimizer states and its activations alone.

    Source: Huang et al., GPipe, NeurIPS 2019; Narayanan et al., PipeDream, SOSP 2019 (1F1B; here with a flush after each batch).
    """

    config_class = PipelineConfig
    needs_workers = 2
    heavy_modules = ("aimass.training.slices.pipeline",)

    def work(self, worker: Worker) -> None:
        from aimass.training.slices.pipeline import PipelineExchange

        config = self.config
        assert isinstance(config, PipelineConfig)
        with PipelineExchange(worker, config.micro_batches or 2 * worker.server.layout.num_slots, config.schedule) as exchange:
            for part in exchange.parts():  # the same batch for all
                found = exchange.work_on(part)  # forward and backward through this worker's layers
                if found is not None and exchange.agree(found):
                    exchange.commit(part, found)


PLUGIN = Pipeline

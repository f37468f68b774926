"""An ensemble: several models, each learning on a random slice of the rows, that answer as one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from aimass.core.errors import UsageError
from aimass.models.config import CUSTOM
from aimass.training.strategy import Strategy, StrategyConfig

if TYPE_CHECKING:
    from aimass.data.batch import Batch
    from aimass.models.family import FamilyConfig
    from aimass.training.workers.worker import Worker

ALIASES = ("ensembles", "bagging", "model_ensemble", "集成学习", "数据切片集成")


class EnsembleStrategyConfig(StrategyConfig):
    """Settings of `ensemble`.

    Args:
        models: how many models there are.
        slices: the share of the rows on which each learns, drawn for itself; by default the rows are cut into as many slices as there
            are models, and each row is one model's.
        combine: how the models answer as one: by the `average` of their probabilities or numbers, or by a `vote` for a class.
    """

    name: Literal["ensemble"] = "ensemble"
    models: Annotated[int, Field(ge=2, le=1000)] = 5
    slices: Annotated[float, Field(gt=0, le=1)] | None = None
    combine: Literal["average", "vote"] = "average"

    def model_for(self, model: FamilyConfig) -> FamilyConfig:
        """An ensemble of such models."""
        from aimass.models.families.ensemble import EnsembleConfig

        if isinstance(model, EnsembleConfig):
            asked, there = (self.models, self.combine), (model.models, model.combine)
            if asked != there:
                raise UsageError(
                    f"strategy.models={asked[0]} and combine={asked[1]!r} are not those of the model, an ensemble of {there[0]} that is "
                    f"combined by {there[1]!r}; set strategy={{'name': 'ensemble', 'models': {there[0]}, 'combine': {there[1]!r}}}"
                )
            return model
        if model.name == CUSTOM:
            raise UsageError(
                "an ensemble builds its models from settings; give a family such as model='mlp', or train a module of yours alone"
            )
        return EnsembleConfig(member=model, models=self.models, combine=self.combine)


class Ensemble(Strategy):
    """K models side by side in one p, each with the rows of its own slice S_k of every batch.

        p_k ← step(p_k, ∇ mean loss of model k over batch ∩ S_k)        for k = 1, ..., K, in one push

    Gradients are pushed as by `async_sgd`. The models meet nowhere but in their answer.

    Source: Breiman, Pasting small votes for classification in large databases and on-line, Machine Learning 1999; Breiman, Bagging
    predictors, Machine Learning 1996.
    """

    config_class = EnsembleStrategyConfig

    def work(self, worker: Worker) -> None:
        from aimass.models.ensembles import EnsembleNetwork

        config, network = self.config, worker.learner.module
        assert isinstance(config, EnsembleStrategyConfig)
        assert isinstance(network, EnsembleNetwork), "the run's model was made an ensemble"
        worker.clips_batches = False
        for batch in worker.batches():
            clock = worker.pull()
            parts = self._parts(batch, len(network.members), worker.leases.plan.seed)
            network.sizes = [len(rows) for rows in parts]
            if any(network.sizes):
                loss, gradient = worker.gradient(_of_each(batch, parts))
                gradient.mul_(sum(size > 0 for size in network.sizes))  # of the sum of the models' losses, and not of their mean
                worker.clip(gradient)
            else:
                loss, gradient = float("nan"), worker.server.gradient.zero_()
            worker.report(loss=loss)
            worker.push(gradient, clock)
        network.sizes = None

    def _parts(self, batch: Batch, num_models: int, seed: int) -> list[list[int]]:
        """The places in a batch of each model's rows."""
        from aimass.data.slices import slices_of

        assert isinstance(self.config, EnsembleStrategyConfig)
        held = slices_of(batch["rows"].numpy(), seed, num_models, self.config.slices)
        return [own.nonzero()[0].tolist() for own in held]


def _of_each(batch: Batch, parts: list[list[int]]) -> Batch:
    """The rows of one model after those of another, weighted so that each model's mean loss counts alike."""
    import torch

    index = torch.tensor([row for rows in parts for row in rows])
    kept, given = [rows for rows in parts if rows], batch["weights"]
    weights = torch.ones(len(batch["rows"])) if given is None else given
    shares = [weights[rows] / weights[rows].sum().clamp_min(torch.finfo(weights.dtype).tiny) for rows in kept]
    return {
        "inputs": {name: values.index_select(0, index) for name, values in batch["inputs"].items()},
        "targets": batch["targets"].index_select(0, index),
        "rows": batch["rows"].index_select(0, index),
        "weights": torch.cat(shares),
    }


PLUGIN = Ensemble

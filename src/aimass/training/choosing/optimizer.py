"""What the optimizer's settings leave open until the model is there, and what the run then holds to.

`optimizer="auto"` is chosen by the first line that holds:

1. at least `SPARSE` of the matrices' gradients is 0       a rate of its own for each element: `ftrl` for one layer, `adagrad` for several
2. one layer, so that the loss is convex                   `momentum`, at the rate that the curvature allows
3. Adam's update would take `LONG_UPDATE` of a step        `momentum`, which moves 20 bytes a parameter in place of 28
4. otherwise                                               `adam`
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from aimass.core.errors import UsageError
from aimass.models.config import CUSTOM
from aimass.models.losses import SQUARED
from aimass.optim.config import AUTO, METHODS, OptimizerConfig
from aimass.training.events import OptimizerChosen

if TYPE_CHECKING:
    from aimass.models.manifest import Manifest
    from aimass.training.checkpoints.checkpoint import Checkpoint
    from aimass.training.choosing.measuring import Measured
    from aimass.training.config import TrainConfig

SPARSE = 0.8
"""Above what a ReLU network shows on a single row, of whose units half are silent on either side of a matrix: ¾."""
LONG_UPDATE = 0.5


@dataclass(frozen=True, kw_only=True)
class OptimizerChoice:
    """What was asked for, and what became of it.

    Args:
        asked: the settings as they were given.
        chosen: the settings with nothing open.
        event: what is told of it, where anything was measured.
    """

    asked: OptimizerConfig
    chosen: OptimizerConfig
    event: OptimizerChosen | None = None

    @classmethod
    def of(cls, config: TrainConfig, manifest: Manifest, checkpoint: Checkpoint | None, measure: Callable[[], Measured]) -> Self:
        """Decide, or hold to what was decided before the run was resumed with the same settings.

        Args:
            config: the run's settings, with the strategy decided.
            manifest: the plan of its p.
            checkpoint: what it goes on from.
            measure: takes some steps with its model.

        Raises:
            UsageError: the optimizer cannot take over from the one that the run had.
        """
        asked, before = config.optimizer, (checkpoint.state.get("optimizer") if checkpoint else None) or {}
        if before.get("asked") == asked.model_dump(mode="json"):
            return cls(asked=asked, chosen=OptimizerConfig.model_validate(before["chosen"]))
        chosen, event = asked, None
        if asked.name == AUTO:
            found = measure()
            chosen, reason = choose_optimizer(config, num_matrices(manifest), found, goes_on=checkpoint is not None)
            event = OptimizerChosen(
                optimizer=chosen.name,
                lr=chosen.learning_rate,
                reason=reason,
                step_s=found.step_s,
                parameters=found.parameters,
                bandwidth_bytes_s=found.bandwidth_bytes_s,
                update_share=found.update_share,
                sparsity=found.sparsity,
                curvature=found.curvature,
            )
        takes_over = checkpoint is not None and chosen.name != before.get("chosen", {}).get("name")
        return cls(asked=asked, chosen=_with_its_start(chosen, config, manifest, takes_over=takes_over), event=event)

    def settled(self, config: TrainConfig) -> TrainConfig:
        """The run's settings with the choice in them."""
        return config.model_copy(update={"optimizer": self.chosen})

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return {"asked": self.asked.model_dump(mode="json"), "chosen": self.chosen.model_dump(mode="json")}


def num_matrices(manifest: Manifest) -> int:
    """How many tensors of a model are matrices."""
    return sum(entry.group == "decay" for entry in manifest.entries)


def choose_optimizer(config: TrainConfig, layers: int, found: Measured, *, goes_on: bool = False) -> tuple[OptimizerConfig, str]:
    """The optimizer that suits what was measured, and why in one sentence.

    Args:
        config: the run's settings, whose `optimizer` is `auto`. A rate and a weight decay that it has are kept.
        layers: how many matrices its model has.
        found: what was measured.
        goes_on: whether another optimizer has trained the parameters before.
    """
    asked = config.optimizer
    convex = (config.model.name == "linear" or layers == 1) and config.loss != SQUARED  # of probabilities, which is not
    given = asked.model_dump(exclude={"name"}, exclude_defaults=True)

    def made(name: str, **settings: Any) -> OptimizerConfig:
        return OptimizerConfig.parse({"name": name, **settings, **given})

    def with_momentum(why: str) -> tuple[OptimizerConfig, str]:
        if found.curvature is None:
            return made("adam"), f"{why}, but the loss is flat here, and no rate follows from it"
        stale = config.workers if config.workers > 1 and config.strategy.plane in ("arrival", "groups") else 1
        rate = (1 - METHODS["momentum"].momentum) / found.curvature / stale
        allows = f"its curvature {found.curvature:.3g} allows a rate of {rate:.3g}" + (f" with {stale} workers" if stale > 1 else "")
        return made("momentum", lr=rate), f"{why}; {allows}"

    if found.sparsity >= SPARSE:
        why = f"{found.sparsity:.0%} of a gradient is 0, so each element needs a rate that falls only as it is met"
        sums = convex and not (config.strategy.sends_deltas or goes_on or asked.weight_decay or asked.decoupled or asked.decay_bias)
        return made("ftrl" if sums else "adagrad"), why
    if convex:
        return with_momentum("the model has one layer, so the loss is convex")
    if found.update_share >= LONG_UPDATE:
        share = f"Adam's update would take {found.update_share:.0%} of a step's time, and that of momentum moves 20 bytes in place of 28"
        return with_momentum(share)
    return made("adam"), f"the model has several layers, and Adam's update takes {found.update_share:.0%} of a step's time"


def _with_its_start(chosen: OptimizerConfig, config: TrainConfig, manifest: Manifest, *, takes_over: bool) -> OptimizerConfig:
    """With `keep_start` decided, for the methods that have it."""
    if not METHODS[chosen.name].from_sums:
        return chosen
    if takes_over and chosen.name == "adagrad_da" and (chosen.l1 or chosen.l2):
        raise UsageError(
            "adagrad_da weighs l1 and l2 by the steps of the whole run, and knows no gradient of those before; start a new run "
            "with it, go on with the optimizer that the run had, or leave l1 and l2 out"
        )
    has_a_say = takes_over or config.transfers or config.model.name == CUSTOM or num_matrices(manifest) > 1  # what p begins with
    return chosen.model_copy(update={"keep_start": has_a_say if chosen.keep_start is None else chosen.keep_start})

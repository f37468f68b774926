"""What the optimizer's settings leave open until the model is there, and what the run then holds to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from aimass.core.errors import UsageError
from aimass.models.config import CUSTOM
from aimass.optim.config import METHODS, OptimizerConfig

if TYPE_CHECKING:
    from aimass.models.manifest import Manifest
    from aimass.training.checkpoints.checkpoint import Checkpoint
    from aimass.training.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class OptimizerChoice:
    """What was asked for, and what became of it.

    Args:
        asked: the settings as they were given.
        chosen: the settings with nothing open.
    """

    asked: OptimizerConfig
    chosen: OptimizerConfig

    @classmethod
    def of(cls, config: TrainConfig, manifest: Manifest, checkpoint: Checkpoint | None) -> Self:
        """Decide, or hold to what was decided before the run was resumed with the same settings.

        Args:
            config: the run's settings.
            manifest: the plan of its p.
            checkpoint: what it goes on from.

        Raises:
            UsageError: the optimizer cannot take over from the one that the run had.
        """
        asked, before = config.optimizer, (checkpoint.state.get("optimizer") if checkpoint else None) or {}
        if before.get("asked") == asked.model_dump(mode="json"):
            return cls(asked=asked, chosen=OptimizerConfig.model_validate(before["chosen"]))
        if not METHODS[asked.name].from_sums:
            return cls(asked=asked, chosen=asked)
        takes_over = checkpoint is not None and asked.name != before.get("chosen", {}).get("name")
        if takes_over and asked.name == "adagrad_da" and (asked.l1 or asked.l2):
            raise UsageError(
                "adagrad_da weighs l1 and l2 by the steps of the whole run, and knows no gradient of those before; start a new run "
                "with it, go on with the optimizer that the run had, or leave l1 and l2 out"
            )
        num_matrices = sum(entry.group == "decay" for entry in manifest.entries)
        has_a_say = takes_over or config.transfers or config.model.name == CUSTOM or num_matrices > 1  # what p begins with
        keep = has_a_say if asked.keep_start is None else asked.keep_start
        return cls(asked=asked, chosen=asked.model_copy(update={"keep_start": keep}))

    def settled(self, config: TrainConfig) -> TrainConfig:
        """The run's settings with the choice in them."""
        return config.model_copy(update={"optimizer": self.chosen})

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return {"asked": self.asked.model_dump(mode="json"), "chosen": self.chosen.model_dump(mode="json")}

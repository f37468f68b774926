"""What the workers of a run need, imported once in the process that forks them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aimass.models.config import CUSTOM
from aimass.models.family import FAMILIES
from aimass.training.strategy import AUTO, STRATEGIES

if TYPE_CHECKING:
    from aimass.training.config import TrainConfig


def modules_for(config: TrainConfig) -> list[str]:
    """The modules that a run's workers import, with those that the next run's may: the process that forks is used again.

    >>> from aimass.training.config import TrainConfig
    >>> found = modules_for(TrainConfig.parse({"workers": 2}))
    >>> found[0], "aimass.models.families.mlp" in found
    ('aimass.training.workers.entry', True)
    """
    strategies = {*STRATEGIES.own_names(), config.strategy.name} - {AUTO}
    families = {*FAMILIES.own_names(), config.model.name} - {CUSTOM}
    late = [module for name in strategies for module in STRATEGIES.load(name).worker_modules]
    if config.strategy.name != AUTO:
        late += STRATEGIES.load(config.strategy.name).heavy_modules
    return ["aimass.training.workers.entry", *sorted({*map(STRATEGIES.module, strategies), *map(FAMILIES.module, families), *late})]

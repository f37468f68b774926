"""Model averaging: each worker trains by itself for some steps, then all go on from the mean of their models."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import ceil
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from aimass.core.config import Seconds
from aimass.core.errors import UsageError
from aimass.optim.config import AUTO, OptimizerConfig
from aimass.parameters.base import Pushed
from aimass.training.strategy import Strategy, StrategyConfig
from aimass.training.workers.steps import OwnSteps

if TYPE_CHECKING:
    from aimass.training.workers.worker import Worker

ALIASES = (
    "fault_tolerant_model_averaging",
    "local_sgd",
    "post_local_sgd",
    "parameter_averaging",
    "periodic_averaging",
    "diloco",
    "模型平均",
    "容错模型平均",
    "本地SGD",
)

_DILOCO = {"name": "sgd", "lr": 0.7, "momentum": 0.9, "nesterov": True}


def _outer(value: Any) -> dict[str, Any] | None:
    """An optimizer by its name, or its settings, with the rate that suits means of changes; `nesterov` is DiLoCo's."""
    if value is None or (isinstance(value, str) and value.strip().lower() == "none"):
        return None
    given = dict(value) if isinstance(value, Mapping) else {"name": value}
    if given.get("name") == "nesterov":
        given = {**_DILOCO, **given, "name": "sgd"}
    config = OptimizerConfig.parse(given, "strategy.outer.")
    if config.name == AUTO or config.method.from_sums:
        takes = "no gradient is there to measure" if config.name == AUTO else "it computes p from sums, and would leave where p was"
        raise UsageError(f"strategy.outer={config.name!r}: the outer optimizer steps by the mean of changes, and {takes}; name another one")
    if config.rates:
        raise UsageError(
            "strategy.outer.rates: the outer optimizer has one rate for all parameters; set optimizer.rates, which workers keep"
        )
    if config.lr is None and config.name in ("sgd", "momentum"):
        given["lr"] = _DILOCO["lr"] if config.momentum_value else 1.0
    return OptimizerConfig.parse(given, "strategy.outer.").model_dump(mode="json", exclude_unset=True)


def _none(value: Any) -> Any:
    return None if isinstance(value, str) and value.strip().lower() == "none" else value


def _quorum(value: Any) -> int | float:
    """A count as a whole number, and a share as a number with a point, so that 1 and 1.0 cannot be taken for one another."""
    text = "" if isinstance(value, bool) else str(value).strip()
    if re.fullmatch(r"\d{1,3}", text) and 1 <= int(text) <= 256:
        return int(text)
    if re.fullmatch(r"\d*\.\d+", text) and 0 < float(text) <= 1:
        return float(text)
    raise ValueError("it is a number of workers, such as 2, or a share of them, such as 0.5 or 1.0")


class ModelAveragingConfig(StrategyConfig):
    """Settings of `model_averaging`.

    Args:
        every: H, the batches that a worker trains on between two exchanges; fewer where an epoch does not hold so many for each.
        quorum: how many workers have to be in a mean before the others are no longer waited for: a number, or a share of them.
        grace: how long the others are waited for then, in seconds; by default as long again as it took until then, and at least a second.
        outer: the optimizer that takes p − mean for its gradient: a name, its settings, or `nesterov` for DiLoCo's; by default p
            becomes the mean.
        states: what becomes of a worker's optimizer states after an exchange: `keep` them, `average` them as p, or `reset` them, as where
            clients are many.
        exchange: what a worker sends its change as, and gets the mean as: `float32`, or `int8`, in about a quarter of the bytes.
    """

    name: Literal["model_averaging"] = "model_averaging"
    every: Annotated[int, Field(ge=1, le=10**6)] = 16
    quorum: Annotated[int | float, BeforeValidator(_quorum)] = 0.5
    grace: Annotated[Annotated[Seconds, Field(ge=0)] | None, BeforeValidator(_none)] = None
    outer: Annotated[dict[str, Any] | str | None, BeforeValidator(_outer)] = None

    states: Literal["keep", "average", "reset"] = "keep"
    exchange: Literal["float32", "int8"] = "float32"

    @property
    def plane(self) -> str:
        """`averages`, in which whoever is late for one exchange is in the next."""
        return "averages"

    @property
    def is_elastic(self) -> bool:
        """Workers may come and go: a mean is of those who are in it."""
        return True

    @property
    def sync_batches(self) -> int:
        """`every`."""
        return self.every

    def task_batches(self, num_rows: int, batch_size: int, workers: int) -> int:
        """`every`, or fewer, so that an epoch's rounds are alike, and nobody is idle in its last one."""
        batches = -(-num_rows // batch_size)
        rounds = -(-batches // (self.every * workers))
        return -(-batches // (rounds * workers))

    @property
    def sends_deltas(self) -> bool:
        """A worker sends by how much its steps moved p."""
        return True

    @property
    def outer_optimizer(self) -> OptimizerConfig | None:
        """What `outer` says."""
        return None if self.outer is None else OptimizerConfig.parse(_outer(self.outer) or {})

    @property
    def averages_states(self) -> bool:
        """Whether the states of workers' own optimizers are averaged too."""
        return self.states == "average"

    def quorum_of(self, workers: int) -> int:
        """How many of so many workers have to be in a mean."""
        return max(1, min(workers, self.quorum if isinstance(self.quorum, int) else ceil(self.quorum * workers)))

    def check_workers(self, workers: int) -> None:
        if isinstance(self.quorum, int) and self.quorum > max(1, workers):
            raise UsageError(
                f"strategy.quorum={self.quorum} is more than the {workers} workers of the run; give at most so many, or a share such as 0.5"
            )


class ModelAveraging(Strategy):
    """Workers take H steps of their own from the same p, and p moves to the mean of where they are, by rows.

        pᵢ = p_t after H steps of worker i's optimizer on nᵢ rows
        Δ = Σ nᵢ (pᵢ − p_t) / Σ nᵢ,      p_{t+1} = p_t + Δ,      or outer_step(p_t, gradient = −Δ)

    A round takes those who are there once a quorum is and the grace is over. Who comes later is in the next round, with its change from
    p_t, and goes on from the newest mean.

    Source: McMahan et al., Communication-efficient learning of deep networks from decentralized data, AISTATS 2017; Stich, Local SGD
    converges fast and communicates little, ICLR 2019; Lin et al., Don't use large mini-batches, use local SGD, ICLR 2020; Douillard
    et al., DiLoCo: distributed low-communication training of language models, 2023.
    """

    config_class = ModelAveragingConfig

    def work(self, worker: Worker) -> None:
        from aimass.parameters.averages import AverageServer
        from aimass.training.workers.exchanges import EightBits, Whole

        config = self.config
        assert isinstance(config, ModelAveragingConfig)
        assert isinstance(worker.server, AverageServer)
        train, server = OwnSteps(worker), worker.server
        own, averages = train.optimizer, config.averages_states
        link = EightBits(worker) if config.exchange == "int8" else Whole(worker)
        state_bytes = worker.vector_bytes * len(own.states) if averages else 0
        for part in worker.parts(config.every):
            if config.states != "keep":
                train.reset()
            server.states_into = own.states if averages else ()
            clock = link.pull()  # the newest mean
            if averages and server.mean_steps:
                own.num_steps = server.mean_steps if server.mean_steps > 0 else clock * config.every
                worker.moved(received=state_bytes)
            loss, change = train(part)
            worker.report(loss=loss)
            if averages:
                worker.moved(sent=state_bytes)
                server.show_states(own.states, own.num_steps)
            if link.push(change, clock) is Pushed.NOT_FINITE:
                train.reset()


PLUGIN = ModelAveraging

"""The parameter server: workers send what they found, the server combines it, and all go on from the result."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from aimass.core.config import seconds
from aimass.core.errors import UsageError
from aimass.parameters.base import Pushed
from aimass.training.strategy import Strategy, StrategyConfig
from aimass.training.workers.steps import MeanGradient, OwnSteps

if TYPE_CHECKING:
    from aimass.training.workers.worker import Worker

ALIASES = ("psm", "ps", "param_server", "参数服务器", "ssp", "stale_synchronous", "bounded_staleness", "downpour", "synchronous_sgd")


def _batches_or_time(value: Any) -> int | str:
    """A count of batches as a number, and a time as text with its unit, so that the two cannot be taken for one another."""
    text = str(value).strip()
    if re.fullmatch(r"\d{1,7}", text) and 1 <= int(text) <= 10**6:
        return int(text)
    if re.fullmatch(r"\d+(\.\d+)?\s*[smhd]", text):
        time_s = seconds(text)
        if isinstance(time_s, float) and time_s > 0:
            return f"{time_s:g}s"
    raise ValueError("it is a number of batches from 1 to 1,000,000, or a time with its unit, such as 4 or '2s'")


def _bound(value: Any) -> Any:
    """No bound may be written as the text `none`, as on the command line."""
    return None if isinstance(value, str) and value.strip().lower() == "none" else value


class ParameterServerConfig(StrategyConfig):
    """Settings of `parameter_server`.

    Args:
        staleness: by how many exchanges the fastest worker may be ahead of the slowest; `none` for any number. With 0 they go in
            rounds, which equal one process on the batches put together.
        servers: how many shards p is cut into, each with a lock of its own; by default as many as its size asks for.
        push: what a worker sends: the `gradient`, for the server's optimizer, or the `delta` by which its own optimizer moved p.
        sync_every: how much a worker does between two exchanges: a number of batches, or a time such as `"2s"`.
        scale_steps: multiply the step of a gradient that is τ updates old by 1 / (1 + τ).
        compensation: correct gradients for the updates that they have not seen (DC-ASGD): `constant` or `adaptive`.
        compensation_strength: λ of the compensation; by default as its paper has it.
        atomic: a push whose worker is killed inside it is finished by another. False is faster, and may leave a torn chunk.
    """

    name: Literal["parameter_server"] = "parameter_server"
    staleness: Annotated[Annotated[int, Field(ge=0, le=10**6)] | None, BeforeValidator(_bound)] = 0
    servers: Annotated[int, Field(ge=1, le=1024)] | None = None
    push: Literal["gradient", "delta"] = "gradient"
    sync_every: Annotated[int | str, BeforeValidator(_batches_or_time)] = 1
    scale_steps: bool = False
    compensation: Literal["constant", "adaptive"] | None = None
    compensation_strength: Annotated[float, Field(ge=0)] | None = None
    atomic: bool = True

    @property
    def plane(self) -> str:
        """`rounds` where nobody may be ahead, else `arrival`."""
        return "rounds" if self.staleness == 0 else "arrival"

    @property
    def sync_batches(self) -> int | None:
        """Batches between two exchanges, or None where a time is set."""
        return self.sync_every if isinstance(self.sync_every, int) else None

    @property
    def sends_deltas(self) -> bool:
        """Whether `push` is `delta`."""
        return self.push == "delta"

    @property
    def sync_s(self) -> float | None:
        """Seconds between two exchanges, or None where a number of batches is set."""
        return None if isinstance(self.sync_every, int) else float(self.sync_every.removesuffix("s"))

    @model_validator(mode="after")
    def _works_together(self) -> ParameterServerConfig:
        corrects = "compensation" if self.compensation else "scale_steps" if self.scale_steps else None
        if self.staleness == 0 and self.sync_s is not None:
            raise UsageError("with staleness=0 every part of a round has fixed rows; give sync_every as a number of batches")
        if self.staleness == 0 and corrects:
            raise UsageError(f"with staleness=0 no gradient is ever old; leave {corrects} out, or set staleness to 1 or more, or to none")
        if self.push == "delta" and corrects:
            raise UsageError(f"strategy.{corrects} is for gradients; leave it out, or set push='gradient'")
        if self.compensation_strength is not None and not self.compensation:
            raise UsageError("strategy.compensation_strength needs compensation='constant' or 'adaptive'")
        return self


class ParameterServer(Strategy):
    """Workers fetch p, find a change of it on batches of their own, and send that; the server combines what was sent.

        rounds    (staleness=0)   p ← step(p, Σ nᵢ gᵢ / Σ nᵢ),   or p ← p + Σ nᵢ Δᵢ / Σ nᵢ,   when all have sent
        arrival   (otherwise)     p ← step(p, gᵢ),               or p ← p + Δᵢ,               when it comes

    where gᵢ is the mean gradient of worker i's nᵢ rows at p, and Δᵢ by how much its own optimizer moved p on them.

    Source: Li et al., Scaling distributed machine learning with the parameter server, OSDI 2014; Dean et al., Large scale distributed
    deep networks, NIPS 2012; Ho et al., More effective distributed ML via a stale synchronous parallel parameter server, NIPS 2013.
    """

    config_class = ParameterServerConfig

    def work(self, worker: Worker) -> None:
        config = self.config
        assert isinstance(config, ParameterServerConfig)
        worker.clips_batches = config.staleness != 0 or config.sends_deltas  # a round clips the mean, as one process would
        find = OwnSteps(worker) if config.sends_deltas else MeanGradient(worker)
        for part in worker.parts(config.sync_batches, config.sync_s):
            clock = worker.pull()
            loss, change = find(part)
            worker.report(loss=loss)
            if worker.push(change, clock) is Pushed.NOT_FINITE:
                find.reset()


PLUGIN = ParameterServer

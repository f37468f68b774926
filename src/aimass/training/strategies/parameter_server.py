"""The parameter server: workers send what they found, the server combines it, and all go on from the result."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from aimass.core.config import seconds
from aimass.core.errors import UsageError
from aimass.training.strategy import Strategy, StrategyConfig

if TYPE_CHECKING:
    from aimass.training.worker import Worker

ALIASES = ("psm", "ps", "param_server", "参数服务器", "ssp", "stale_synchronous", "bounded_staleness", "downpour", "synchronous_sgd")


def _batches_or_time(value: Any) -> int | str:
    """A count of batches as a number, and a time as text with its unit, so that the two cannot be taken for one another."""
    if isinstance(value, str) and re.fullmatch(r"\s*\d+\s*", value):
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 10**6:
        return value
    if isinstance(value, str) and re.search(r"[smhd]\s*$", value) and isinstance(time_s := seconds(value), float) and time_s > 0:
        return f"{time_s:g}s"
    raise ValueError("it is a number of batches from 1 to 1,000,000, or a time with its unit, such as 4 or '2s'")


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
    staleness: Annotated[int, Field(ge=0, le=10**6)] | None = None
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
    """Workers compute gradients on what the server holds, and the server applies them.

    Source: Li et al., Scaling distributed machine learning with the parameter server, OSDI 2014.
    """

    config_class = ParameterServerConfig

    def work(self, worker: Worker) -> None:
        for batch in worker.batches():
            clock = worker.server.pull(worker.learner.parameters)
            loss, gradient = worker.gradient(batch)
            worker.server.push(gradient, clock)
            worker.report(loss=loss)


PLUGIN = ParameterServer

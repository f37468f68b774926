"""Who takes part in a comparison: strategies by name, with settings of their own where somebody wants them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aimass.core.errors import AimassError, UsageError
from aimass.training.settling import check_data, fit_model, settle
from aimass.training.strategy import AUTO, STRATEGIES

if TYPE_CHECKING:
    from aimass.data.dataset import Dataset
    from aimass.training.config import TrainConfig

ALL = "all"


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One strategy as it is set.

    Args:
        label: what it is called in tables: `parameter_server`, `parameter_server:staleness=3`.
        settings: of its run, for `aimass.train`.
        config: what they come to.
    """

    label: str
    settings: Mapping[str, Any]
    config: TrainConfig


def choose(
    wanted: str | Sequence[str | Mapping[str, Any]], workers: int, settings: Mapping[str, Any], data: Dataset
) -> tuple[list[Contender], dict[str, str]]:
    """The contenders, and those of `all` that cannot take part, each with the sentence why.

    Args:
        wanted: strategies, or `all`.
        workers: for each; one that trains in one process has none, and is there to compare with.
        settings: what all have in common.
        data: what they train on.

    Raises:
        UsageError: a strategy that was named is unknown, or cannot take part, or nobody is left.
    """
    if isinstance(wanted, str):
        wanted = [part.strip() for part in wanted.split(",") if part.strip()]
    everybody = [part.lower() if isinstance(part, str) else part for part in wanted] == [ALL]
    found: dict[str, Contender] = {}
    cannot: dict[str, str] = {}
    for one in STRATEGIES.names() if everybody else wanted:
        label, strategy = _read(one)
        if label in found:
            raise UsageError(f"{label!r} is named twice; name it once, and repeats= (--repeats) lets each run several times")
        try:
            found[label] = _contender(label, strategy, workers, settings, data)
        except AimassError as error:
            if not everybody:
                raise
            cannot[label] = str(error)
    if not found:
        first = next(iter(cannot.values()), "none was named")
        raise UsageError(f"no strategy can be compared: {first}; name some, such as strategies='async_sgd,allreduce'")
    return list(found.values()), cannot


def read_settings(settings: Mapping[str, Any]) -> TrainConfig:
    """What settings come to. A model to start from is found only as a run starts."""
    start = settings.get("start_from")
    return settle({**settings, "start_from": str(start)} if start is not None else settings)[0]


def _contender(label: str, strategy: Mapping[str, Any], workers: int, settings: Mapping[str, Any], data: Dataset) -> Contender:
    most = None if strategy["name"] == AUTO else STRATEGIES.load(strategy["name"]).most_workers
    own = {**settings, "strategy": dict(strategy), "workers": workers if most is None else min(workers, most)}
    config, data = fit_model(read_settings(own), data)
    check_data(config, data)
    return Contender(label=label, settings=own, config=config)


def _read(wanted: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """A strategy's label and settings, out of `name:setting=value:setting=value` or a mapping with `name`.

    >>> _read("ps:staleness=3")
    ('parameter_server:staleness=3', {'name': 'parameter_server', 'staleness': '3'})
    """
    if isinstance(wanted, Mapping):
        settings = {str(name): value for name, value in wanted.items()}
    elif not isinstance(wanted, str):
        raise UsageError(f"{wanted!r} is no strategy; give a name such as 'async_sgd', or a mapping with 'name'")
    else:
        name, *pairs = wanted.split(":")
        bare = [pair for pair in pairs if "=" not in pair]
        if bare:
            raise UsageError(f"{wanted!r} has no value for {bare[0]!r}; write a strategy's settings like parameter_server:staleness=3")
        settings = {"name": name.strip(), **{key.strip(): value.strip() for key, _, value in (pair.partition("=") for pair in pairs)}}
    name = str(settings.get("name", "")).strip()
    settings["name"] = AUTO if name.lower() == AUTO else STRATEGIES.canonical(name)
    own = [f"{name}={value}" for name, value in settings.items() if name != "name"]
    return ":".join([settings["name"], *own]), settings

"""What `/metrics` tells: requests and latencies from the gateway, engines, jobs, and the process itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select

from aimass.store.tables import deployments, jobs

if TYPE_CHECKING:
    from aimass.service.platform import Platform
    from aimass.serving.gateway import Gateway


@dataclass(frozen=True)
class Figures:
    """The registries that `/metrics` writes out. Everything is looked up when it is asked.

    Args:
        here: of what the event loop has in memory.
        kept: of what the database has, which may take its time; not for the event loop.
    """

    here: CollectorRegistry
    kept: CollectorRegistry


def figures(platform: Platform, gateway: Gateway) -> Figures:
    """What there is to tell of a platform."""
    here, kept = CollectorRegistry(), CollectorRegistry()
    for collect in (gateway.metrics, lambda: _engines(platform)):
        here.register(_Asked(collect))
    ProcessCollector(registry=here)
    PlatformCollector(registry=here)
    kept.register(_Asked(lambda: _jobs(platform)))
    return Figures(here, kept)


class _Asked(Collector):
    def __init__(self, collect: Callable[[], Iterator[Metric]]) -> None:
        self._collect = collect

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        return self._collect()


def _engines(platform: Platform) -> Iterator[Metric]:
    states = GaugeMetricFamily("aimass_engine_ready", "1 where a Prediction Engine can answer", labels=["engine"])
    memory = GaugeMetricFamily("aimass_engine_memory_bytes", "Memory of a Prediction Engine", labels=["engine"])
    flying = GaugeMetricFamily("aimass_engine_in_flight", "Requests that a Prediction Engine has not answered yet", labels=["engine"])
    models = GaugeMetricFamily("aimass_engine_models", "Models that a Prediction Engine holds", labels=["engine"])
    for engine in platform.center.engines():
        states.add_metric([engine["id"]], float(engine["state"] in ("ready", "busy")))
        memory.add_metric([engine["id"]], engine["memory_bytes"] or 0)
        flying.add_metric([engine["id"]], engine["load"]["in_flight"])
        models.add_metric([engine["id"]], len(engine["models"]))
    yield from (states, memory, flying, models)


def _jobs(platform: Platform) -> Iterator[Metric]:
    with platform.database.read() as connection:
        counted = connection.execute(select(jobs.c.state, func.count()).group_by(jobs.c.state)).all()
        deployed = connection.execute(select(func.count()).select_from(deployments)).scalar_one()
    states = GaugeMetricFamily("aimass_jobs", "Training jobs by state", labels=["state"])
    for state, count in counted:
        states.add_metric([state], count)
    yield states
    yield GaugeMetricFamily("aimass_deployments", "Names that answer", value=deployed)

"""What the gateway counts, as plain numbers; Prometheus reads them when it asks."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_LABELS = ["project", "deployment"]


class Counts:
    """Of one deployment: requests by the first digit of their status, rows, and latencies by bucket."""

    __slots__ = ("latency_s", "rows", "slower", "statuses")

    def __init__(self) -> None:
        self.statuses = [0, 0, 0, 0, 0, 0]
        self.slower = [0] * (len(BUCKETS_S) + 1)
        self.rows, self.latency_s = 0, 0.0

    def add(self, status: int, rows: int, seconds: float) -> None:
        """One request was answered."""
        self.statuses[status // 100] += 1
        self.slower[bisect_left(BUCKETS_S, seconds)] += 1
        self.rows += rows
        self.latency_s += seconds


class Counters:
    """All deployments' counts, by project and name.

    >>> counters = Counters()
    >>> counters.of("proj-1", "churn").add(200, 3, 0.002)
    >>> {metric.name: metric.samples[0].value for metric in counters.metrics()}["aimass_rows"]
    3
    """

    def __init__(self) -> None:
        self._by: dict[tuple[str, str], Counts] = {}

    def of(self, project: str, name: str) -> Counts:
        """The counts of one deployment; one without a name counts what was refused before it was known."""
        known = self._by.get((project, name))
        if known is None:
            known = self._by[project, name] = Counts()
        return known

    def metrics(self) -> Iterator[Metric]:
        """For a collector of prometheus_client."""
        requests = CounterMetricFamily("aimass_requests", "Predictions answered, by status class.", labels=[*_LABELS, "status"])
        rows = CounterMetricFamily("aimass_rows", "Rows answered.", labels=_LABELS)
        latency = HistogramMetricFamily("aimass_request_seconds", "From the request's headers to its answer.", labels=_LABELS)
        for (project, name), counts in list(self._by.items()):
            for digit, count in enumerate(counts.statuses):
                if count:
                    requests.add_metric([project, name, f"{digit}xx"], count)
            rows.add_metric([project, name], counts.rows)
            latency.add_metric([project, name], _cumulative(counts.slower), counts.latency_s)
        yield from (requests, rows, latency)


def _cumulative(counts: list[int]) -> list[tuple[str, float]]:
    total, buckets = 0, []
    for edge, count in zip([*map(str, BUCKETS_S), "+Inf"], counts, strict=True):
        total += count
        buckets.append((edge, float(total)))
    return buckets

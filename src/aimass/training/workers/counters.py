"""What the workers of a run have counted, added up: over all slots, and over the times before the run was resumed."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from aimass.parameters.counts import LOSS, LOSS_ROWS, LOSS_WEIGHT, ROWS, STEPS, forget_counts
from aimass.parameters.layout import (
    NUM_STALENESS_BINS,
    SHARD_BUSY_NS,
    SHARD_CLOCK,
    SHARD_WAITED_NS,
    SHARE_BUSY_NS,
    SHARE_SPEED,
    SHARE_STOP,
    SLOT_HELD_NS,
    SLOT_LEAD,
    SLOT_MEMORY,
    SLOT_MEMORY_AT_START,
    SLOT_PULLED,
    SLOT_RECEIVED,
    SLOT_REFUSED,
    SLOT_SENT,
    SLOT_SPENT_NS,
    SLOT_STALE_MOST,
    SLOT_STALE_SUM,
    SLOT_STALENESS,
    SLOT_VECTORS,
)
from aimass.training.health.operations import COMPUTE, EXCHANGE, IDLE, STARTING, STATES, WAIT
from aimass.training.workers.words import OPERATION

if TYPE_CHECKING:
    from aimass.parameters.shared_memory import SharedMemoryServer

_EXCHANGE = (SLOT_STALE_SUM, SLOT_STALE_MOST, SLOT_VECTORS, SLOT_LEAD, SLOT_HELD_NS, SLOT_SENT, SLOT_RECEIVED)


class Counters:
    """Reads the slots' words.

    Args:
        server: whose block holds them.
        before: what `state` gave when the run stopped last.
    """

    def __init__(self, server: SharedMemoryServer, before: dict[str, Any] | None = None) -> None:
        self._counted = server.counted
        self._words, self._shards, self._num_servers = server.words, server.shards, server.layout.num_servers
        self._reals = server.reals
        self._sizes = [sum(stop - start for start, stop in spans) for spans in server.layout.spans]
        self._slots = [server.layout.slot(slot) for slot in range(server.layout.num_slots)]
        self._num_workers = server.layout.num_workers
        self._before = before or _nothing()
        self.num_lost: int = self._before["lost"]

    def begin_again(self, before: dict[str, Any] | None) -> None:
        """The run went back to where `state` gave `before`: what was counted since is not part of it. The dead stay counted."""
        self._before = before or _nothing()
        for at in self._slots:
            forget_counts(self._words, at)
            for word in (SLOT_REFUSED, *range(SLOT_STALENESS, SLOT_STALENESS + NUM_STALENESS_BINS), *_EXCHANGE, SHARE_BUSY_NS):
                self._words[at + word] = 0
        for shard in self._shards:
            self._words[shard.words + SHARD_BUSY_NS] = self._words[shard.words + SHARD_WAITED_NS] = 0

    @property
    def steps(self) -> int:
        """Batches that were done in this process's time."""
        return sum(self._each(STEPS))

    def _each(self, count: int) -> list[int]:
        """One of the counts of each slot."""
        return [self._words[self._counted(slot) + count] for slot in range(len(self._slots))]

    def _each_real(self, count: int) -> list[float]:
        return [self._reals[self._counted(slot) + count] for slot in range(len(self._slots))]

    def good(self, slot: int) -> tuple[int, int]:
        """What grows with each gradient of a worker that is not refused: steps that were not, and rows with a finite loss."""
        at = self._counted(slot)
        return self._words[at + STEPS] - self._words[self._slots[slot] + SLOT_REFUSED], self._words[at + LOSS_ROWS]

    @property
    def rows(self) -> int:
        """Rows trained on."""
        return int(self._before["rows"]) + sum(self._each(ROWS))

    @property
    def loss_rows(self) -> int:
        """Rows whose loss was finite."""
        return int(self._before["loss_rows"]) + sum(self._each(LOSS_ROWS))

    @property
    def loss(self) -> float:
        """The sum over those rows of the loss that each had when it was trained on, times its weight."""
        return float(self._before["loss"]) + sum(self._each_real(LOSS))

    @property
    def loss_weight(self) -> float:
        """The weight of those rows."""
        return float(self._before.get("loss_weight", self._before["loss_rows"])) + sum(self._each_real(LOSS_WEIGHT))

    def refused(self, slot: int) -> int:
        """Gradients of one worker that were not finite, in this process's time."""
        return self._words[self._slots[slot] + SLOT_REFUSED]

    @property
    def num_refused(self) -> int:
        """Gradients that were not finite."""
        return int(self._before["refused"]) + sum(self._words[at + SLOT_REFUSED] for at in self._slots)

    @property
    def staleness(self) -> list[int]:
        """How many pushes met p after 0, 1, 2, ... others since they had pulled it; the last bin holds the rest."""
        words = self._words
        return [self._before["staleness"][n] + sum(words[at + SLOT_STALENESS + n] for at in self._slots) for n in range(NUM_STALENESS_BINS)]

    @property
    def mean_staleness(self) -> float | None:
        """How many pushes of others came between a pull and its push, on average; None before the first push."""
        bins, rest = self.staleness, self._add_up(SLOT_STALE_SUM, "stale_sum")
        count = sum(bins)
        return (sum(n * pushes for n, pushes in enumerate(bins[:-1])) + rest) / count if count else None

    @property
    def most_staleness(self) -> int:
        """The largest staleness of any push."""
        beyond = max(self._words[at + SLOT_STALE_MOST] for at in self._slots)
        within = max((n for n, pushes in enumerate(self.staleness[:-1]) if pushes), default=0)
        return max(beyond, within, int(self._before.get("stale_most", 0)))

    @property
    def largest_lead(self) -> int | None:
        """By how many steps a worker was ahead of the slowest when it was let go on; None where nothing bounds that."""
        leads = [self._words[at + SLOT_LEAD] - 1 for at in self._slots if self._words[at + SLOT_LEAD]]
        if (before := self._before.get("largest_lead")) is not None:
            leads.append(before)
        return max(leads, default=None)

    @property
    def held_s(self) -> float:
        """Seconds for which workers were held back, added up."""
        return self._add_up(SLOT_HELD_NS, "held_ns") / 1e9

    @property
    def bytes_sent(self) -> int:
        """What left the workers, as `Worker.moved` counts it."""
        return self._add_up(SLOT_SENT, "bytes_sent")

    @property
    def bytes_received(self) -> int:
        """What came to the workers, as `Worker.moved` counts it."""
        return self._add_up(SLOT_RECEIVED, "bytes_received")

    @property
    def memory(self) -> list[dict[str, int]]:
        """Where p is divided: `worker`, its `parameters`, the most bytes that its process has held (`peak_bytes`), and those that it held
        before it took its part (`base_bytes`). Processes share a good deal of the latter."""
        words = self._words
        return [
            {"worker": slot, "parameters": size, "peak_bytes": words[at + SLOT_MEMORY], "base_bytes": words[at + SLOT_MEMORY_AT_START]}
            for slot, (at, size) in enumerate(zip(self._slots, self._sizes, strict=False))
        ]

    @property
    def servers(self) -> list[dict[str, Any]]:
        """The load of each server, where a number of them was asked for.

        `parameters`; `steps` taken; `bytes` of gradients taken in and parameters given out; seconds `busy_s` under its lock, and
        `waited_s` for which pushes waited for that lock.
        """
        vectors = self._add_up(SLOT_VECTORS, "vectors")
        busy, waited = self._server_ns(SHARD_BUSY_NS), self._server_ns(SHARD_WAITED_NS)
        load = []
        for shard, busy_ns, waited_ns in zip(self._shards[: self._num_servers], busy, waited, strict=True):
            length, steps = shard.stop - shard.start, self._words[shard.words + SHARD_CLOCK]
            moved = 4 * length * vectors
            load.append({"parameters": length, "steps": steps, "bytes": moved, "busy_s": busy_ns / 1e9, "waited_s": waited_ns / 1e9})
        return load

    @property
    def workers(self) -> list[dict[str, Any]]:
        """What each slot's workers are at, in this process's time.

        `worker`; `state`; s = (`clock` of the parameters that the last push was computed at, `iteration`, the batches done); and the
        seconds spent in each state: `compute_s`, `exchange_s`, `wait_s`, `idle_s`.
        """
        found = []
        for slot, at in enumerate(self._slots[: self._num_workers]):
            spent_s = dict.fromkeys((COMPUTE, EXCHANGE, WAIT, IDLE), 0.0)
            for operation, state in enumerate(STATES):
                if operation != STARTING:
                    spent_s[state] += self._words[at + SLOT_SPENT_NS + operation] / 1e9
            found.append(
                {
                    "worker": slot,
                    "state": STATES[self._words[at + OPERATION]],
                    "clock": self._words[at + SLOT_PULLED],
                    "iteration": self._words[self._counted(slot) + STEPS],
                    **{f"{state.lower()}_s": round(seconds, 3) for state, seconds in spent_s.items()},
                }
            )
        return found

    @property
    def shares(self) -> list[dict[str, Any]]:
        """What each worker computed, where rounds are shared out by speed; empty elsewhere.

        `rows`; `rows_per_s`, its speed as it was measured last; seconds `busy_s` computing, alike for all where the shares are right.
        """
        words, reals = self._words, self._reals
        if len(self._slots) < 2 or not any(words[at + SHARE_STOP] for at in self._slots):
            return []
        rows, busy = self._worker_rows, self._worker_busy_ns
        speeds = [reals[at + SHARE_SPEED] for at in self._slots]
        return [{"rows": n, "rows_per_s": round(s, 1), "busy_s": ns / 1e9} for n, s, ns in zip(rows, speeds, busy, strict=False)]

    @property
    def _worker_rows(self) -> list[int]:
        return [sum(both) for both in zip_longest(self._each(ROWS), self._before.get("worker_rows", []), fillvalue=0)]

    @property
    def _worker_busy_ns(self) -> list[int]:
        counted = [self._words[at + SHARE_BUSY_NS] for at in self._slots]
        return [sum(both) for both in zip_longest(counted, self._before.get("worker_busy_ns", []), fillvalue=0)]

    def _server_ns(self, word: int) -> list[int]:
        before: dict[int, list[int]] = {SHARD_BUSY_NS: self._before.get("busy_ns", []), SHARD_WAITED_NS: self._before.get("waited_ns", [])}
        was = before[word] if len(before[word]) == self._num_servers else [0] * self._num_servers
        return [ns + self._words[shard.words + word] for ns, shard in zip(was, self._shards[: self._num_servers], strict=True)]

    def _add_up(self, word: int, name: str) -> int:
        return int(self._before.get(name, 0)) + sum(self._words[at + word] for at in self._slots)

    def state(self) -> dict[str, Any]:
        """The counts, for a checkpoint."""
        return {
            "rows": self.rows,
            "loss": self.loss,
            "loss_rows": self.loss_rows,
            "loss_weight": self.loss_weight,
            "refused": self.num_refused,
            "lost": self.num_lost,
            "staleness": self.staleness,
            "stale_sum": self._add_up(SLOT_STALE_SUM, "stale_sum"),
            "stale_most": self.most_staleness,
            "largest_lead": self.largest_lead,
            "held_ns": self._add_up(SLOT_HELD_NS, "held_ns"),
            "vectors": self._add_up(SLOT_VECTORS, "vectors"),
            "bytes_sent": self.bytes_sent,
            "bytes_received": self.bytes_received,
            "busy_ns": self._server_ns(SHARD_BUSY_NS),
            "waited_ns": self._server_ns(SHARD_WAITED_NS),
            "worker_rows": self._worker_rows,
            "worker_busy_ns": self._worker_busy_ns,
        }


def _nothing() -> dict[str, Any]:
    return {"rows": 0, "loss": 0.0, "loss_rows": 0, "loss_weight": 0.0, "refused": 0, "lost": 0, "staleness": [0] * NUM_STALENESS_BINS}

"""Do rounds equal plain PyTorch where a worker dies in every one of them, and what does a round cost?

Two processes go in rounds by Adam; in each round one of them is killed (SIGKILL) at a random moment, and another takes its place.
Gradients depend on p and on the lease, so that a part that was left out, done twice or computed at another p shows. Afterwards p
must equal torch.optim.Adam on each round's weighted mean. Then, without deaths, gradients a second in rounds and on arrival.

    python experiments/rounds.py [--rounds 500] [--json]
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from aimass.optim.config import OptimizerConfig
from aimass.optim.update import build_update
from aimass.parameters.base import Ticket
from aimass.parameters.layout import NEXT_LEASE, SHARD_REPAIRS, Layout
from aimass.parameters.rounds import RoundServer
from aimass.parameters.shared_memory import SharedMemoryServer
from aimass.training.leases.plan import LeasePlan
from aimass.training.leases.rounds import RoundTable

LENGTH = 400_000
NUM_SHARDS = 4
NUM_WORKERS = 2
RATE = 0.01
SIZES = {"4 KB": 1_024, "1 MB": 262_144, "40 MB": 10_485_760}

_PR_SET_PDEATHSIG = 1
_NEVER_S = 1e6

Server = TypeVar("Server", bound=SharedMemoryServer)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the experiment showed.

    Args:
        rounds: how many there were.
        kills: processes killed.
        inside: of those, how many before their round was over; the others died while they waited for the next.
        repairs: shards on which another process finished the change of a dead one.
        difference: the largest between p and that of plain PyTorch.
        size: the largest entry of p.
        alone_us: by vector and optimizer: a pull and a push on arrival, and a round, by one process that computes nothing.
        gradients_per_s: on arrival, and in rounds, by two such processes together.
    """

    rounds: int
    kills: int
    inside: int
    repairs: int
    difference: float
    size: float
    alone_us: dict[str, tuple[float, float]] = field(default_factory=dict)
    gradients_per_s: dict[str, tuple[float, float]] = field(default_factory=dict)


class Problem:
    """A quadratic whose part of each lease has another centre: gᵢ = c ⊙ (p − qᵢ)."""

    def __init__(self, length: int) -> None:
        generator = torch.Generator().manual_seed(3)
        self._curvature = torch.rand(length, generator=generator) + 0.5
        self._centre = torch.randn(length, generator=generator)

    def gradient(self, p: Tensor, lease: int, out: Tensor) -> Tensor:
        """The gradient of a lease at p, into `out`. Shape (length,) each."""
        factor = (lease * 31) % 101 / 50
        return torch.add(p, self._centre, alpha=-factor, out=out).mul_(self._curvature)

    @staticmethod
    def weight(lease: int) -> float:
        """How much it counts."""
        return float(1 + lease % 5)


def deaths(rounds: int, seed: int = 0) -> Outcome:
    """Go in rounds, kill in each, and compare.

    Args:
        rounds: how many.
        seed: of the moments at which processes are killed.
    """
    problem, plan = Problem(LENGTH), _plan(NUM_WORKERS * rounds)
    server = _server(RoundServer, LENGTH, "adam", -(-LENGTH // NUM_SHARDS))
    driver = RoundTable(server, plan, _NEVER_S)
    driver.open(0)
    driver.release_all()

    def start(slot: int) -> int:
        return _fork(lambda: _compute(server, plan, slot, problem))

    chance, longest_s, inside, kills = random.Random(seed), 0.004, 0, 0
    workers = {slot: start(slot) for slot in range(NUM_WORKERS)}
    for first in range(0, plan.num_leases, NUM_WORKERS):
        driver.extend(first + NUM_WORKERS)  # this round may begin, and the next may not
        time.sleep(chance.random() * longest_s)
        slot = chance.randrange(NUM_WORKERS)
        os.kill(workers[slot], signal.SIGKILL)
        is_inside = server.words[NEXT_LEASE] == first
        longest_s *= 1.1 if is_inside else 0.8  # so that most deaths are inside, wherever that is on this machine
        inside, kills = inside + is_inside, kills + 1
        os.waitpid(workers[slot], 0)
        server.recover(slot)
        driver.release(slot)
        workers[slot] = start(slot)
        while server.words[NEXT_LEASE] == first:
            time.sleep(0.0001)
    for pid in workers.values():
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return Outcome(
        rounds=rounds,
        kills=kills,
        inside=inside,
        repairs=sum(server.words[shard.words + SHARD_REPAIRS] for shard in server.shards),
        difference=(server.p - _plain(problem, rounds)).abs().max().item(),
        size=server.p.abs().max().item(),
    )


def _compute(server: RoundServer, plan: LeasePlan, slot: int, problem: Problem) -> None:
    server.slot = slot
    table = RoundTable(server, plan, _NEVER_S)
    while not table.is_done:
        lease = table.claim(slot)
        if lease is None:
            table.pause()
            continue
        problem.gradient(server.p, lease.number, server.gradient)
        server.push(server.gradient, 0, Ticket(lease.cell, lease.epoch, 1, problem.weight(lease.number)))
    while True:
        signal.pause()


def _plain(problem: Problem, rounds: int) -> Tensor:
    p = torch.nn.Parameter(torch.zeros(LENGTH))
    optimizer = torch.optim.Adam([p], lr=RATE)
    for first in range(0, NUM_WORKERS * rounds, NUM_WORKERS):
        leases = range(first, first + NUM_WORKERS)
        found = [problem.gradient(p.detach(), lease, torch.empty(LENGTH)) * problem.weight(lease) for lease in leases]
        p.grad = sum(found, torch.zeros(LENGTH)) / sum(problem.weight(lease) for lease in leases)
        optimizer.step()
    return p.detach()


def speed(length: int, optimizer: str, duration_s: float) -> tuple[float, float]:
    """Gradients a second by two processes that compute nothing: on arrival, each pulling before; and in rounds."""
    arrival = _server(SharedMemoryServer, length, optimizer, 1 << 21)
    counts = [_measure(arrival, partial(_push_on_arrival, arrival), duration_s)]
    rounds, plan = _server(RoundServer, length, optimizer, 1 << 21), _plan(1 << 40)
    table = RoundTable(rounds, plan, _NEVER_S)
    table.open(plan.num_leases)
    table.release_all()
    counts.append(NUM_WORKERS * _measure(rounds, partial(_push_in_rounds, rounds, plan), duration_s))
    return round(counts[0], 1), round(counts[1], 1)


def _measure(server: SharedMemoryServer, work: Callable[[int], None], duration_s: float) -> float:
    """How often two processes move p in a second."""
    workers = [_fork(partial(work, slot)) for slot in range(NUM_WORKERS)]
    time.sleep(0.3)
    clock, began = server.clock, time.perf_counter()
    time.sleep(duration_s)
    moved, elapsed_s = server.clock - clock, time.perf_counter() - began
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return moved / elapsed_s


def _push_on_arrival(server: SharedMemoryServer, slot: int) -> None:
    server.slot = slot
    p = torch.empty(server.layout.num_parameters)
    while True:
        server.push(server.gradient, server.pull(p))


def _push_in_rounds(server: RoundServer, plan: LeasePlan, slot: int) -> None:
    server.slot = slot
    table = RoundTable(server, plan, _NEVER_S)
    while True:
        if not _round(server, table):
            table.pause()


def _round(server: RoundServer, table: RoundTable) -> bool:
    lease = table.claim(server.slot or 0)
    if lease is None:
        return False
    server.push(server.gradient, 0, Ticket(lease.cell, lease.epoch, 1))
    return True


def alone(length: int, optimizer: str) -> tuple[float, float]:
    """µs for a pull and a push on arrival, and for a round, by one process: the least of nine turns."""
    arrival, rounds = (_server(kind, length, optimizer, 1 << 21, num_slots=1) for kind in (SharedMemoryServer, RoundServer))
    assert isinstance(rounds, RoundServer)
    arrival.slot = rounds.slot = 0
    table, p = RoundTable(rounds, _plan(1 << 40), _NEVER_S), torch.empty(length)
    table.open(1 << 40)
    table.release_all()
    return _least_us(lambda: arrival.push(arrival.gradient, arrival.pull(p)), length), _least_us(lambda: _round(rounds, table), length)


def _least_us(work: Callable[[], object], length: int) -> float:
    times = max(5, 4_000_000 // (200 + length))
    turns = []
    for _ in range(9):
        began = time.perf_counter()
        for _ in range(times):
            work()
        turns.append((time.perf_counter() - began) / times * 1e6)
    return round(min(turns), 1)


def _plan(num_leases: int) -> LeasePlan:
    return LeasePlan(num_rows=num_leases, batch_size=1, batches_per_lease=1, seed=0, total_batches=num_leases)


def _server(kind: type[Server], length: int, optimizer: str, shard_size: int, num_slots: int = NUM_WORKERS) -> Server:
    update = build_update(OptimizerConfig(name=optimizer))
    layout = Layout(num_parameters=length, groups=((0, length),), states=tuple(update.states), num_slots=num_slots, shard_size=shard_size)
    server = kind.create(layout, update, lambda step: RATE)
    assert isinstance(server, kind)
    return server


def _fork(work: Callable[[], None]) -> int:
    pid = os.fork()
    if not pid:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        work()
        os._exit(1)
    return pid


def main() -> None:
    """Run the experiment and say what it showed. The exit status is 1 where p was off."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=500, help="with a kill in each (500)")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each figure of speed (3)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)  # a fork of a process that has computed with several threads hangs
    outcome = deaths(options.rounds)
    for name, length in SIZES.items():
        for optimizer in ("sgd", "adam"):
            outcome.alone_us[f"{name}, {optimizer}"] = alone(length, optimizer)
            outcome.gradients_per_s[f"{name}, {optimizer}"] = speed(length, optimizer, options.seconds)
    if options.json:
        print(json.dumps(asdict(outcome), indent=2))
    else:
        print(
            f"{outcome.kills} kills in {outcome.rounds} rounds, {outcome.inside} before the round's end; {outcome.repairs} shards repaired"
        )
        print(f"largest difference to torch.optim.Adam {outcome.difference:.1e}, where p is up to {outcome.size:.2f}")
        print(f"load {os.getloadavg()[0]:.1f}; on arrival and in rounds: µs of one process alone; gradients a second by two")
        for name, (arrival, together) in outcome.gradients_per_s.items():
            push, a_round = outcome.alone_us[name]
            print(f"{name:12} {push:10,.1f} {a_round:10,.1f} {a_round / push:6.2f} ×", end="")
            print(f"    {arrival:10,.1f} {together:10,.1f} {together / arrival:6.2f} ×")
    raise SystemExit(outcome.difference > 1e-6 * max(1.0, outcome.size))


if __name__ == "__main__":
    main()

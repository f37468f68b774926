"""Is a push whole or undone, at the speed of the memory, whenever its process is killed?

Two processes push Adam steps to four shards of 10 MB as fast as they can, and are killed (SIGKILL) at random moments from
outside. Under each shard's lock every application notes which push it is of. Afterwards p and both of Adam's states must equal,
bit for bit, a serial replay of the noted pushes.

    python experiments/atomic_push.py [--kills 1000] [--json]
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
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from aimass.core.memory import SharedMemory
from aimass.optim.config import OptimizerConfig
from aimass.optim.update import build_update
from aimass.parameters.base import Pushed
from aimass.parameters.layout import SHARD_CLOCK, SHARD_NEXT_CLOCK, SHARD_OWNER, SHARD_REPAIRS, SHARD_SEQUENCE, SLOT_SEQUENCE, Layout
from aimass.parameters.shared_memory import SharedMemoryServer
from aimass.parameters.views.shards import Shard

SHARD_LENGTH = 2_500_000
NUM_SHARDS = 4
NUM_WORKERS = 2
RATE = 1e-3
JOURNAL_LENGTH = 1 << 20
BYTES_A_PARAMETER = 28  # Adam reads g, p, m and v and writes p, m and v, 4 bytes each

_KILL_BOTH = 0.15
_LONGEST_LIFE_S = 0.15
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the experiment showed.

    Args:
        kills: processes killed.
        inside_push: of those, how many had a push admitted and not ended.
        repairs: shards on which another process finished the push of a dead one that held the lock.
        pushes: applied, and replayed.
        whole: every push of every worker was applied once to every shard.
        equal: p and the states have the bits of the serial replay.
        push_gb_per_s: while nobody was killed, the bytes that Adam must move over the time between pushes. The making and the
            screening of gradients take a part of that time.
        triad_gb_per_s: of the memory, in the same run; one thread.
    """

    kills: int
    inside_push: int
    repairs: int
    pushes: int
    whole: bool
    equal: bool
    push_gb_per_s: float
    triad_gb_per_s: float


class JournalServer(SharedMemoryServer):
    """Notes which push each application to a shard is of: (slot, sequence) at the index of the shard's clock."""

    journal: memoryview

    def _change(self, shard: Shard, slot: int, first_chunk: int) -> None:
        at = 2 * (shard.index * JOURNAL_LENGTH + self.words[shard.words + SHARD_NEXT_CLOCK] - 1)
        self.journal[at] = slot
        self.journal[at + 1] = self.words[shard.words + SHARD_SEQUENCE]
        super()._change(shard, slot, first_chunk)


class Gradients:
    """A gradient that follows from the worker's slot and the number of its push alone."""

    def __init__(self, length: int) -> None:
        generator = torch.Generator().manual_seed(7)
        self._base = torch.randn(length, generator=generator)

    def write(self, slot: int, sequence: int, start: int, out: Tensor) -> None:
        """Elements `start` and on of the gradient, into `out` of shape (n,)."""
        factor = ((sequence * 31 + slot * 17) % 101 - 50) / 25
        torch.mul(self._base[start : start + len(out)], factor, out=out)


def run(kills: int, shard_length: int = SHARD_LENGTH, seed: int = 0, steady_s: float = 3.0) -> Outcome:
    """Push, kill, replay, compare.

    Args:
        kills: how many processes to kill, at least.
        shard_length: parameters per shard.
        seed: of the moments at which processes are killed.
        steady_s: how long the speed is measured before the first kill.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a fork of a process that has computed with several threads hangs
    try:
        triad = _triad_gb_per_s(4 * shard_length)
        server, gradients = _make_server(shard_length), Gradients(NUM_SHARDS * shard_length)
        workers = {slot: _start(server, gradients, slot) for slot in range(NUM_WORKERS)}
        speed = _measure(server, steady_s)
        killed, inside = _kill(kills, server, workers, lambda slot: _start(server, gradients, slot), random.Random(seed))
        for slot, pid in workers.items():
            _end(pid)
            inside += server.recover(slot)
        words = server.words
        assert not any(words[shard.words + SHARD_OWNER] for shard in server.shards), "a shard still has an owner"
        return Outcome(
            kills=killed + NUM_WORKERS,
            inside_push=inside,
            repairs=sum(words[shard.words + SHARD_REPAIRS] for shard in server.shards),
            pushes=server.clock,
            whole=_is_whole(server),
            equal=_equals_replay(server, gradients),
            push_gb_per_s=round(speed, 2),
            triad_gb_per_s=round(triad, 2),
        )
    finally:
        torch.set_num_threads(threads)


def _make_server(shard_length: int) -> JournalServer:
    update = build_update(OptimizerConfig(name="adam"))
    length = NUM_SHARDS * shard_length
    layout = Layout(
        num_parameters=length, groups=((0, length),), states=tuple(update.states), num_slots=NUM_WORKERS, shard_size=shard_length
    )
    server = JournalServer.create(layout, update, lambda step: RATE)
    assert isinstance(server, JournalServer)
    server.journal = SharedMemory.create(16 * NUM_SHARDS * JOURNAL_LENGTH).view.cast("q")
    return server


def _start(server: JournalServer, gradients: Gradients, slot: int) -> int:
    """Fork a worker that pushes for ever."""
    pid = os.fork()
    if pid:
        return pid
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    server.slot = slot
    while True:
        sequence = server.words[server.layout.slot(slot) + SLOT_SEQUENCE] + 1
        gradients.write(slot, sequence, 0, server.gradient)
        if server.push(server.gradient, server.clock) is not Pushed.APPLIED:
            os._exit(1)


def _measure(server: JournalServer, duration_s: float) -> float:
    """The two processes' speed together, in GB/s."""
    time.sleep(min(duration_s, 0.5))
    clock, start = server.clock, time.perf_counter()
    time.sleep(duration_s)
    pushes, elapsed_s = server.clock - clock, time.perf_counter() - start
    return pushes * BYTES_A_PARAMETER * server.layout.num_parameters / elapsed_s / 1e9


def _kill(
    kills: int, server: JournalServer, workers: dict[int, int], start: Callable[[int], int], generator: random.Random
) -> tuple[int, int]:
    """Kill one worker or both at a random moment, put right what they left, start them again; and so on."""
    killed = inside = 0
    while killed < kills:
        time.sleep(generator.random() * _LONGEST_LIFE_S)
        chosen = list(workers) if generator.random() < _KILL_BOTH else [generator.randrange(NUM_WORKERS)]
        for slot in chosen:
            os.kill(workers[slot], signal.SIGKILL)
        for slot in chosen:
            status = os.waitstatus_to_exitcode(os.waitpid(workers[slot], 0)[1])
            assert status == -signal.SIGKILL, f"the worker ended by itself with status {status}"
        for slot in chosen:
            inside += server.recover(slot)
            workers[slot] = start(slot)
        killed += len(chosen)
    return killed, inside


def _end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _notes(server: JournalServer, shard: Shard) -> list[tuple[int, int]]:
    """(slot, sequence) of every application to a shard, in order."""
    first, clock = 2 * shard.index * JOURNAL_LENGTH, server.words[shard.words + SHARD_CLOCK]
    assert clock <= JOURNAL_LENGTH, "the journal is too short; use fewer kills"
    return [(server.journal[first + 2 * i], server.journal[first + 2 * i + 1]) for i in range(clock)]


def _is_whole(server: JournalServer) -> bool:
    """Each worker's pushes are 1, 2, 3, ... on each shard, up to the last one that was admitted."""
    last = [server.words[server.layout.slot(slot) + SLOT_SEQUENCE] for slot in range(NUM_WORKERS)]
    expected = {(slot, sequence) for slot in range(NUM_WORKERS) for sequence in range(1, last[slot] + 1)}
    notes = [_notes(server, shard) for shard in server.shards]
    return all(len(noted) == len(expected) and set(noted) == expected for noted in notes)


def _equals_replay(server: JournalServer, gradients: Gradients) -> bool:
    """Apply what was noted to a vector of zeros, with the same kernel, whole shards at a time, and compare the bits."""
    update = build_update(OptimizerConfig(name="adam"))
    for shard in server.shards:
        length = shard.stop - shard.start
        p, gradient, *states = (torch.zeros(length) for _ in range(2 + len(update.states)))
        for step, (slot, sequence) in enumerate(_notes(server, shard), start=1):
            gradients.write(slot, sequence, shard.start, gradient)
            update.apply(p, gradient, states, step, RATE, 0.0)
        for ours, theirs in zip([server.p, *server.states], [p, *states], strict=True):
            if not torch.equal(ours[shard.start : shard.stop].view(torch.int32), theirs.view(torch.int32)):
                return False
    return True


def _triad_gb_per_s(length: int) -> float:
    a, b, c = (torch.ones(length) for _ in range(3))
    taken = []
    for _ in range(7):
        start = time.perf_counter()
        torch.add(b, c, alpha=0.5, out=a)
        taken.append(time.perf_counter() - start)
    return 12 * length / sorted(taken)[3] / 1e9


def main() -> None:
    """Run the experiment and say what it showed. The exit status is 1 where a bit was off."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=1000, help="processes to kill (1000)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    start = time.perf_counter()
    outcome = run(options.kills)
    elapsed_s = time.perf_counter() - start
    if options.json:
        print(json.dumps({**asdict(outcome), "elapsed_s": round(elapsed_s, 1)}, indent=2))
    else:
        share = outcome.push_gb_per_s / outcome.triad_gb_per_s
        print(f"{outcome.kills} kills, {outcome.inside_push} inside a push, {outcome.repairs} shards repaired, in {elapsed_s:.0f} s")
        print(f"{outcome.pushes} pushes, each once on every shard: {outcome.whole}; bits equal a serial replay: {outcome.equal}")
        print(f"{outcome.push_gb_per_s} GB/s of atomic Adam by two processes, which also make the gradients:")
        print(f"{share:.0%} of the triad's {outcome.triad_gb_per_s} GB/s by one thread")
    raise SystemExit(not (outcome.whole and outcome.equal))


if __name__ == "__main__":
    main()

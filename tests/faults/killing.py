"""A worker that kills itself at chosen moments of a push, with integer-valued updates whose sum shows every batch.

It runs the real worker on the real server; only the gradient and the update are replaced, and a SIGKILL is aimed.
"""

import os
import random
import signal
import time

import torch
from faults.fate import KILLS, QUOTA, WHERE  # here in each worker's own slot, and of stops too

from aimass.optim.update import Update
from aimass.parameters.blocks import BlockServer
from aimass.parameters.handing import HandingServer
from aimass.parameters.layout import STOP, WANTED, Layout
from aimass.parameters.shared_memory import SharedMemoryServer
from aimass.training import planes
from aimass.training.workers import entry

POINTS = ("in p", "in first", "in second", "before shard", "between shards", "before commit", "after commit", "in claim", "anywhere")

small_layout = {"shard_size": 96, "chunk_size": 20}


class IntegerUpdate(Update):
    """p ← p + g, first ← first + g, second ← second + 2 g: exact, and the same in any order."""

    states = ("first", "second")

    def __init__(self):
        self.reached = lambda point: None

    def apply(self, p, gradient, states, step, lr, weight_decay):
        half = len(p) // 2
        for name, target, factor in (("in p", p, 1), ("in first", states[0], 1), ("in second", states[1], 2)):
            target[:half] += factor * gradient[:half]
            self.reached(name)
            target[half:] += factor * gradient[half:]


class IntegerAdd(IntegerUpdate):
    """p ← p + Δ."""

    states = ()

    def apply(self, p, gradient, states, step, lr, weight_decay):
        half = len(p) // 2
        p[:half] += gradient[:half]
        self.reached("in p")
        p[half:] += gradient[half:]


def integer_gradient(rows, length):
    """A gradient that depends on which rows are in the batch: integers from 0 to 6, shape (length,)."""
    return ((int(rows.sum()) * 31 + torch.arange(length)) % 7).float()


def integer_loss(rows):
    """A loss that depends on which rows are in the batch: below 1, and added up without rounding."""
    return int(rows.sum()) % 11 / 64


class Killing(SharedMemoryServer):
    """Dies once, at the n-th time that a chosen point is reached; or stands still there, and may go on some time later."""

    points = POINTS
    signal = signal.SIGKILL
    goes_on = False

    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        self.update.reached = self.reached
        at = self.layout.slot(self.slot)
        self._generator = generator = random.Random(time.monotonic_ns())
        self._left = generator.randint(3, 25) if self.words[at + KILLS] < self.words[at + QUOTA] else -1
        self._point = generator.choice(self.points)
        if self._left > 0 and self._point == "anywhere":
            self._alarm(generator.random() * 0.02)

    def _alarm(self, delay_s):
        """SIGKILL at a random moment, by a timer that no Python code can put off."""
        at = self.layout.slot(self.slot)
        self.words[at + KILLS] += 1
        self.words[at + WHERE + POINTS.index("anywhere")] += 1
        send_later(signal.SIGKILL, 0.03 + delay_s)

    def reached(self, point):
        if point != self._point or self._left < 0:
            return
        self._left -= 1
        if self._left == 0:
            at = self.layout.slot(self.slot)
            self.words[at + KILLS] += 1
            self.words[at + WHERE + POINTS.index(point)] += 1
            if self.goes_on:
                self._go_on_after(2.5 if self.words[at + KILLS] == 2 else 0.3 * self._generator.random())
            os.kill(os.getpid(), self.signal)

    def _go_on_after(self, delay_s):
        """Once, longer than the driver is patient with."""
        send_later(signal.SIGCONT, delay_s)
        if self.words[self.layout.slot(self.slot) + KILLS] < self.words[self.layout.slot(self.slot) + QUOTA]:
            self._left, self._point = self._generator.randint(3, 25), self._generator.choice(self.points)

    def _apply(self, shard, slot):
        self.reached("before shard" if shard.index == 0 else "between shards")
        super()._apply(shard, slot)

    def _commit(self, slot):
        self.reached("before commit")
        super()._commit(slot)
        self.reached("after commit")


class KillingServer(Killing):
    """Applies its own pushes."""


class KillingHandingServer(Killing, HandingServer):
    """Applies what others handed over too."""


class KillingBlockServer(Killing, BlockServer):
    """Owns a block."""


def send_later(number, delay_s):
    """A signal to this process, by another that outlives it."""
    pid = os.getpid()
    if os.fork() == 0:
        try:
            time.sleep(delay_s)
            os.kill(pid, number)
        finally:
            os._exit(0)


class KillingTable(planes.LeaseTable):
    """Has nothing for a worker that need not die any more until all others have died as often as they shall: the run could end before."""

    def claim(self, slot):
        return None if self._must_others_die() else super().claim(slot)

    def _must_others_die(self):
        words, layout = self.words, self.server.layout
        if not isinstance(self.server, Killing) or words[WANTED] < layout.num_slots or words[STOP]:
            return False  # it is the driver's, or who is missing may not come
        left = [words[layout.slot(slot) + QUOTA] - words[layout.slot(slot) + KILLS] for slot in range(layout.num_slots)]
        return left[self.server.slot] <= 0 < max(left)

    def _take(self, index, slot):
        if isinstance(self.server, Killing):
            self.server.reached("in claim")
        return super()._take(index, slot)


class IntegerLearner(entry.Learner):
    def gradient(self, batch):
        self.gradient_vector.copy_(integer_gradient(batch["rows"], len(self.gradient_vector)))
        return integer_loss(batch["rows"]), self.gradient_vector


def main(context):
    """The worker's entry, run in the forked process."""
    planes.SharedMemoryServer, planes.HandingServer, planes.BlockServer = KillingServer, KillingHandingServer, KillingBlockServer
    planes.LeaseTable = KillingTable
    entry.Learner = IntegerLearner
    entry.build_update = lambda config: IntegerUpdate()
    planes.Add = IntegerAdd
    worker_main(context)


class OnesLearner(entry.Learner):
    def gradient(self, batch):
        return 1.0, self.gradient_vector.fill_(1.0)


def die_in_blocks(context):
    """An entry whose worker finds ones, so that each block is as large as the number of pushes that it met."""
    global IntegerLearner
    IntegerLearner = OnesLearner
    Killing.points = tuple(point for point in POINTS if not point.endswith(("shard", "shards")))  # who owns one shard comes by one of them
    main(context)


def die_in_tasks(context):
    """An entry whose worker pushes changes, which have no optimizer's states with them."""
    KillingServer.points = tuple(point for point in POINTS if point not in ("in first", "in second"))
    main(context)


class Doomed(Killing):
    """Dies inside its first push, one like the other, in a slot above 0 or in every one."""

    spares_first = False

    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        self._point, self._left = "in second", 0 if self.spares_first and self.slot == 0 else 1


class DoomedServer(Doomed):
    """Applies its own pushes."""


class DoomedHandingServer(Doomed, HandingServer):
    """Applies what others handed over too."""


class DoomedBlockServer(Doomed, BlockServer):
    """Owns a block."""


def die_in_every_push(context):
    """An entry whose worker dies inside its first push, and so does each that takes its place."""
    global KillingServer, KillingHandingServer, KillingBlockServer
    KillingServer, KillingHandingServer, KillingBlockServer = DoomedServer, DoomedHandingServer, DoomedBlockServer
    main(context)


def die_in_every_push_but_first(context):
    """The same, but that the worker in slot 0 lives."""
    Doomed.spares_first = True
    die_in_every_push(context)


def stop_in_push(context):
    """An entry whose worker does not die in the middle of a push, but stands still."""
    Killing.points, Killing.signal = ("in first",), signal.SIGSTOP
    main(context)


def stop_and_go_on(context):
    """An entry whose worker stands still again and again, wherever it is, and goes on."""
    Killing.points, Killing.signal, Killing.goes_on = POINTS[:-1], signal.SIGSTOP, True
    main(context)


def stop_in_claim(context):
    """An entry whose worker stands still while it takes a lease, and holds the table."""
    Killing.points, Killing.signal = ("in claim",), signal.SIGSTOP
    main(context)


worker_main = entry.main


def layout(**plan):
    return Layout(**{**plan, **small_layout})

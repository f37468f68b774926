"""One worker's part in its group: it does its share of each exchange; and while it is the supernode, it also leads the exchanges.

An exchange of a group with the root:

1. *Cut.* The supernode takes the next batches of the group's lease. It divides their rows among the members that are there, by their
   speeds, and writes the exchange's number, which is the word that counts. Who shall go to another group gets none, and goes.
2. *Compute.* Each member finds the change of its rows at the group's p, which stands still, in its own slot, and hands it in: with its
   state s = (the clock of p, its turn), its loss, its weight and the time it took.
3. *Combine.* The supernode adds up Σ wᵢ gᵢ / Σ wᵢ in the group's slot. The share of a member that is gone it does itself.
4. *Exchange.* It pushes the combination to the root, with the batches' ticket: they are committed with it, or not at all. It fetches the
   root's p into the group's. The table of members is in the block, where all see it.

Whoever waits and finds nobody in the role becomes the supernode, and cuts anew what was not pushed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import median
from typing import TYPE_CHECKING

from aimass.parameters.base import Pushed, Ticket
from aimass.parameters.views.members import (
    EXCHANGE,
    EXCHANGES,
    GROUP_CLOCK,
    HANDED_IN,
    OVER,
    PRESENT,
    REFUSED,
    ROOT_RECEIVED,
    ROOT_SENT,
    ROWS_DONE,
    SHARE,
    SHARE_EXCHANGE,
    SHARE_LEASE,
    SHARE_LOSS,
    SHARE_NS,
    SHARE_START,
    SHARE_STOP,
    SHARE_WEIGHT,
    SPEED,
    Share,
)
from aimass.training.groups.cuts import cut, divide, smooth
from aimass.training.groups.member import Member
from aimass.training.health.operations import LEASING, PUSHING, WAITING

if TYPE_CHECKING:
    from torch import Tensor

    from aimass.data.batch import Batch
    from aimass.optim.local import LocalOptimizer
    from aimass.training.leases.table import Lease
    from aimass.training.workers.worker import Worker

_MEASURED_EXCHANGES = 6

Find = Callable[[Iterator["Batch"]], tuple[float, "Tensor"]]
"""Finds the mean loss of some batches, and the change that they make, where it is to be pushed from."""


class Group(Member):
    """One worker's membership, with what it does while it is the supernode. In another group it is another.

    Args:
        worker: who it is.
        num_batches: of one exchange.
        balances: whether shares follow the speed that was measured of each member.
        optimizer: with which this worker moves a p of its own, if it does; shares are then of whole batches.
    """

    def __init__(self, worker: Worker, num_batches: int, *, balances: bool, optimizer: LocalOptimizer | None = None) -> None:
        super().__init__(worker, optimizer)
        self._root = self._server.of_group()
        self._num_batches, self._balances = num_batches, balances
        layout = self._server.layout
        self._members = [layout.slot(slot) for slot in range(layout.num_workers)]
        self._lease: Lease | None = None
        self._done = 0  # batches of the lease that are committed
        self._ticket: Ticket | None = None
        self._others: dict[int, tuple[int, Share]] = {}  # who else has a share of this exchange: by what number it is present, and which
        self._clock = 0
        self._times: dict[int, list[int]] = {}  # how long each member's shares took since they were settled
        self._num_timed = 0
        self._has_told = False

    def shares(self) -> Iterator[Share]:
        """This worker's share of each exchange, until the run ends. The supernode's own may be empty."""
        while not self._worker.must_leave and not self.has_moved:
            if self.leads and self._is_called_away and self._move(None):
                return
            share = self._cut() if self.leads else self._wait_for_share()
            if share is not None:
                self._patience.over()
                self._begin(share)
                yield share
            elif self._words[self._at + OVER]:
                return

    def _take_role(self) -> bool:
        if not self._server.take_role():
            return False
        self.leads, self._lease = True, None
        self._fetch()
        return True

    def _cut(self) -> Share | None:
        """Begin the next exchange, and return this worker's own share of it. None where there is nothing to do just now."""
        lease = self._lease
        if lease is None or self._done >= lease.num_batches or not self._leases.holds(lease):
            self._worker.does_still(LEASING)
            lease = self._lease = self._leases.claim(self._slot)
            if lease is None:
                self._idle()
                return None
            self._done, self._has_told = lease.committed, False
        return self._publish(lease)

    def _idle(self) -> None:
        """There is no lease to take: see whether there will be one."""
        if not self._has_told:
            self._has_told = True
            self._worker.tell()
        if self._leases.is_done:
            self._words[self._at + OVER] = 1
        else:
            self._leases.pause()

    def _publish(self, lease: Lease) -> Share:
        words, plan = self._words, self._leases.plan
        stop = min(self._done + self._num_batches, lease.num_batches)
        first_row = self._done * plan.batch_size
        end = min(stop * plan.batch_size, len(plan.rows(lease.number)))
        unit = plan.batch_size if self._moves_p else 1
        num_units = -(-(end - first_row) // unit)
        with self._server.members_held():
            there = self._expected()
            exchange = self._server.next_exchange(words[self._at + EXCHANGE])
            self._others, own = {}, Share(exchange, lease.number, 0, 0)
            for (slot, number), (low, high) in zip(there.items(), cut(num_units, self._divide(list(there))), strict=True):
                share = Share(exchange, lease.number, min(first_row + low * unit, end), min(first_row + high * unit, end))
                self._give(slot, share)
                if slot == self._worker.slot:
                    own = share
                elif share.num_rows:
                    self._others[slot] = number, share
            self._leases.renew(lease.cell)
            words[self._at + EXCHANGE] = exchange
        self._ticket = Ticket(lease.cell, lease.epoch, stop)
        return own

    def _expected(self) -> dict[int, int]:
        """Who takes part in the next exchange: the members that are there and are not called away, each with its number."""
        server, own = self._server, self._worker.slot
        there = server.present(server.group)
        return {slot: number for slot, number in there.items() if slot == own or server.assigned(slot) == server.group}

    def _divide(self, slots: list[int]) -> list[float]:
        """The share of each of some members in the next exchange. It is settled anew every few exchanges, by the medians of the times that
        the shares took, so that neither a moment without a core nor a share of another size counts; and where members come or go."""
        if not self._balances:
            self._times.clear()
            return [1 / len(slots)] * len(slots)
        at, reals = [self._members[slot] for slot in slots], self._reals
        shares, is_new = [reals[one + SHARE] for one in at], slots != list(self._times)
        self._num_timed += 1
        if is_new or self._num_timed >= _MEASURED_EXCHANGES:
            times = [] if is_new else [median(self._times[slot]) if self._times[slot] else 0.0 for slot in slots]
            shares = divide(shares, times or [0.0] * len(slots))
            for one, share in zip(at, shares, strict=True):
                reals[one + SHARE] = share
            self._times, self._num_timed = {slot: [] for slot in slots}, 0
        return shares

    def _give(self, slot: int, share: Share) -> None:
        words, at = self._words, self._members[slot]
        words[at + SHARE_EXCHANGE] = 0
        words[at + SHARE_LEASE], words[at + SHARE_START], words[at + SHARE_STOP] = share.lease, share.start, share.stop
        self._leases.expect(slot)
        words[at + SHARE_EXCHANGE] = share.exchange

    def combine(self, own: Share, find: Find) -> float:
        """Add up, in the group's slot, what the members have found: Σ wᵢ gᵢ / Σ wᵢ. What those that are gone have not handed in is found
        here, once nobody is waited for.

        Args:
            own: this worker's share, which it has handed in where it is not empty.
            find: finds the change of a share.

        Returns:
            Σ wᵢ; below 0 where no vector was finite.
        """
        combined, missing = self._root.gradient.zero_(), []
        self._states.clear()
        weights = [self._add(self._worker.slot, own.num_rows, combined)] if own.num_rows else []
        for slot, (_, share) in self._others.items():
            if self._is_handed_in(slot, own.exchange):
                weights.append(self._add(slot, share.num_rows, combined))
            else:
                missing.append(share)
        for share in missing:
            self._begin(share)
            self.hand_in(share, *find(self.batches(share)))
            weights.append(self._add(self._worker.slot, share.num_rows, combined))
        finite = [weight for weight in weights if weight >= 0]
        total = sum(finite)
        if total:
            combined.div_(total)
        return total if finite else REFUSED

    def exchange(self, weight: float) -> None:
        """Push the combination to the root, and fetch the root's p.

        Args:
            weight: what `combine` gave.
        """
        worker, words, ticket = self._worker, self._words, self._ticket
        assert ticket is not None, "an exchange was begun"
        worker.does(PUSHING)
        others = len(self._others) * self._member_bytes
        worker.moved(sent=worker.vector_bytes, received=others)
        words[self._at + ROOT_SENT] += worker.vector_bytes
        if weight == REFUSED:
            self._root.skip(ticket)
        elif self._root.push(self._root.gradient, self._clock, ticket) is Pushed.LEASE_LOST:
            self._lease = None
        else:
            self._states.settle()
        self._done = ticket.committed
        words[self._at + EXCHANGES] += 1
        self._fetch()
        worker.moved(sent=others)

    @property
    def combination(self) -> Tensor:
        """What is pushed to the root. Shape (num_parameters,)."""
        return self._root.gradient

    def _fetch(self) -> None:
        self._clock = self._words[self._at + GROUP_CLOCK] = self._root.pull(self._server.group_p)
        self._worker.moved(received=self._worker.vector_bytes)
        self._words[self._at + ROOT_RECEIVED] += self._worker.vector_bytes

    def _is_handed_in(self, slot: int, exchange: int) -> bool:
        """Wait for a member's share. False where the member is gone, and has not handed it in."""
        words, at, (number, _) = self._words, self._members[slot], self._others[slot]
        if words[at + HANDED_IN] != exchange:
            self._worker.does(WAITING)
            while words[at + HANDED_IN] != exchange and words[at + PRESENT] == number:
                self._patience.pause()
                self._renew()
            self._patience.over()
        return words[at + HANDED_IN] == exchange

    def _add(self, slot: int, num_rows: int, combined: Tensor) -> float:
        """Add what a member has handed in, report it as that member's, and return its weight."""
        words, reals, at = self._words, self._reals, self._members[slot]
        weight = reals[at + SHARE_WEIGHT]
        if weight >= 0:
            combined.add_(self._server.gradients[slot], alpha=weight)
            self._states.add(slot, weight)
        if took_ns := words[at + SHARE_NS]:
            self._times.setdefault(slot, []).append(took_ns)
            reals[at + SPEED] = smooth(reals[at + SPEED], num_rows * 1e9 / took_ns)
        words[at + ROWS_DONE] += num_rows
        counted = weight if weight >= 0 else num_rows  # a change that is not finite comes without its weight
        num_batches = -(-num_rows // self._leases.plan.batch_size)
        self._root.add_report(slot, words[self._at + EXCHANGE], num_batches, num_rows, reals[at + SHARE_LOSS], counted)
        return weight

    def _renew(self) -> None:
        if self.leads and self._ticket is not None:
            self._leases.renew(self._ticket.cell)

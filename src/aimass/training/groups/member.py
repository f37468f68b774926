"""One worker as a member of its group: it waits for its share of an exchange, finds the change of it, and hands that in."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Self

from aimass.parameters.groups import GroupServer
from aimass.parameters.handle import is_finite
from aimass.parameters.layout import SLOT_PULLED, SLOT_REFUSED
from aimass.parameters.views.members import (
    EXCHANGE,
    GROUP_CLOCK,
    HANDED_IN,
    OVER,
    PRESENT,
    REFUSED,
    SHARE_EXCHANGE,
    SHARE_LEASE,
    SHARE_LOSS,
    SHARE_NS,
    SHARE_START,
    SHARE_STOP,
    SHARE_WEIGHT,
    TURNS,
    Share,
)
from aimass.training.groups.states import States
from aimass.training.health.operations import PULLING, WAITING
from aimass.training.leases.groups import GroupTable
from aimass.training.leases.patience import Patience
from aimass.training.leases.rows import slice_batch

if TYPE_CHECKING:
    from torch import Tensor

    from aimass.data.batch import Batch
    from aimass.optim.local import LocalOptimizer
    from aimass.training.workers.worker import Worker


class Member(ABC):
    """One worker's membership. It is a context: who leaves it is waited for no longer.

    Args:
        worker: who it is.
        optimizer: with which it moves a p of its own, if it does.

    Attributes:
        leads: whether this worker is the supernode.
        has_moved: whether it has left for another group.
    """

    def __init__(self, worker: Worker, optimizer: LocalOptimizer | None = None) -> None:
        assert isinstance(worker.server, GroupServer)
        assert isinstance(worker.leases, GroupTable)
        self._worker, self._server, self._leases = worker, worker.server, worker.leases
        self._states, self._moves_p = States(worker, optimizer), optimizer is not None
        self._words, self._reals, layout = self._server.words, self._server.reals, self._server.layout
        self._slot = layout.group_slot(self._server.group)
        self._at, self._own = layout.slot(self._slot), layout.slot(worker.slot)
        self._patience = Patience()
        self._seen = self._began_ns = 0
        self._weight = 0.0  # of the share in hand
        self._is_warm = False
        self.leads = self.has_moved = False

    def __enter__(self) -> Self:
        self._seen = self._words[self._at + EXCHANGE]  # an exchange that is under way goes on without it
        self._server.come(os.getpid())
        return self

    def __exit__(self, *exception: object) -> None:
        if self.has_moved:
            return
        self._words[self._own + PRESENT] = 0
        if self.leads:
            self._server.leave_role()
            self.leads = False

    def batches(self, share: Share) -> Iterator[Batch]:
        """A share's rows: batch by batch where steps are taken on them, else up to two batches at a time, since a fast member's share is
        a little more than one."""
        worker, size = self._worker, self._leases.plan.batch_size
        if not self._moves_p:
            size = -(-share.num_rows // -(-share.num_rows // (2 * size)))
        everything = worker.take(self._leases.plan.rows(share.lease)[share.start : share.stop])
        first, self._weight = self._leases.plan.first_batch(share.lease), 0.0
        for start in range(0, share.num_rows, size):
            batch = slice_batch(everything, start, min(start + size, share.num_rows))
            worker.begin(batch, first + (share.start + start) // self._leases.plan.batch_size)
            self._weight += worker.weight
            yield batch
            self._leases.expect(worker.slot)
            self._renew()

    def hand_in(self, share: Share, loss: float, change: Tensor) -> None:
        """Give the supernode what was found on a share, with this worker's state.

        Args:
            share: what it is of.
            loss: over its rows.
            change: shape (num_parameters,).
        """
        words, reals, at, own = self._words, self._reals, self._own, self._server.gradient
        if change.data_ptr() != own.data_ptr():
            own.copy_(change)
        finite = is_finite(change)
        words[at + SLOT_REFUSED] += not finite
        reals[at + SHARE_WEIGHT] = self._weight if finite else REFUSED
        reals[at + SHARE_LOSS] = loss
        words[at + SHARE_NS] = time.monotonic_ns() - self._began_ns if self._is_warm else 0
        self._is_warm = True
        words[at + SLOT_PULLED] = words[self._at + GROUP_CLOCK]
        words[at + TURNS] += 1
        if not self.leads:
            self._worker.moved(sent=self._member_bytes, received=self._member_bytes)
        self._states.show()
        words[at + HANDED_IN] = share.exchange

    @property
    def _member_bytes(self) -> int:
        """What a member and its supernode send one another for a share, each way: a change or p, and states."""
        return self._worker.vector_bytes + self._states.size_bytes

    def _begin(self, share: Share) -> None:
        self._began_ns = time.monotonic_ns()
        worker, gradient, group_p = self._worker, self._server.gradient, self._server.group_p
        is_bound = worker.learner.gradient_vector is gradient and worker.learner.parameters is group_p
        if worker.binds and not is_bound:  # from here on nobody reads what a dead one left in the slot
            worker.learner.bind(group_p, gradient, copy_module=False)
        worker.does(PULLING)
        if self._moves_p:
            worker.learner.parameters.copy_(self._server.group_p)
        self._states.begin()

    def _wait_for_share(self) -> Share | None:
        """The next share of this worker; None where it leads or has moved, or where there is nothing left to do."""
        words = self._words
        self._worker.does_still(WAITING)
        while not self._worker.must_leave and not words[self._at + OVER]:
            exchange = words[self._at + EXCHANGE]
            if exchange != self._seen and (share := self._read_share(exchange)) is not None:
                self._seen = exchange
                if share.num_rows:
                    return share
                if self._is_called_away and self._move(exchange):
                    return None
            if self._patience.pause() and self._take_role():
                return None
        return None

    @property
    def _is_called_away(self) -> bool:
        """Whether this worker is assigned to another group."""
        return self._server.assigned(self._worker.slot) != self._server.group

    def _move(self, seen: int | None) -> bool:
        """Leave for the group where this worker is assigned.

        Args:
            seen: the exchange in which it has nothing to do; None for the supernode.
        """
        self.has_moved = self._server.go(seen, self._leases.vacate)
        self.leads = self.leads and not self.has_moved
        return self.has_moved

    def _read_share(self, exchange: int) -> Share | None:
        """This worker's share of an exchange. None while another is being written; an empty one where it has none."""
        words, at = self._words, self._own
        if words[at + SHARE_EXCHANGE] != exchange:
            return Share(exchange, 0, 0, 0) if words[self._at + EXCHANGE] == exchange else None
        share = Share(exchange, words[at + SHARE_LEASE], words[at + SHARE_START], words[at + SHARE_STOP])
        return share if words[at + SHARE_EXCHANGE] == exchange else None

    @abstractmethod
    def _take_role(self) -> bool:
        """Become the supernode, if there is none."""

    @abstractmethod
    def _renew(self) -> None:
        """Work is done on the group's lease: put its deadline off, if this is the supernode."""

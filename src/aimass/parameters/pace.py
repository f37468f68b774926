"""Bounded staleness: how far workers may run ahead of the slowest.

    a worker may begin its step c while   c − min over the workers present of their steps done ≤ k

SLOT_CLOCK counts a worker's steps done, SLOT_STATE says whether others wait for it. Each worker writes its own two words and reads
the others'; the driver marks the dead and the late as absent. The minimum never falls:

1. A worker that comes in, at first or again, says JOINING before it looks for the minimum. Nobody begins a step meanwhile.
2. It takes the minimum of those present as its own count, unless its own is higher, or the largest count of all where nobody is present.
   A worker in place of a dead one does not inherit its count.
3. It says AT_WORK. Those who come in do so one after another, under a lock.

So whoever finds its lead within the bound may begin without a lock: the others can only have come closer. The slowest is never held
back, and a worker that is dead, late or without data holds back nobody.

Source: Ho et al., More effective distributed ML via a stale synchronous parallel parameter server, NIPS 2013.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from aimass.parameters.layout import ABSENT, AT_WORK, JOINING, LEASE_LOCK, SLOT_CLOCK, SLOT_HELD_NS, SLOT_LEAD, SLOT_STATE, WITHOUT_DATA

if TYPE_CHECKING:
    from aimass.parameters.shared_memory import SharedMemoryServer

_TRIES = 8  # before it sleeps
_SHORTEST_NAP_S, _LONGEST_NAP_S = 0.00005, 0.002


class Pace:
    """One worker's view of how far the others are.

    Args:
        server: whose block holds the counts.
        slot: which worker this is.
        bound: k ≥ 0, the largest lead over the slowest, in steps.
    """

    def __init__(self, server: SharedMemoryServer, slot: int, bound: int) -> None:
        self._server, self._words, self._bound = server, server.words, bound
        slots = [server.layout.slot(i) for i in range(server.layout.num_slots)]
        self._at = slots[slot]
        self._others = [at for at in slots if at != self._at]
        self._is_new = True

    def begin(self, goes_on: Callable[[], bool]) -> bool:
        """Wait until this worker's next step is within the bound.

        Args:
            goes_on: asked while it waits; False ends the waiting.

        Returns:
            whether the step may begin.
        """
        words, at = self._words, self._at
        if words[at + SLOT_STATE] != AT_WORK:
            self._join()
        lead = self.lead
        if lead is None or lead > self._bound:
            since_ns = time.monotonic_ns()
            lead = self._wait(goes_on)
            words[at + SLOT_HELD_NS] += time.monotonic_ns() - since_ns
            if lead is None:
                return False
        if lead >= words[at + SLOT_LEAD]:
            words[at + SLOT_LEAD] = lead + 1
        return True

    def end(self) -> None:
        """Count a step as done."""
        self._words[self._at + SLOT_CLOCK] += 1

    def rest(self) -> None:
        """There is no data just now, or none any more: nobody shall wait for this worker."""
        self._words[self._at + SLOT_STATE] = WITHOUT_DATA

    @property
    def lead(self) -> int | None:
        """How many steps this worker is ahead of the slowest one present; None while another one comes in."""
        words = self._words
        own = slowest = words[self._at + SLOT_CLOCK]
        for at in self._others:
            state = words[at + SLOT_STATE]
            if state == AT_WORK:
                clock = words[at + SLOT_CLOCK]
                if clock < slowest:
                    slowest = clock
            elif state == JOINING:
                return None
        return own - slowest

    def _join(self) -> None:
        words, at = self._words, self._at
        words[at + SLOT_STATE] = JOINING
        with self._server.locks.held(LEASE_LOCK):
            present = [words[other + SLOT_CLOCK] for other in self._others if words[other + SLOT_STATE] == AT_WORK]
            own = 0 if self._is_new else words[at + SLOT_CLOCK]
            everyone = [words[other + SLOT_CLOCK] for other in [at, *self._others]]
            words[at + SLOT_CLOCK] = max(own, min(present)) if present else max(everyone)
            words[at + SLOT_STATE] = AT_WORK
        self._is_new = False

    def _wait(self, goes_on: Callable[[], bool]) -> int | None:
        """The lead that was admitted; None where it gave up."""
        tries, nap_s = _TRIES, _SHORTEST_NAP_S
        while goes_on():
            if self._words[self._at + SLOT_STATE] != AT_WORK:
                self._join()  # it had been taken for late
            lead = self.lead
            if lead is not None and lead <= self._bound:
                return lead
            if tries:
                tries -= 1
                continue
            time.sleep(nap_s)
            nap_s = min(2 * nap_s, _LONGEST_NAP_S)
        return None


def mark_absent(server: SharedMemoryServer, slot: int) -> None:
    """Nobody shall wait for a worker that is gone or late. A late one that comes back joins anew."""
    server.words[server.layout.slot(slot) + SLOT_STATE] = ABSENT

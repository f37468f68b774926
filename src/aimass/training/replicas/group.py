"""The group of workers that add up their gradients: formed, found broken, and formed anew.

1. Meet: each worker writes, into its own words, for which group it is ready, and waits until all are ready for the same one.
   Groups are numbered: the driver's GENERATION, which counts the lost workers, plus how often each worker saw a group break.
   Whatever happens moves the number on, and whoever waits starts again.
2. Connect: a process group of torch.distributed over the loopback interface. The addresses are exchanged in the shared block: no
   port is known to anybody else, and nothing is left behind.
3. Adopt: all tell how many batches their replicas hold. Those that are behind take over p, the states and the clock of the
   first that has most.

A worker that is killed closes its connections, so that the others' collective fails; they leave the group, which closes their
own connections too, and meet again. One that is stopped or late is killed by the driver.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch

from aimass.parameters.layout import GENERATION, STOP
from aimass.parameters.replicas import BREAKS, CLOCK, DONE, EMPTY, READY, ReplicaServer
from aimass.training.replicas.addresses import AddressStore

if TYPE_CHECKING:
    from torch import Tensor

_CONNECT_S = 0.2  # gloo waits five times as long for one that does not answer: for a worker that died right then
_MOST_CONNECT_S = 60.0
_POLL_S = 0.0005


class GroupBroken(Exception):
    """A worker was lost, and the group must be formed anew."""


class Group:
    """One worker's membership.

    Args:
        server: whose replicas the workers have, and whose backend says how they are brought together.
        timeout_s: how long to wait in a collective at most: longer than a worker may be late.
    """

    def __init__(self, server: ReplicaServer, timeout_s: float) -> None:
        assert server.slot is not None, "only workers are in groups"
        self.server, self.backend = server, server.backend
        self.rank, self.size = server.slot, server.layout.num_slots
        self.number = 0
        self._words = server.words
        self._slots = [server.layout.slot(slot) for slot in range(self.size)]
        self._at = self._slots[self.rank]
        self._timeout = timedelta(seconds=timeout_s)
        self._group: Any = None
        self._patience_s = _CONNECT_S
        self._staging: Tensor | None = None

    @property
    def is_current(self) -> bool:
        """Whether the group is formed, and nobody was lost since."""
        return self.size == 1 or (self._group is not None and self._newest() == self.number)

    def form(self) -> bool:
        """Form the group, or form it anew, and bring this worker's replica up to the others'.

        Returns:
            whether it is formed: not where the run ends meanwhile.
        """
        while not self.is_current:
            self.close()
            if not self._meet():
                return False
            try:
                self._connect()
                self._adopt()
            except RuntimeError:
                self._leave()
                self._patience_s = min(2 * self._patience_s, _MOST_CONNECT_S)
            else:
                self._patience_s = _CONNECT_S
        return True

    def sum(self, vector: Tensor) -> None:
        """Add up a vector over all workers, in place. All of them get the same bits.

        Raises:
            GroupBroken: a worker was lost. What the vector holds then is undefined.
        """
        if self.size == 1:
            return
        try:
            self._sum(vector)
        except RuntimeError as error:
            self._leave()
            raise GroupBroken from error

    def close(self) -> None:
        """Close all connections."""
        self._group = None

    # ------------------------------------------------------------------------------------------------- the three steps

    def _newest(self) -> int:
        words = self._words
        return words[GENERATION] + sum(words[at + BREAKS] for at in self._slots) + 1

    def _leave(self) -> None:
        self.close()
        self._words[self._at + BREAKS] += 1

    def _meet(self) -> bool:
        words = self._words
        while True:
            self.number = words[self._at + READY] = self._newest()
            while self._newest() == self.number:
                if all(words[at + READY] == self.number for at in self._slots):
                    return True
                if words[STOP]:
                    return False
                time.sleep(_POLL_S)

    def _connect(self) -> None:
        number = self.number
        store = AddressStore(self.server, number, lambda: self._newest() == number)
        self._group = self._connect_nccl(store) if self.backend == "nccl" else self._connect_gloo(store)

    def _connect_gloo(self, store: AddressStore) -> Any:
        from torch._C._distributed_c10d import ProcessGroupGloo

        options: Any = ProcessGroupGloo._Options()  # type: ignore[attr-defined]  # the stubs lack it
        options._devices = [ProcessGroupGloo.create_device(hostname="127.0.0.1")]
        options._timeout = timedelta(seconds=self._patience_s)
        options._threads = 1
        return ProcessGroupGloo(store, self.rank, self.size, options)

    def _connect_nccl(self, store: AddressStore) -> Any:
        from torch._C._distributed_c10d import ProcessGroupNCCL

        options = ProcessGroupNCCL.Options()
        options._timeout = self._timeout
        return ProcessGroupNCCL(store, self.rank, self.size, options)

    def _adopt(self) -> None:
        words, at = self._words, self._at
        mine = torch.tensor([words[at + DONE], words[at + CLOCK]])
        all_of_them = torch.zeros(self.size * 2, dtype=torch.int64)
        all_of_them[2 * self.rank : 2 * self.rank + 2] = mine
        self._sum(all_of_them)
        done, clocks = all_of_them[0::2].tolist(), all_of_them[1::2].tolist()
        best = max(done)
        if min(done) == best:
            return
        root, own = done.index(best), self.server.replica(self.rank)
        if done[self.rank] == best:
            self._hand_over(root)
            return
        with self.server.locks.held(own.lock):  # the driver may be copying it, since none was further a moment ago
            words[at + DONE] = EMPTY
            self._hand_over(root)
            words[at + CLOCK] = clocks[root]
            words[at + DONE] = best

    def _hand_over(self, root: int) -> None:
        """Bring p and the states of one worker's replica to all. Those that have them get the same bits."""
        own = self.server.replica(self.rank)
        for vector in (own.p, *own.states):
            self._broadcast(vector, root)

    # ------------------------------------------------------------------------------------------------------- transport

    def _stage(self, vector: Tensor) -> Tensor:
        """NCCL adds up what lies on the device."""
        if self.backend != "nccl":
            return vector
        if self._staging is None or len(self._staging) < len(vector) or self._staging.dtype != vector.dtype:
            self._staging = torch.empty_like(vector, device="cuda")
        return self._staging[: len(vector)].copy_(vector)

    def _unstage(self, vector: Tensor) -> None:
        if self._staging is not None:
            vector.copy_(self._staging[: len(vector)])

    def _wait(self, work: Any) -> None:
        if self.backend != "nccl":
            work.wait()
            return
        while not work.is_completed():  # NCCL does not notice by itself that another is gone
            if self._newest() != self.number:
                self._group.abort()
                raise RuntimeError("a worker was lost")
            time.sleep(0)
        work.wait()
        torch.cuda.current_stream().synchronize()

    def _sum(self, vector: Tensor) -> None:
        options = torch._C._distributed_c10d.AllreduceOptions()
        options.timeout = self._timeout
        self._wait(self._group.allreduce([self._stage(vector)], options))
        self._unstage(vector)

    def _broadcast(self, vector: Tensor, root: int) -> None:
        options = torch._C._distributed_c10d.BroadcastOptions()
        options.rootRank, options.rootTensor, options.timeout = root, 0, self._timeout
        self._wait(self._group.broadcast([self._stage(vector)], options))
        self._unstage(vector)

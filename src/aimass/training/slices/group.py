"""The group of workers that share one model: that of all-reduce, as the default group of torch.distributed.

Pipelining and FSDP2 talk to torch.distributed by its own functions, so the group is one of its process groups. It is made by hand all
the same: gloo has one patience for connecting, which must be short, and for waiting, which must be as long as a round takes.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed as dist
from torch._C._distributed_c10d import AllgatherOptions, Work

from aimass.parameters.slices import SliceServer
from aimass.training.replicas.group import Group

if TYPE_CHECKING:
    from torch import Tensor

BACKEND = "aimass_slices"


class WorkerGone(RuntimeError):
    """What was under way with another worker failed."""


class SliceGroup(Group):
    """One worker's membership. While it is formed, it is the default group of this process.

    Args:
        server: whose parts of p the workers have.
        timeout_s: how long to wait for another at most.
    """

    def __init__(self, server: SliceServer, timeout_s: float) -> None:
        super().__init__(server, timeout_s)
        self._slices = server
        self._store: Any = None

    @property
    def is_broken(self) -> bool:
        """Whether something failed because another worker is gone."""
        return self._group is None or self._group.is_broken

    def leave(self) -> None:
        """Give the group up, so that the others see it, and all meet again."""
        self._leave()

    def close(self) -> None:
        if self._group is not None:
            self._group.release()
            self._group = None
        if dist.is_initialized():
            dist.destroy_process_group()

    def _connect_gloo(self, store: Any) -> Any:
        self._store = store  # itself, and not with the prefix that torch counts up in each process by itself
        dist.Backend.register_backend(BACKEND, self._make, devices=["cpu"])
        dist.init_process_group(BACKEND, store=store, rank=self.rank, world_size=self.size)
        return dist.distributed_c10d._get_default_group()

    def _make(self, _: Any, rank: int, size: int, __: timedelta) -> Any:
        return _PatientGroup(super()._connect_gloo(self._store), rank, size, self._timeout)

    def _adopt(self) -> None:
        self._slices.catch_up(self.rank)  # all are here, so that whoever has decided a round has written it down
        done = torch.tensor([float(self._slices.done)], dtype=torch.float64)
        self._sum(done)
        assert done.item() == self.size * self._slices.done, "nobody is more than one round behind, and that was made up for"


class _PatientWork(Work):
    """A transfer that is waited for as long as a round may take."""

    def __init__(self, group: _PatientGroup, work: Any) -> None:
        super().__init__()
        self._group, self._work = group, work

    def wait(self, timeout: timedelta | None = None) -> bool:
        return bool(self._group.attempt(self._work.wait, self._group.timeout))

    def is_completed(self) -> bool:
        return bool(self._work.is_completed())


class _PatientGroup(dist.ProcessGroup):
    """A process group of gloo that waits long where it took little time to connect, and says when another worker was lost.

    Args:
        gloo: what carries the bytes.
        rank, size: of this worker.
        timeout: how long to wait at most.
    """

    def __init__(self, gloo: Any, rank: int, size: int, timeout: timedelta) -> None:
        super().__init__(rank, size)  # type: ignore[call-arg]  # the stubs know one of two ways
        self._gloo, self.timeout, self.is_broken = gloo, timeout, False

    def release(self) -> None:
        """Close the connections."""
        self._gloo = None

    def attempt(self, do: Any, *arguments: Any) -> Any:
        """Do what fails where another worker is gone.

        Raises:
            WorkerGone: it is.
        """
        try:
            return do(*arguments)
        except RuntimeError as error:
            self.is_broken = True
            raise WorkerGone(str(error)) from error

    def _start(self, name: str, *arguments: Any) -> Any:
        if self._gloo is None:
            raise WorkerGone("the group was left")
        return _PatientWork(self, self.attempt(getattr(self._gloo, name), *arguments))

    def getBackendName(self) -> str:
        return BACKEND

    @property
    def pg_name(self) -> str:
        """Its name among the process groups of torch.distributed."""
        return str(dist.distributed_c10d._world.pg_names[self])

    @property
    def group_name(self) -> Any:
        """The same."""
        return self.pg_name

    def send(self, tensors: list[Tensor], dst: int, tag: int = 0) -> Any:
        return self._start("send", tensors, dst, tag)

    def recv(self, tensors: list[Tensor], src: int, tag: int = 0) -> Any:
        return self._start("recv", tensors, src, tag)

    def allreduce(self, tensors: list[Tensor], options: Any = None) -> Any:  # type: ignore[override]  # the one of three that is called
        options = options or dist.AllreduceOptions()
        options.timeout = self.timeout
        return self._start("allreduce", tensors, options)

    def _allgather_base(self, output: Tensor, part: Tensor, options: Any = None) -> Any:
        options = options or AllgatherOptions()
        options.timeout = self.timeout
        return self._start("_allgather_base", output, part, options)

    def _reduce_scatter_base(self, output: Tensor, whole: Tensor, options: Any = None) -> Any:
        options = options or dist.ReduceScatterOptions()
        options.timeout = self.timeout
        return self._start("_reduce_scatter_base", output, whole, options)

    all_gather_single = _allgather_base  # type: ignore[assignment]  # as later versions of torch call them
    reduce_scatter_single = _reduce_scatter_base  # type: ignore[assignment]

"""All-reduce: every worker has a replica, and all apply the same mean gradient to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from aimass.training.strategy import Strategy, StrategyConfig

if TYPE_CHECKING:
    from aimass.training.workers.worker import Worker

ALIASES = (
    "all_reduce",
    "ring_allreduce",
    "ddp",
    "data_parallel",
    "distributed_data_parallel",
    "sync_sgd",
    "全归约",
    "同步SGD",
    "data_slices",
    "data_slicing",
    "数据切片",
    "数据并行",
)


class AllReduceConfig(StrategyConfig):
    """Settings of `allreduce`.

    Args:
        accumulate: batches whose gradients a worker adds up before they are exchanged.
        backend: what carries the gradients: `gloo`, over the loopback interface; `nccl`, between GPUs, of which every worker then
            needs one; or `auto`, NCCL where it can be had.
    """

    name: Literal["allreduce"] = "allreduce"
    accumulate: Annotated[int, Field(ge=1, le=10**6)] = 1
    backend: Literal["auto", "gloo", "nccl"] = "auto"

    @property
    def plane(self) -> str:
        """`replicas`, one for each worker."""
        return "replicas"


class AllReduce(Strategy):
    """Workers compute the gradients of different batches, add them up, and apply the mean to their replicas.

        p_{t+1} = step(p_t, Σ_i n_i g_i / Σ_i n_i),    g_i = the mean gradient of worker i's n_i rows at p_t

    It equals `single` on the workers' batches put together. Gradients are clipped after they were added up.

    Source: Patarasu and Yuan, Bandwidth optimal all-reduce algorithms for clusters of workstations, JPDC 2009; Li et al., PyTorch
    distributed: experiences on accelerating data parallel training, VLDB 2020.
    """

    config_class = AllReduceConfig
    worker_modules = ("aimass.training.replicas.exchange",)

    def work(self, worker: Worker) -> None:
        from aimass.training.replicas.exchange import Exchange

        with Exchange(worker) as exchange:
            for part in exchange.parts():  # this worker's share of each round; perhaps no batch at all
                found = exchange.compute(part)
                if exchange.sum(part, found):
                    exchange.commit(part, found)


PLUGIN = AllReduce

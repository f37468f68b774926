"""Fully sharded data parallelism: every worker has some rows of every tensor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from aimass.training.strategy import Strategy, StrategyConfig

if TYPE_CHECKING:
    from aimass.training.workers.worker import Worker

ALIASES = ("fsdp", "fsdp2", "fully_sharded", "zero", "zero3", "分片", "全分片", "全分片数据并行")


class ShardedConfig(StrategyConfig):
    """Settings of `sharded`: none."""

    name: Literal["sharded"] = "sharded"

    @property
    def plane(self) -> str:
        """`tensors`: each worker has some rows of each."""
        return "tensors"


class Sharded(Strategy):
    """Workers compute the gradients of different batches, and each keeps and changes its own rows of every tensor alone.

        p_{t+1} = step(p_t, Σ_i n_i g_i / Σ_i n_i),    each worker its part of p, of the states and of the sum

    g_i is the mean gradient of worker i's n_i rows. It equals `single` on the workers' batches put together, as `allreduce` does. A layer's
    tensors are gathered when it computes, and let go after that.

    Source: Rajbhandari et al., ZeRO, SC 2020 (stage 3); Zhao et al., PyTorch FSDP, VLDB 2023; torch's `fully_shard`.
    """

    config_class = ShardedConfig
    needs_workers = 2
    heavy_modules = ("aimass.training.slices.sharded", "torch._dynamo")

    def work(self, worker: Worker) -> None:
        from aimass.training.slices.sharded import ShardExchange

        with ShardExchange(worker) as exchange:
            for part in exchange.parts():  # a batch for each, or none for some at the end of an epoch
                found = exchange.work_on(part)  # gather, forward, gather, backward, add up
                if found is not None and exchange.agree(found):
                    exchange.commit(part, found)


PLUGIN = Sharded

"""Supernodes: workers in groups, each of which is to the parameter server as one."""

from __future__ import annotations

from math import isqrt
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from aimass.core.errors import UsageError
from aimass.training.strategy import Strategy, StrategyConfig

if TYPE_CHECKING:
    from aimass.training.workers.worker import Worker

ALIASES = ("super_node", "supernodes", "super_nodes", "hierarchical", "hierarchical_sgd", "grouped_sgd", "超级节点", "分层SGD", "层次化SGD")


class SupernodeConfig(StrategyConfig):
    """Settings of `supernode`.

    Args:
        groups: how many groups the workers form; by default about the square root of their number.
        group_size: how many workers a group has at least, instead of `groups`.
        sync_every: how many batches a group does for each of its workers between two exchanges with the root.
        push: what a worker hands in: the `gradient`, for the root's optimizer, or the `delta` by which its own optimizer moved p; the
            states of those optimizers are averaged over the group at each exchange.
        grouping: who is in a group: workers of like `speed`, as it is measured while they train, or of neighbouring `slots`.
        balance: divide a group's work by the speed that was measured of each worker. False divides it evenly.
        atomic: a push whose supernode is killed inside it is finished by another. False is faster, and may leave a torn chunk.
    """

    name: Literal["supernode"] = "supernode"
    groups: Annotated[int, Field(ge=1, le=128)] | None = None
    group_size: Annotated[int, Field(ge=1, le=256)] | None = None
    sync_every: Annotated[int, Field(ge=1, le=10**6)] = 1
    push: Literal["gradient", "delta"] = "gradient"
    grouping: Literal["speed", "slots"] = "speed"
    balance: bool = True
    atomic: bool = True

    @property
    def plane(self) -> str:
        """`groups`, each of which pushes as one."""
        return "groups"

    @property
    def sync_batches(self) -> int | None:
        """None, since a push holds what several workers did."""
        return None

    @property
    def sends_deltas(self) -> bool:
        """Whether `push` is `delta`."""
        return self.push == "delta"

    def num_groups(self, workers: int) -> int:
        """How many groups so many workers form.

        >>> [SupernodeConfig().num_groups(workers) for workers in (2, 3, 4, 8, 16)], SupernodeConfig(group_size=3).num_groups(8)
        ([1, 1, 2, 2, 4], 2)
        """
        if self.groups is not None:
            return self.groups
        return max(1, workers // self.group_size) if self.group_size is not None else max(1, isqrt(workers))

    def exchange_batches(self, workers: int) -> int:
        """The batches of one exchange of the largest group."""
        return self.sync_every * -(-workers // self.num_groups(workers))

    def check_workers(self, workers: int) -> None:
        """Refuse groups of one, which a supernode would lead alone."""
        if self.group_size == 1 or workers < 2:
            what = "strategy.group_size=1" if self.group_size == 1 else f"workers={workers}"
            raise UsageError(f"{what} would be a supernode of one, who leads nobody; give workers=2 or more, in groups of 2 or more")
        if self.group_size is not None and self.group_size > workers:
            raise UsageError(f"strategy.group_size={self.group_size} is more than workers={workers}; give at most {workers}")
        if self.groups is not None and self.groups > workers // 2:
            raise UsageError(
                f"strategy.groups={self.groups} of workers={workers} would leave a supernode of one, who leads nobody; give at most "
                f"{workers // 2} groups, or {2 * self.groups} workers"
            )

    @model_validator(mode="after")
    def _says_it_once(self) -> Self:
        if self.groups is not None and self.group_size is not None:
            raise UsageError("strategy.groups and strategy.group_size say the same in two ways; leave one of them out")
        return self


class Supernode(Strategy):
    """Workers form groups. In each, one is the supernode: it combines what the others find, and exchanges that with the root.

        p_{t+1} = step(p_t, Σ_{i in G} nᵢ gᵢ / Σ_{i in G} nᵢ),   or   p_t + Σ_{i in G} nᵢ Δᵢ / Σ_{i in G} nᵢ,   when G's comes

    where gᵢ is the mean gradient of worker i's nᵢ rows at the group's p, which is the root's p of when the group exchanged last, and Δᵢ by
    how much its own optimizer moved that p on them. So the root serves groups and not workers, and nᵢ follows the speed of worker i, so
    that all end together. With one group it equals the rounds of `parameter_server`.

    Source: Li et al., Scaling distributed machine learning with the parameter server, OSDI 2014 (the root); Lian et al., Asynchronous
    decentralized parallel stochastic gradient descent, ICML 2018, and Lin et al., Don't use large mini-batches, use local SGD, ICLR 2020
    (two levels, of which the inner one is synchronous).
    """

    config_class = SupernodeConfig
    needs_workers = 2
    worker_modules = ("aimass.training.groups.group",)

    def work(self, worker: Worker) -> None:
        from aimass.training.groups.group import Group
        from aimass.training.workers.steps import MeanGradient, OwnSteps

        config = self.config
        assert isinstance(config, SupernodeConfig)
        worker.clips_batches = config.sends_deltas  # of gradients the combination is clipped, as one process would
        find = OwnSteps(worker) if config.sends_deltas else MeanGradient(worker)
        num_batches = config.exchange_batches(worker.server.layout.num_workers)
        optimizer = find.optimizer if isinstance(find, OwnSteps) else None
        is_on = True
        while is_on:
            with Group(worker, num_batches, balances=config.balance, optimizer=optimizer) as group:
                for share in group.shares():  # as the supernode cut them; whoever finds the role free takes it, and cuts
                    if share.num_rows:
                        group.hand_in(share, *find(group.batches(share)))
                    if group.leads:
                        weight = group.combine(share, find)
                        if not config.sends_deltas:
                            worker.clip(group.combination)
                        group.exchange(weight)
            is_on = group.has_moved  # and goes on in the other group


PLUGIN = Supernode

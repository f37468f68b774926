"""Where everything lies in the shared block: a plan that every process computes alike from a few numbers.

words   int64: the control words, then a record per lease cell, per worker slot, per shard, and where that is noted per task
p       float32 (num_parameters,), then each optimizer state in the same shape; as many times as there are replicas
slots   float32 (num_slots, num_parameters + num_extras): the gradient of each worker, and what travels with it; one for all of
        them, where each worker has a part of p to itself
pulled  float32 (num_slots, num_parameters), where delays are compensated: the parameters at which each worker computes
undo    float32 (num_slots, 1 + num_states, chunk): the chunk of p and states that a slot is changing
buffers float32 (num_slots, num_buffers): running statistics of each worker's module
notes   bytes (num_slots, note_bytes): what each worker tells the others of itself
groups  float32 (num_groups, num_parameters): the parameters at which the workers of each group compute
own     float32 (num_workers, num_own_states, num_parameters), then (num_groups, 2, num_own_states, num_parameters): the states of workers'
        own optimizers, and their mean in each group, before the last exchange and after it
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

_ALIGNMENT = 4096
_LINE_WORDS = 16  # two cache lines, so that neighbours do not share one
_CUTS = (1024, 16)  # where servers may meet, in parameters: on a page, or at least on a CPU register

# The control words.
STOP, NEXT_LEASE, LEASE_LIMIT, NUM_LEASES, RATE_FACTOR, INCARNATION, GENERATION, WANTED = range(8)
"""`RATE_FACTOR` is a double: what every learning rate is multiplied with. `INCARNATION` counts how often the run went back.
`GENERATION` counts the groups that workers have formed. `WANTED` is how many workers there should be; 0 where the driver trains by itself.
Five more are for averages (`parameters/averages.py`)."""
CONTROL_WORDS = _LINE_WORDS

# A lease cell's words. A cell is empty while its owner is NOBODY and its number is -1.
LEASE_NUMBER, LEASE_EPOCH, LEASE_OWNER, LEASE_COMMITTED, LEASE_DEADLINE_NS = range(5)
CELL_WORDS = _LINE_WORDS
NOBODY = -1

# A slot's words. What stands from SLOT_FREE on belongs to the trainer.
SLOT_INTENT, SLOT_SEQUENCE, SLOT_CELL, SLOT_COMMITS, SLOT_REFUSED, SLOT_CLOCK, SLOT_STATE, SLOT_TAU = range(8)
SLOT_STALENESS = 8
NUM_STALENESS_BINS = 32
SLOT_FREE = SLOT_STALENESS + NUM_STALENESS_BINS
SLOT_PART = 64  # eight words for servers that work in rounds
SLOT_STALE_SUM, SLOT_STALE_MOST, SLOT_VECTORS, SLOT_LEAD, SLOT_HELD_NS, SLOT_SENT, SLOT_RECEIVED = range(72, 79)
"""The sum and the largest of what the last bin of staleness holds; where servers' load is counted, the vectors as long as p that the
worker sent and fetched; under bounded staleness one more than the largest lead that was admitted, and how long it was held back; the bytes
that the worker sent and received."""
SLOT_MEMBER = 80  # sixteen words for workers in groups, and for the groups
SLOT_PULLED = 96
"""The clock of the parameters at which the last gradient of the slot was taken."""
SLOT_HANDED, SLOT_HANDED_EPOCH, SLOT_SERVING = range(97, 100)
"""Where gradients are handed over and waited for: what became of the last, its lease's epoch, and whether the worker applies some."""
SLOT_SPENT_NS = 100  # and nine more: the time that workers have spent on each of `health.operations`
SHARE_CUT, SHARE_OPEN, SHARE_STOP, SHARE_SPEED, SHARE_BUSY_NS = range(112, 117)
"""Where rounds are shared out by speed: which round is cut, and which is open (both in slot 0); where this slot's part of it stops; its
worker's rows a second (a double), and for how long it has computed."""
SLOT_SCALE, SLOT_MEMORY, SLOT_MEMORY_AT_START = range(117, 120)
"""Where p is divided among workers: what the gradients of the round that was decided last are multiplied with (a double); the most memory
that the worker has held, and what it held before it took its part of the model, in bytes."""
SLOT_GROUPING = 120  # three words for workers that move between groups
SLOT_COUNTED, SLOT_REPORTED, SLOT_REPORT_OF, SLOT_REPORT_PART = range(128, 132)
"""Which of the two sides of the slot's counts holds (`parameters/counts.py`); which one the last report is on; and where that tells whether
the report holds, the round or exchange that it is of, and the part."""
SLOT_COUNTS = 132  # ten words
SLOT_WORDS = 144

# A shard's words, followed by the last sequence applied of each slot.
SHARD_CLOCK, SHARD_OWNER, SHARD_PROGRESS, SHARD_NEXT_CLOCK, SHARD_SEQUENCE, SHARD_REPAIRS, SHARD_BUSY_NS, SHARD_WAITED_NS = range(8)
SHARD_APPLIED = 8

# A task's words, where it is noted who takes which lease: the lease, plus one; how often it was taken; and by whom last.
TASK_LEASE, TASK_TIMES, TASK_WORKER = range(3)
TASK_WORDS = 4

# What SLOT_STATE holds: whether others wait for this worker under bounded staleness.
ABSENT, AT_WORK, WITHOUT_DATA, JOINING = range(4)

LEASE_LOCK = 1 << 40


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The plan of one block.

    Args:
        num_parameters: the length of p.
        groups: where each parameter group starts and stops; a chunk never spans two.
        rates: what the learning rate is multiplied with in each group; nothing where that is 1 in all.
        states: the optimizer's state vectors, by name.
        num_slots: how many workers may push.
        num_cells: how many leases may be open at once.
        num_buffers: the length of a worker's float buffers.
        shard_size: parameters per shard, which is what one lock guards.
        chunk_size: parameters per chunk, which is what an interrupted push undoes.
        num_replicas: how many times p and its states are there.
        num_extras: numbers behind each gradient, for what is added up with it.
        note_bytes: what a worker may tell the others of itself.
        num_servers: cut p into so many shards of about the same size, whatever `shard_size`; 0 goes by `shard_size`.
        keeps_pulled: whether the parameters that a worker pulled lie in the block too.
        cuts: where each shard starts and the last one stops, whatever `shard_size`; empty goes by that.
        num_tasks: the leases of an epoch, where it is noted who takes them.
        num_groups: how many groups the workers form. Each has a slot of its own, behind those of the workers.
        num_own_states: how many states of an optimizer of its own each worker of a group shows to the others.
        spans: where p is divided among workers: the stretches of p, as (start, stop), that each slot has to itself. No two share anything,
            none reaches over two groups, and together they are p.
    """

    num_parameters: int
    groups: tuple[tuple[int, int], ...]
    rates: tuple[float, ...] = ()
    states: tuple[str, ...] = ()
    num_slots: int = 1
    num_cells: int = 4
    num_buffers: int = 0
    shard_size: int = 1 << 21
    chunk_size: int = 1 << 18
    num_replicas: int = 1
    num_extras: int = 0
    note_bytes: int = 0
    num_servers: int = 0
    keeps_pulled: bool = False
    cuts: tuple[int, ...] = ()
    num_tasks: int = 0
    num_groups: int = 0
    num_own_states: int = 0
    spans: tuple[tuple[tuple[int, int], ...], ...] = ()

    @property
    def num_workers(self) -> int:
        """How many of the slots are workers'."""
        return self.num_slots - self.num_groups

    def members(self, group: int) -> range:
        """The slots of a group's workers: neighbours, and as many in each group as in any other, or one more.

        >>> layout = Layout(num_parameters=1, groups=((0, 1),), num_slots=7, num_groups=2)
        >>> layout.members(0), layout.members(1), layout.group_slot(1), layout.group_of(2)
        (range(0, 2), range(2, 5), 6, 1)
        """
        return range(self.num_workers * group // self.num_groups, self.num_workers * (group + 1) // self.num_groups)

    def group_of(self, slot: int) -> int:
        """The group of a worker."""
        return next(group for group in range(self.num_groups) if slot in self.members(group))

    def group_slot(self, group: int) -> int:
        """The slot that is a group's own."""
        return self.num_workers + group

    @property
    def num_shards(self) -> int:
        """How many shards p is cut into: at least one."""
        if self.cuts:
            return len(self.cuts) - 1
        return self.num_servers or max(1, -(-self.num_parameters // self.shard_size))

    def shard(self, index: int) -> tuple[int, int]:
        """Where a shard starts and stops in p.

        >>> layout = Layout(num_parameters=100, groups=((0, 100),), num_servers=3)
        >>> [layout.shard(index) for index in range(3)]
        [(0, 32), (32, 64), (64, 100)]
        """
        if self.cuts:
            return self.cuts[index], self.cuts[index + 1]
        if self.num_servers:
            return self._cut(index), self._cut(index + 1)
        start = index * self.shard_size
        return start, min(start + self.shard_size, self.num_parameters)

    def _cut(self, index: int) -> int:
        """Where server `index` starts. The cuts are aligned where each server then still has something."""
        if index == self.num_servers:
            return self.num_parameters
        cut, fair = self.num_parameters * index // self.num_servers, self.num_parameters // self.num_servers
        return next((cut - cut % step for step in _CUTS if fair >= 2 * step), cut)

    def chunks(self, shard: int) -> Iterator[tuple[int, int, int]]:
        """Each chunk of a shard: start and stop in p, and the index of its parameter group."""
        low, high = self.shard(shard)
        for group, (start, stop) in enumerate(self.groups):
            at, end = max(low, start), min(high, stop)
            while at < end:
                yield at, min(at + self.chunk_size, end), group
                at += self.chunk_size

    def rate_of(self, group: int) -> float:
        """What the learning rate is multiplied with in a parameter group."""
        return self.rates[group] if self.rates else 1.0

    def own_chunks(self, slot: int) -> Iterator[tuple[int, int, int]]:
        """Each chunk of what a slot has to itself: start and stop in p, and the index of its parameter group."""
        for low, high in self.spans[slot]:
            group = next(index for index, (start, stop) in enumerate(self.groups) if start <= low < stop)
            for at in range(low, high, self.chunk_size):
                yield at, min(at + self.chunk_size, high), group

    def cell(self, index: int) -> int:
        """The first word of a lease cell."""
        return CONTROL_WORDS + index * CELL_WORDS

    def slot(self, index: int) -> int:
        """The first word of a worker's slot."""
        return CONTROL_WORDS + self.num_cells * CELL_WORDS + index * SLOT_WORDS

    def shard_words(self, index: int) -> int:
        """The first word of a shard's record."""
        return self.slot(self.num_slots) + index * self._words_per_shard

    @property
    def _words_per_shard(self) -> int:
        return -(-(SHARD_APPLIED + self.num_slots) // _LINE_WORDS) * _LINE_WORDS

    def task(self, lease: int) -> int:
        """The first word of the record of a lease. Those of two epochs are there at once, as one may begin before the other has ended."""
        return self.shard_words(self.num_shards) + lease % (2 * self.num_tasks) * TASK_WORDS

    @cached_property
    def num_words(self) -> int:
        """How many int64 words stand before the vectors."""
        return self.shard_words(self.num_shards) + 2 * self.num_tasks * TASK_WORDS

    @cached_property
    def _vector_bytes(self) -> int:
        return _aligned(4 * self.num_parameters)

    @cached_property
    def undo_size(self) -> int:
        """Parameters in one undo row: the longest chunk."""
        return min(self.chunk_size, self.num_parameters)

    @cached_property
    def _undo_row_bytes(self) -> int:
        return _aligned(4 * self.undo_size)

    def vector_offset(self, index: int, replica: int = 0) -> int:
        """The byte at which p (0) or a state (1, 2, ...) starts."""
        return _aligned(8 * self.num_words) + (replica * (1 + len(self.states)) + index) * self._vector_bytes

    def gradient_offset(self, slot: int) -> int:
        """The byte at which a slot's gradient starts."""
        return self.vector_offset(0, self.num_replicas) + (0 if self.spans else slot) * self._gradient_bytes

    @cached_property
    def _gradient_bytes(self) -> int:
        return _aligned(4 * (self.num_parameters + self.num_extras))

    def pulled_offset(self, slot: int) -> int:
        """The byte at which the parameters that a slot's worker pulled start."""
        gradients = 1 if self.spans else self.num_slots
        return self.vector_offset(0, self.num_replicas) + (gradients + (slot if self.keeps_pulled else 0)) * self._gradient_bytes

    def undo_offset(self, slot: int, row: int) -> int:
        """The byte at which a slot's saved chunk of p (row 0) or of a state (1, 2, ...) starts."""
        return self.pulled_offset(self.num_slots) + (slot * (1 + len(self.states)) + row) * self._undo_row_bytes

    def buffers_offset(self, slot: int) -> int:
        """The byte at which a slot's float buffers start."""
        return self.undo_offset(self.num_slots, 0) + slot * _aligned(4 * self.num_buffers)

    def note_offset(self, slot: int) -> int:
        """The byte at which a worker's note starts."""
        return self.buffers_offset(self.num_slots) + slot * _aligned(self.note_bytes)

    def group_offset(self, group: int) -> int:
        """The byte at which a group's parameters start."""
        return self.note_offset(self.num_slots) + group * self._vector_bytes

    def own_state_offset(self, worker: int, index: int) -> int:
        """The byte at which a state of a worker's own optimizer starts."""
        return self.group_offset(self.num_groups) + (worker * self.num_own_states + index) * self._vector_bytes

    def mean_state_offset(self, group: int, side: int, index: int) -> int:
        """The byte at which the mean of a state over a group's workers starts, on one of its two sides."""
        return self.own_state_offset(self.num_workers + 2 * group + side, index)

    @property
    def size_bytes(self) -> int:
        """The whole block."""
        return max(self.mean_state_offset(self.num_groups, 0, 0), _ALIGNMENT)


def _aligned(size_bytes: int) -> int:
    return -(-size_bytes // _ALIGNMENT) * _ALIGNMENT

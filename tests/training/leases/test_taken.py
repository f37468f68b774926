from aimass.optim.update import Add
from aimass.parameters.layout import LEASE_COMMITTED, Layout
from aimass.parameters.shared_memory import SharedMemoryServer
from aimass.training.leases.plan import LeasePlan
from aimass.training.leases.table import LeaseTable


def open_table(num_tasks):
    layout = Layout(num_parameters=4, groups=((0, 4),), num_slots=3, num_cells=8, num_tasks=num_tasks)
    server = SharedMemoryServer.create(layout, Add(), lambda step: 1.0, slot=0)
    table = LeaseTable(server, LeasePlan(num_rows=12, batch_size=4, batches_per_lease=1, seed=0, total_batches=9), timeout_s=60)
    table.open(limit=100)
    return table


def commit(table, lease):
    server = table.server
    server.words[server.layout.cell(lease.cell) + LEASE_COMMITTED] = lease.num_batches


def test_it_is_told_who_had_a_task_last_and_how_often_it_was_taken_again():
    table = open_table(num_tasks=3)
    for slot in (2, 0, 1):
        lease = table.claim(slot)
        if slot != 0:
            commit(table, lease)
    assert table.release(0)
    table.claim(0)
    table.release(0)
    commit(table, table.claim(2))
    next_epoch = table.claim(1)
    told = table.taken.tell(1)
    assert (told.tasks, told.counts, told.taken_again) == ({"1": [2], "2": [0, 1]}, {"1": 1, "2": 2}, {"1": 2})
    assert next_epoch.number == 3
    assert table.taken.tell(2).tasks == {"1": [3]}


def test_nothing_is_left_of_what_was_taken_after_a_snapshot():
    table = open_table(num_tasks=3)
    before = table.server.snapshot()
    table.claim(0)
    table.server.restore(before)
    assert table.taken.tell(1).counts == {}


def test_nothing_is_noted_where_nobody_asks():
    assert open_table(num_tasks=0).taken is None

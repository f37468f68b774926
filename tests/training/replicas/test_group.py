"""Groups formed, broken and formed anew, between threads; tests/faults/test_group_kills.py does it between processes that die."""

import subprocess
import sys

import pytest
import torch
from training.groups import make_workers, together

from aimass.parameters.layout import GENERATION, STOP
from aimass.parameters.replicas import CLOCK, DONE, EMPTY
from aimass.training.replicas.group import Group, GroupBroken


@pytest.fixture
def groups():
    made = [Group(worker, timeout_s=60) for worker in make_workers(3)]
    yield made
    for group in made:
        group.close()


def test_all_get_the_same_sum(groups):
    assert together(*[group.form for group in groups]) == [True] * 3
    vectors = [torch.arange(1000.0) * (group.rank + 1) / 7 for group in groups]
    together(*[lambda i=i: groups[i].sum(vectors[i]) for i in range(3)])
    torch.testing.assert_close(vectors[0], torch.arange(1000.0) * 6 / 7)
    assert torch.equal(vectors[0], vectors[1])
    assert torch.equal(vectors[0], vectors[2])


def test_whoever_is_behind_takes_over_the_replica_that_is_furthest(groups):
    for group, done in zip(groups, (4, 6, EMPTY), strict=True):
        server = group.server
        server.words[server.layout.slot(group.rank) + DONE] = done
        server.words[server.layout.slot(group.rank) + CLOCK] = max(done // 2, 0)
        server.p.fill_(done)
        server.states[0].fill_(10.0 * done)
    assert together(*[group.form for group in groups]) == [True] * 3
    for group in groups:
        assert (group.server.done, group.server.clock) == (6, 3)
        assert group.server.p.tolist() == [6.0] * 10
        assert group.server.states[0].tolist() == [60.0] * 10


def test_the_driver_can_read_no_replica_while_it_is_overwritten(groups):
    for group, done in zip(groups, (6, 4, EMPTY), strict=True):
        group.server.words[group.server.layout.slot(group.rank) + DONE] = done
    seen = {}
    for group in groups:
        group._broadcast = lambda vector, root, group=group: seen.setdefault(group.rank, is_locked(group.server))
    together(*[group.form for group in groups])
    assert seen == {0: False, 1: True, 2: True}


def is_locked(server):
    """Whether another process finds the lock of a worker's replica taken."""
    code = f"import fcntl; fcntl.lockf({server.locks.descriptor}, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, {server.replica(server.slot).lock})"
    tried = subprocess.run([sys.executable, "-c", code], pass_fds=[server.locks.descriptor], capture_output=True, check=False)
    return b"BlockingIOError" in tried.stderr


def test_where_one_leaves_the_others_notice_and_form_a_new_group_with_its_successor(groups):
    assert together(*[group.form for group in groups]) == [True] * 3
    first, lost, last = groups
    numbers = {group.number for group in groups}
    lost.close()
    found = together(lambda: first.sum(torch.ones(5)), lambda: last.sum(torch.ones(5)))
    assert [type(error) for error in found] == [GroupBroken] * 2
    first.server.words[GENERATION] += 1  # as the driver does when it buries a worker
    successor = Group(lost.server, timeout_s=60)
    assert together(first.form, successor.form, last.form) == [True] * 3
    assert {first.number, successor.number, last.number}.isdisjoint(numbers)
    vectors = [torch.ones(5) for _ in range(3)]
    together(*[lambda g=group, v=vector: g.sum(v) for group, vector in zip((first, successor, last), vectors, strict=True)])
    assert [vector.tolist() for vector in vectors] == [[3.0] * 5] * 3
    successor.close()


def test_a_worker_that_waits_for_others_gives_up_when_the_run_stops(groups):
    groups[0].server.words[STOP] = 1
    assert not groups[0].form()


def test_one_worker_alone_is_a_group():
    group = Group(make_workers(1)[0], timeout_s=60)
    assert group.form()
    vector = torch.ones(3)
    group.sum(vector)
    assert vector.tolist() == [1.0] * 3

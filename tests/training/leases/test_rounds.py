"""Who computes which part of a round, who is late, and when the driver is woken."""

from hypothesis import given, settings
from hypothesis import strategies as st
from parameters.playing import Group

from aimass.parameters.base import Pushed, Ticket
from aimass.parameters.layout import NEXT_LEASE, STOP
from aimass.training.leases.rounds import RoundTable


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(1, 9), st.integers(1, 30))
def test_rounds_hold_every_lease_once_and_never_span_epochs(num_slots, per_epoch, num_leases):
    group = Group(num_slots=num_slots, num_leases=num_leases, per_epoch=per_epoch)
    first, leases = 0, []
    while first < num_leases:
        size = group.leases.size(first)
        assert 1 <= size <= num_slots
        assert first // per_epoch == (first + size - 1) // per_epoch
        leases += range(first, first + size)
        first += size
    assert leases == list(range(num_leases))


def test_each_worker_has_its_own_part_and_one_without_data_helps():
    group = Group(num_slots=3, num_leases=5, per_epoch=5)
    leases = [group.workers[slot][1].claim(slot) for slot in range(3)]
    assert [(lease.cell, lease.number) for lease in leases] == [(0, 0), (1, 1), (2, 2)]
    assert group.workers[0][1].claim(0) == leases[0], "it is asked again, as after a death"
    for slot in range(3):
        group.turn(slot)
    assert group.driver.words[NEXT_LEASE] == 3
    assert group.workers[2][1].claim(2) is None, "the last round has two parts"
    group.bury(0)
    assert group.workers[2][1].claim(2).number == 3


def test_nobody_goes_further_than_the_driver_lets_them():
    group = Group(num_leases=8)
    group.leases.extend(4)
    while any(group.turn(slot) is not None for slot in range(2)):
        pass
    assert group.leases.committed_batches == 4
    assert not group.leases.is_done
    group.leases.extend(8)
    group.run()
    group.check()


def test_a_part_whose_worker_died_is_done_by_another_and_its_replacement_waits_for_its_turn():
    group = Group("adam")
    group.turn(0)
    group.turn(1)
    lease = group.workers[1][1].claim(1)
    group.die(1)
    assert group.turn(0) is Pushed.APPLIED
    assert group.turn(0) is None  # nobody knows yet that worker 1 is dead
    assert [released.number for released in group.bury(1)] == [lease.number]
    assert group.turn(0) is Pushed.APPLIED
    assert group.leases.committed_batches == 4
    assert group.turn(1) is Pushed.APPLIED
    group.run()
    group.check()


def test_the_late_are_named_and_their_parts_are_given_away_only_once_they_are_dead():
    group = Group()
    server, table = group.workers[1]
    patient = RoundTable(group.driver, group.plan, 30.0)
    impatient = RoundTable(group.driver, group.plan, -1.0)
    group.turn(0)
    table._timeout_ns = -1
    assert table.claim(1) is not None
    assert patient.late() == []
    assert impatient.late() == [1]
    assert impatient.revoke_late() == []
    assert group.turn(0) is None
    table._timeout_ns = 30_000_000_000
    table.renew(1)
    assert impatient.late() == [], "it gets on"
    server.push(server.gradient, 0, Ticket(1, 0, 1))
    assert patient.late() == []


def test_nobody_begins_a_part_once_the_run_shall_stop():
    group = Group()
    group.driver.words[STOP] = 1
    assert group.turn(0) is None


def test_who_has_not_even_begun_is_late_too_and_more_time_can_be_given():
    group = Group()
    impatient = RoundTable(group.driver, group.plan, 5.0)
    now = [0]
    impatient.judged_ns = lambda: now[0]
    assert impatient.late() == []
    now[0] = 6_000_000_000
    assert impatient.late() == [0, 1]
    group.turn(0)
    assert impatient.late() == [1]
    impatient.put_off(4.0)
    assert impatient.late() == [], "counted from the next look"
    now[0] = 12_000_000_000
    assert impatient.late() == [1]


def test_the_driver_is_woken_now_and_then_and_where_all_wait_for_it():
    group, woken = Group(num_leases=40), []
    table = group.workers[0][1]
    for _ in range(10):
        table.finished(lambda: woken.append("now and then"))
    assert woken == ["now and then"]
    table._wake = lambda: woken.append("at the end")
    group.leases.extend(0)
    for _ in range(10):
        assert table.claim(0) is None
    assert woken[1:] == ["at the end"]

"""Who is wanted in which seat, and what is made of deaths."""

import pytest

from aimass.cluster.base import Process
from aimass.training.workers import seats as seats_module
from aimass.training.workers.seats import Deaths, Seat, choose


def seats_of(present, wanted):
    """Seats of which some are taken, and some are wanted."""
    return [
        Seat(slot, orders=None, process=Process(name="w", connection=None) if slot in present else None, wanted=slot in wanted)
        for slot in range(4)
    ]


@pytest.mark.parametrize(
    ("present", "wanted", "number", "chosen"),
    [
        ({0, 1, 2}, {0, 1, 2}, 2, [0, 1]),
        ({1, 2}, {0, 1, 2}, 2, [1, 2]),  # who runs stays, although a lower seat waits for another worker
        ({1, 2, 3}, {1, 3}, 3, [1, 2, 3]),  # who was to leave may stay
        ({1, 2, 3}, {3}, 1, [3]),
        (set(), set(), 3, [0, 1, 2]),
        ({3}, {3}, 2, [0, 3]),
    ],
)
def test_those_that_run_are_wanted_before_the_others(present, wanted, number, chosen):
    seats = seats_of(present, wanted)
    choose(seats, number)
    assert [seat.slot for seat in seats if seat.wanted] == chosen


def test_a_worker_that_dies_before_its_first_step_is_waited_for_longer_each_time():
    seat, waits = Seat(0, orders=None), []
    for _ in range(8):
        seat.count_death(steps=0, now=100.0)
        waits.append(round(seat.not_before - 100.0, 2))
    assert waits == [0, 0, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert seat.is_hopeless
    seat.count_death(steps=5, now=100.0)
    assert not seat.is_hopeless
    choose([seat], 0)
    choose([seat], 1)
    assert (seat.in_vain, seat.not_before) == (0, 0.0)


def test_a_death_is_told_with_what_the_kernel_counts(monkeypatch):
    counts = iter([2, 2, 3])
    monkeypatch.setattr(seats_module, "num_oom_kills", lambda: next(counts))
    deaths = Deaths(1)
    killed = Process(name="worker 0", connection=None, exit_status=-9)
    assert deaths.describe(killed) == "killed by SIGKILL"
    assert deaths.describe(killed) == "killed by SIGKILL, as the memory was full"
    assert deaths.describe(Process(name="worker 0", connection=None, exit_status=3)) == "ended with status 3"


def test_deaths_without_a_batch_between_them_end_the_run():
    deaths = Deaths(1)
    assert [deaths.count(5, "killed") for _ in range(7)] == [None] * 7
    assert deaths.count(6, "killed") is None
    said = [deaths.count(6, "killed") for _ in range(7)]
    assert said[:6] == [None] * 6
    assert said[6] == "workers have died 7 times without finishing a batch, the last one killed; is there enough memory?"

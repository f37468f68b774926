"""Workers that are slow on purpose."""

import pytest
from training import gathering

import aimass
from aimass.core.errors import UsageError
from aimass.parameters.counts import STEPS
from aimass.training.trainer import Trainer
from aimass.training.workers import entry as worker_entry
from aimass.training.workers.shaping import Shape, current_shape, shaped
from aimass.training.workers.worker import Worker


@pytest.fixture
def steps(monkeypatch):
    """How many batches each worker of a run has done, filled when the run gives its memory back."""
    found, closed = [], Trainer._close

    def look_and_close(trainer):
        found.extend(trainer.server.words[trainer.server.counted(slot) + STEPS] for slot in range(trainer.server.layout.num_slots))
        closed(trainer)

    monkeypatch.setattr(Trainer, "_close", look_and_close)
    return found


def test_a_slow_worker_does_less_also_where_the_run_outlives_the_block(steps, monkeypatch):
    monkeypatch.setattr(worker_entry, "main", gathering.main)
    with shaped(slow={1: 50.0}) as shape:
        assert current_shape() is shape
        run = aimass.train("digits", workers=2, max_steps=400)
    assert current_shape() is None
    assert run.wait().metrics()["steps"] == 400
    assert sum(steps) == 400
    assert steps[0] > 3 * steps[1]


def test_a_run_without_workers_is_left_alone():
    with shaped(slow={0: 1e9}):
        assert aimass.train("iris", workers=0, max_steps=8).wait().metrics()["steps"] == 8


def test_only_the_slow_are_workers_of_another_kind():
    shape = Shape(slow={1: 2.0, 2: 1.0})
    assert [shape.worker(slot) is Worker for slot in range(4)] == [True, False, True, True]


@pytest.mark.parametrize(("slow", "said"), [({0: 0.5}, "at least 1"), ({0: float("nan")}, "at least 1"), ({-1: 2.0}, "counted from 0")])
def test_what_cannot_be_is_refused(slow, said):
    with pytest.raises(UsageError, match=said), shaped(slow=slow):
        pass
    assert current_shape() is None


def test_who_is_slow_can_move_on_to_the_next_of_the_named(steps):
    shape = Shape(slow={0: 1.0, 2: 3.0, 5: 7.0}, moves_s=0.5)
    found = [[shape.slowness(slot, turn * 0.5 + 0.1) for slot in (0, 1, 2, 5)] for turn in range(4)]
    assert found == [[1.0, 1.0, 3.0, 7.0], [3.0, 1.0, 7.0, 1.0], [7.0, 1.0, 1.0, 3.0], [1.0, 1.0, 3.0, 7.0]]
    assert [shape.worker(slot) is Worker for slot in (0, 1, 2, 5)] == [False, True, False, False]
    with shaped(slow={0: 1.0, 1: 2.0}, moves_s=0.05):
        assert aimass.train("iris", workers=2, max_steps=20).wait().metrics()["steps"] == sum(steps) == 20


def test_a_time_that_is_none_is_refused():
    with pytest.raises(UsageError, match="moves_s=-1"), shaped(slow={0: 2.0}, moves_s=-1):
        pass

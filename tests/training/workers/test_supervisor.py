"""The workers of a run as a whole: stopped and started again, in the middle of what they do."""

import time

import pytest
from faults.test_kills import Watched, data, integer_run  # noqa: F401 - fixtures
from torch import nn

import aimass
from aimass.core.errors import TrainingError
from aimass.parameters.layout import GENERATION
from aimass.training import trainer
from aimass.training.workers import entry, seats


def test_all_workers_can_be_stopped_in_the_middle_of_a_push_and_started_again(data, integer_run, tmp_path, monkeypatch):  # noqa: F811
    look, stops = trainer.Trainer._look, []

    def stop_and_start(run):
        look(run)
        supervisor = run._supervisor
        if len(stops) < 4 and run.leases.committed_batches > 20 * len(stops):
            supervisor.stop_all()
            assert supervisor.num_alive == 0
            assert not any(run.server.is_pushing(slot) for slot in range(2))
            stops.append(run.server.words[GENERATION])
            supervisor.start()

    monkeypatch.setattr(trainer.Trainer, "_look", stop_and_start)
    run = Watched(data, tmp_path, monkeypatch, num_kills=0, epochs=6)
    assert stops == [2, 4, 6, 8]
    assert not [event for event in run.events if event.kind == "worker_lost"]
    run.check()


def test_workers_that_leave_again_and_again_without_having_done_anything_end_the_run(monkeypatch):
    monkeypatch.setattr(entry, "main", lambda context: None)
    monkeypatch.setattr(seats, "_LONGEST_WAIT_S", 0.0)
    with pytest.raises(TrainingError, match="without finishing a batch, the last one ended with status 0"):
        aimass.train("iris", workers=1, epochs=1).wait(60)


class Slow(nn.Linear):
    def forward(self, numbers):
        time.sleep(0.5)
        return super().forward(numbers)


def test_a_worker_that_is_too_slow_for_the_time_that_is_set_is_lost_for_that_reason():
    run, lost = aimass.train("iris", model=Slow(4, 3), strategy="allreduce", workers=1, epochs=1, lease={"timeout": 0.05}), []
    while not lost:
        lost = [envelope.data["how"] for envelope in run.events() if envelope.type == "worker_lost"]
        time.sleep(0.02)
    run.cancel()
    assert run.wait(60).state == "cancelled"
    assert set(lost) == {"killed, since a batch took it longer than lease.timeout=0.05"}

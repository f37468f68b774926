"""SIGSTOP and SIGCONT, of workers wherever they are and of the driver: what goes on goes on, and every batch counts once."""

import os
import subprocess

from faults import killing
from faults.test_kills import Watched, data, integer_run  # noqa: F401 - fixtures

from aimass.training import trainer
from aimass.training.workers import entry as worker_entry

NUM_STOPS = 6


def test_every_batch_counts_once_however_workers_and_driver_stand_still(data, integer_run, tmp_path, monkeypatch):  # noqa: F811
    """Workers stop in pushes and in claims, and go on: at once, after their lease is another's, or never, since they were killed."""
    look, stops = trainer.Trainer._look, []

    def stop_the_driver_too(run):
        look(run)
        if not stops and run.leases.committed_batches > 100:
            stops.append(subprocess.run(["sh", "-c", f"kill -STOP {os.getpid()}; sleep 1.5; kill -CONT {os.getpid()}"], check=True))

    monkeypatch.setattr(trainer.Trainer, "_look", stop_the_driver_too)
    monkeypatch.setattr(worker_entry, "main", killing.stop_and_go_on)
    run = Watched(data, tmp_path, monkeypatch, NUM_STOPS, epochs=12, lease={"timeout": 0.2})
    assert stops
    told = [event.kind for event in run.events]
    print(f"{run.kills} stops, {run.repairs} repairs, {told.count('worker_stuck')} killed, {told.count('lease_reassigned')}: {run.where}")
    assert run.kills >= NUM_STOPS // 2
    assert told.count("worker_stuck") < run.kills  # others went on
    assert told.count("driver_paused") >= 1
    run.check()

"""Divergence: what is an alarm and what is not, and the way back from it."""

import itertools
import json
import math
import os
import random
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

import aimass
from aimass.core.errors import TrainingError
from aimass.training.checkpoints.checkpoint import Checkpoints
from aimass.training.health.divergence import Divergence
from aimass.training.run import Run


def events_of(run, kind):
    return [envelope.data for envelope in run.events() if envelope.type == kind]


def first_alarm(losses, guess=1.0):
    divergence = Divergence(3.0, guess)
    return next((number for number, loss in enumerate(losses) if divergence.see(loss)), None)


def test_a_loss_that_runs_away_is_an_alarm_in_the_second_window():
    falling = [1 / n for n in range(1, 11)]
    assert first_alarm([*falling, 2.0, 4.0]) == 11
    assert first_alarm([*falling, 2.0, 0.1, 2.0, 0.1]) is None, "it comes back"
    assert first_alarm([*falling, 0.9, 0.9, 0.9]) is None, "still better than a constant"
    assert first_alarm([5.0] * 10) == 6, "far worse than a constant from the start on"
    assert first_alarm([math.inf, math.inf]) == 1, "the loss of most rows is not finite"
    assert first_alarm([1e4 * 0.9**n for n in range(60)]) is None, "it starts far off and comes closer"
    assert first_alarm([2.0, 9.0, 7.0, 3.0, 1.5, 1.0, 0.8]) is None, "it overshot in its first steps"


def test_losses_of_a_converged_model_are_no_alarm_whatever_their_tail():
    generator = random.Random(0)
    rare = [100 * sum(generator.random() < 0.001 for _ in range(200)) / 200 * 0.05 for _ in range(2_000)]
    squared = np.random.default_rng(0).chisquare(1, size=(20_000, 200)).mean(1) * 0.4
    assert first_alarm(rare) is None
    assert first_alarm(squared.tolist()) is None


def test_a_climb_too_slow_for_the_average_is_seen_from_epoch_to_epoch():
    divergence = Divergence(3.0, 1.0)
    losses = [0.9 * 1.02**n for n in range(120)]
    assert not any(divergence.see(loss) for loss in losses[:50])
    assert [divergence.see_epoch(loss, 100) is not None for loss in losses[::20]] == [False, False, False, True, True, True]
    assert divergence.see_epoch(1e9, 5) is None, "of so few batches nothing is judged"


@pytest.mark.parametrize("data", ["iris", "diabetes"])
def test_noisy_small_batches_of_the_samples_are_no_alarm(data):
    run = aimass.train(data, batch_size=2, max_steps=400, optimizer="adam", lr=0.01, checkpoint={"every": 100}).wait()
    assert events_of(run, "diverged") == []
    assert run.metrics()["rollbacks"] == 0


@pytest.mark.parametrize(
    ("strategy", "workers", "lr"), [("single", 0, 0.3), ("async_sgd", 2, 0.3), ("psm", 2, 0.6), ("allreduce", 2, 0.6), ("sharded", 2, 0.6)]
)
def test_a_run_that_diverges_goes_back_with_half_the_rate_and_ends_with_every_batch_once(strategy, workers, lr):
    settings = {"model": "linear", "optimizer": "sgd", "lr": lr, "batch_size": 8, "epochs": 20, "checkpoint": {"every": 0.2}}
    run = aimass.train("diabetes", strategy=strategy, workers=workers, **settings).wait()
    metrics = run.metrics()
    went_back = events_of(run, "rolled_back")
    assert 1 <= len(went_back) == len(events_of(run, "diverged")) == metrics["rollbacks"] <= 3
    assert [event["rate_factor"] for event in went_back] == [0.5**n for n in range(1, len(went_back) + 1)]
    assert all(event["to_step"] <= event["from_step"] for event in went_back)
    assert metrics["rate_factor"] == went_back[-1]["rate_factor"]
    assert metrics["steps"] == 20 * 45
    counted = sum(metrics["staleness"]) + metrics["gradients_refused"]
    again = workers * len(went_back) if strategy == "psm" else 0  # a part that was there before its round was over counts when it comes
    assert 0 <= counted - metrics["steps"] <= again
    assert [epoch["epoch"] for epoch in run.history()] == list(range(1, 21))
    assert metrics["train_loss"] < 3


def test_it_goes_back_at_most_as_often_as_is_set_and_then_says_why():
    settings = {"model": "linear", "optimizer": "sgd", "lr": 30.0, "batch_size": 8, "epochs": 40}
    with pytest.raises(TrainingError, match=r"going back 2 times, to half the rate each time, did not help; lower optimizer\.lr"):
        aimass.train("diabetes", health={"rollbacks": 2}, **settings).wait()
    with pytest.raises(TrainingError, match=r"going back 1 time, to"):
        aimass.train("diabetes", health={"rollbacks": 1}, **settings).wait()
    run = aimass.train("diabetes", health={"rollbacks": 0}, **settings)
    with pytest.raises(TrainingError, match=r"(costs, \S+|refused); lower optimizer\.lr"):
        run.wait()
    assert events_of(run, "rolled_back") == []


def test_without_health_only_refused_gradients_end_a_run():
    run = aimass.train("diabetes", model="linear", optimizer="sgd", lr=30.0, batch_size=8, epochs=40, health=False)
    with pytest.raises(TrainingError, match=r"gradients held NaN or infinity and were refused; lower optimizer\.lr"):
        run.wait()
    assert not {"diverged", "rolled_back", "workers_sampled"} & {envelope.type for envelope in run.events()}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_keeps_its_lowered_rate_unless_another_is_chosen(workers):
    settings = {"model": "linear", "optimizer": "sgd", "lr": 0.3, "batch_size": 8}
    run = aimass.train("diabetes", workers=workers, epochs=10, **settings).wait()
    factor = run.metrics()["rate_factor"]
    assert factor < 1
    assert run.resume(epochs=11).wait().metrics()["rate_factor"] == factor
    assert run.resume(epochs=12, lr=0.001).wait().metrics()["rate_factor"] == 1


def test_the_checkpoints_of_what_was_undone_are_removed_and_the_halved_rate_is_on_disk():
    run = aimass.train("diabetes", model="linear", optimizer="sgd", lr=30.0, batch_size=8, epochs=40, checkpoint={"every": 0.001})
    with pytest.raises(TrainingError):
        run.wait()
    steps = [event["to_step"] for event in events_of(run, "rolled_back")]
    folder = run.folder / "checkpoints"
    kept = Checkpoints(folder, 2).names()
    state = json.loads((folder / kept[-1] / "state.json").read_text())
    assert state["trainer"]["health"]["rate_factor"] == 0.125
    assert state["server"]["clock"] >= steps[-1]


class Breaks(torch.nn.Linear):
    """Gives nonsense once it has seen so many rows, until its count goes back."""

    def __init__(self, limit):
        super().__init__(13, 3)
        self.limit, self.last, self.has_gone_back = limit, 0.0, False
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, numbers):
        outputs = super().forward(numbers)
        if not self.training:
            return outputs
        self.seen += len(numbers)
        self.has_gone_back = self.has_gone_back or self.seen.item() < self.last
        self.last = self.seen.item()
        return outputs if self.has_gone_back or self.last < self.limit else outputs + 1e4 * torch.randn_like(outputs)


def test_it_goes_back_to_the_last_checkpoint_with_all_that_belongs_to_it():
    run = aimass.train("wine", model=Breaks(4000), batch_size=8, epochs=60, checkpoint={"every": 0.02}).wait()
    (back,) = events_of(run, "rolled_back")
    assert 0 < back["to_step"] < back["from_step"]
    assert back["to_step"] in [event["step"] for event in events_of(run, "checkpoint")]
    assert run.metrics()["steps"] == 60 * 18
    assert run.model.module.seen.item() == 60 * 142, "its buffers went back too, and each row counts once"
    assert run.metrics()["staleness"] == [60 * 18]


def test_the_rule_fits_any_scale_of_the_loss():
    for scale, guess in itertools.product((1e-6, 1.0, 1e6), (True, False)):
        divergence = Divergence(3.0, scale if guess else None)
        losses = [scale / n for n in range(1, 11)] + [5 * scale, 9 * scale]
        assert [divergence.see(loss) is not None for loss in losses] == [False] * 11 + [True]


class Poisoned(torch.nn.Linear):
    """In one process, and only as long as that lives, it answers with NaN."""

    def __init__(self, mark):
        super().__init__(13, 3)
        self.mark, self.is_bad = str(mark), None

    def forward(self, numbers):
        outputs = super().forward(numbers)
        if not self.training:
            return outputs
        if self.is_bad is None:
            try:
                os.close(os.open(self.mark, os.O_CREAT | os.O_EXCL))
                self.is_bad = True
            except FileExistsError:
                self.is_bad = False
        return outputs * float("nan") if self.is_bad else outputs


def test_nan_from_one_worker_alone_has_the_run_go_back_and_start_it_anew(tmp_path):
    run = aimass.train("wine", model=Poisoned(tmp_path / "mark"), workers=2, batch_size=4, epochs=30, lease={"batches": 2}).wait()
    (diverged,), (back,) = events_of(run, "diverged"), events_of(run, "rolled_back")
    assert (diverged["cause"], back["rate_factor"]) == ("refused", 0.5)
    assert "gradients" in diverged["message"]
    assert run.metrics()["gradients_refused"] == 0, "none of the steps that count"
    assert sum(run.metrics()["staleness"]) == run.metrics()["steps"] == 30 * 36


DRIVER = """
import os, signal, sys
import aimass
from aimass.training.health import rollback
from aimass.training.checkpoints.saving import Saver
restore, count = rollback._restore, 0
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
def die_the_second_time(*arguments):
    global count
    count += 1
    if count == 2 and sys.argv[2] == "restoring":
        die()
    restore(*arguments)
    if count == 2:
        Saver.forget_after = die  # it is written down where the run went back to, and later checkpoints may still be there
rollback._restore = die_the_second_time
settings = {"model": "linear", "optimizer": "sgd", "lr": 30.0, "batch_size": 8, "epochs": 20, "checkpoint": {"every": 0.05}}
aimass.train("diabetes", workers=int(sys.argv[1]), **settings).wait()
"""


@pytest.mark.parametrize(("workers", "moment"), [(0, "restoring"), (2, "written")])
def test_a_driver_killed_while_the_run_goes_back_is_resumed(workers, moment, own_home):
    done = subprocess.run([sys.executable, "-c", DRIVER, str(workers), moment], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    (run,) = Run.list()
    assert run.state == "interrupted"
    with pytest.raises(TrainingError, match=r"going back 3 times, to half the rate each time, did not help"):
        run.resume().wait()
    assert events_of(run, "rolled_back")[-1]["rate_factor"] == 0.125
    metrics = run.resume(lr=0.01).wait().metrics()
    assert metrics["rate_factor"] == 1
    assert sum(metrics["staleness"]) + metrics["gradients_refused"] == metrics["steps"] == 20 * 45
    assert [epoch["epoch"] for epoch in run.history()] == list(range(1, 21))

"""Runs from start to end: what ends them, what they leave, what they tell."""

import gc
import json
import os
import time

import numpy as np
import psutil
import pytest
import torch

import aimass
from aimass.core import files
from aimass.core.errors import DataError, NotFound, TrainingError, UsageError
from aimass.training import trainer
from aimass.training.events import EpochEnded
from aimass.training.run import Run


def kinds(run):
    return [envelope.type for envelope in run.events()]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"epochs": 3}, "epochs"),
        ({"max_steps": 77}, "max_steps"),
        ({"epochs": 500, "stop.target": "accuracy>=0.8"}, "target"),
        ({"epochs": 500, "patience": 3}, "patience"),
        ({"epochs": 500, "tolerance": 0.5}, "tolerance"),
        ({"budget": 0.5}, "budget"),
    ],
)
def test_a_run_ends_for_the_reason_that_it_says(settings, reason, workers):
    run = aimass.train("digits", workers=workers, **settings).wait()
    metrics = run.metrics()
    assert metrics["reason"] == reason
    assert run.state == "succeeded"
    if reason == "epochs":
        assert metrics["steps"] == 3 * 45
    if reason == "max_steps":
        assert metrics["steps"] == 77
        assert metrics["epochs"] == round(77 / 45, 3)
    if reason == "target":
        assert run.history()[-1]["validation"]["accuracy"] >= 0.8
        assert metrics["epochs"] < 500
    if reason == "patience":  # the last evaluation may be of a part of an epoch, which workers had begun meanwhile
        whole = [entry["validation"]["accuracy"] for entry in run.history() if entry["epoch"] <= metrics["epochs"]]
        assert max(whole[-3:]) <= max(whole[:-3])
        validated = run.data.validation
        assert run.model.evaluate(validated)["accuracy"] == pytest.approx(metrics["best"]["accuracy"])
    assert kinds(run)[0] == "run_started"
    assert kinds(run)[-1] == "run_ended"


@pytest.mark.parametrize("workers", [0, 2])
def test_each_epoch_is_told_once_and_in_order(workers):
    run = aimass.train("digits", workers=workers, epochs=12).wait()
    epochs = [envelope.event() for envelope in run.events() if envelope.type == "epoch"]
    assert all(isinstance(epoch, EpochEnded) for epoch in epochs)
    assert [epoch.epoch for epoch in epochs] == list(range(1, 13))
    assert sum(run.metrics()["staleness"]) == 12 * 45
    assert [envelope.seq for envelope in run.events()] == list(range(len(kinds(run))))
    assert run.metrics()["best"]["accuracy"] == max(epoch.validation["accuracy"] for epoch in epochs)


def test_only_the_last_checkpoints_and_the_best_one_stay():
    run = aimass.train("digits", epochs=100_000, checkpoint={"every": 0.01, "keep": 3})
    while kinds(run).count("checkpoint") <= 4 or "epoch" not in kinds(run):
        assert run.state == "running"
        time.sleep(0.02)
    run.cancel()
    steps = run.wait().metrics()["steps"]
    names = sorted(path.name for path in (run.folder / "checkpoints").iterdir())
    assert names[0] == "best"
    assert len(names) == 4
    assert names[-1] == f"step-{steps:012d}"


def test_no_descriptor_and_no_process_is_left_by_ten_runs():
    aimass.train("iris", workers=2, epochs=1).wait()
    before = len(os.listdir("/proc/self/fd")), len(psutil.Process().children(recursive=True))
    for _ in range(5):
        aimass.train("iris", workers=2, epochs=1).wait()
        aimass.train("iris", epochs=1).wait()
    gc.collect()
    after = len(os.listdir("/proc/self/fd")), len(psutil.Process().children(recursive=True))
    assert after[1] <= before[1]
    assert after[0] <= before[0] + 2


def test_no_descriptor_is_left_where_no_worker_can_be_started(monkeypatch):
    def fail(*_):
        raise OSError("too many open files")

    monkeypatch.setattr(trainer, "Supervisor", fail)
    before = None
    for _ in range(3):
        with pytest.raises(OSError, match="too many open files"):
            aimass.train("iris", workers=1, epochs=1).wait()
        gc.collect()
        before = before or len(os.listdir("/proc/self/fd"))
    assert len(os.listdir("/proc/self/fd")) <= before


def test_two_runs_at_once_do_not_meet():
    runs = [aimass.train("digits", workers=1, epochs=5, seed=seed) for seed in (1, 1)]
    first, second = [run.wait() for run in runs]
    assert first.metrics()["steps"] == second.metrics()["steps"] == 225
    for a, b in zip(first.model.module.parameters(), second.model.module.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_training_leaves_the_callers_random_state_and_module_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    module = torch.nn.Linear(13, 3)
    torch.manual_seed(7)
    start = module.weight.clone()
    run = aimass.train("wine", model=module, epochs=3, seed=99).wait()
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(module.weight, start)
    assert not torch.equal(run.model.module.weight, start)


@pytest.mark.parametrize("workers", [0, 2])
def test_buffers_of_a_batch_norm_are_those_of_the_data(workers):
    module = torch.nn.Sequential(torch.nn.BatchNorm1d(13, momentum=None), torch.nn.Linear(13, 3))
    run = aimass.train("wine", model=module, workers=workers, epochs=8, batch_size=16, lr=0.02).wait()
    norm = run.model.module[0]
    torch.testing.assert_close(norm.running_mean, torch.zeros(13), atol=0.08, rtol=0)
    assert norm.num_batches_tracked > 0
    assert run.model.evaluate(run.data.train)["accuracy"] > 0.8


def test_a_weighted_row_counts_as_often_as_it_says():
    x = np.linspace(-1, 1, 40)
    columns = {"x": [*x, *x], "y": [*(2 * x), *(-2 * x)], "w": [3.0] * 40 + [1.0] * 40}
    data = aimass.data.load(columns, "y", weight="w", split=(1, 0, 0), task="regression")
    model = aimass.train(data, model="linear", batch_size=80, epochs=2000, optimizer="momentum", lr=0.05).wait().model
    assert model.predict([{"x": 1.0}])[0]["prediction"] == pytest.approx(1.0, abs=0.02)  # (3 · 2 − 1 · 2) / 4


def test_a_run_is_found_by_the_beginning_of_its_id_and_listed_newest_first():
    first = aimass.train("iris", epochs=1).wait()
    time.sleep(0.01)
    second = aimass.train("iris", epochs=1).wait()
    assert [run.id for run in Run.list()] == [second.id, first.id]
    assert Run.open(first.id[:-1]).id == first.id
    assert Run.open(first.folder).metrics() == first.metrics()
    with pytest.raises(NotFound, match="2 runs begin with 'run-'"):
        Run.open("run-")
    with pytest.raises(NotFound, match="no run 'nothing'"):
        Run.open("nothing")
    with pytest.raises(NotFound, match="no run '/no/such/folder'"):
        Run.open("/no/such/folder")


def test_what_cannot_be_resumed_says_why(tmp_path):
    run = aimass.train({"x": list(range(40)), "y": [0, 1] * 20}, "y", epochs=1).wait()
    with pytest.raises(UsageError, match=r"data from memory; resume it from Python"):
        aimass.resume(run.id)
    file = tmp_path / "a.csv"
    file.write_text("x,y\n" + "".join(f"{i},{i % 2}\n" for i in range(40)))
    run = aimass.train(str(file), "y", epochs=1).wait()
    with pytest.raises(UsageError, match="batch_size cannot change"):
        aimass.resume(run.id, batch_size=3)
    assert aimass.resume(run.id, epochs=2).wait().metrics()["epochs"] == 2
    file.write_text("x,y\n" + "".join(f"{i},{(i + 1) % 2}\n" for i in range(40)))
    with pytest.raises(DataError, match="has changed since"):
        aimass.resume(run.id, epochs=3)
    custom = aimass.train("wine", model=torch.nn.Linear(13, 3), epochs=1).wait()
    with pytest.raises(UsageError, match="model=MyModule"):
        aimass.resume(custom.id)
    assert aimass.resume(custom.id, model=torch.nn.Linear(13, 3), epochs=2).wait().metrics()["epochs"] == 2


def test_a_run_that_cannot_go_on_as_asked_is_left_as_it_was():
    run = aimass.train("iris", epochs=2).wait()
    for changes in ({"model.hidden": [3]}, {"model": "linear"}, {"model": {"name": "linear"}}):
        with pytest.raises(UsageError, match="cannot change in a run that goes on"):
            run.resume(**changes)
    assert run.state == "succeeded"
    assert run.resume(epochs=3).wait().metrics()["epochs"] == 3
    with pytest.raises(UsageError, match="12 steps are done already, and 4 are wanted"):
        run.resume(epochs=1).wait()


@pytest.mark.parametrize("workers", [0, 2])
def test_going_on_with_more_steps_does_the_rest_of_a_lease_that_was_cut_short(workers):
    run = aimass.train("digits", workers=workers, max_steps=100, batch_size=16, lease={"batches": 32}).wait()
    again = run.resume(max_steps=200).wait()
    assert again.metrics()["steps"] == 200
    assert sum(again.metrics()["staleness"]) == 200, "as many pushes as steps"


def test_an_epoch_inside_which_a_run_ended_has_the_loss_of_all_its_rows_in_the_end():
    run, whole = aimass.train("iris", max_steps=6).wait(), aimass.train("iris", epochs=2).wait()
    assert run.resume(max_steps=8).wait().history()[-1]["train_loss"] == pytest.approx(whole.history()[-1]["train_loss"])


def test_every_epoch_is_evaluated_however_short_it_is():
    run = aimass.train("iris", workers=2, epochs=150).wait()
    assert [epoch["epoch"] for epoch in run.history()] == list(range(1, 151))


def test_an_epoch_that_ended_while_the_one_before_was_evaluated_is_evaluated_where_the_run_goes_on():
    run = aimass.train("iris", epochs=3).wait()
    path = next((run.folder / "checkpoints").glob("step-*12/state.json"))
    kept = json.loads(path.read_text())
    state, rows = kept["trainer"], 120
    last, counters = state["history"].pop(), state["counters"]
    state["curve"] = {"loss": counters["loss"] - rows * last["train_loss"], "loss_weight": counters["loss_weight"] - rows}
    path.write_text(json.dumps(kept))

    run.resume(epochs=4).wait()
    again = [envelope.data for envelope in run.events() if envelope.type == "epoch"][3:]
    assert [epoch["epoch"] for epoch in again] == [3, 4]
    assert again[0]["train_loss"] == pytest.approx(last["train_loss"])
    assert (again[0]["step"], again[0]["validation"]) == (12, last["validation"])


def test_a_run_that_learnt_nothing_does_not_succeed():
    class Nothing(torch.nn.Linear):
        def forward(self, numbers):
            return super().forward(numbers) * float("nan")

    run = aimass.train("wine", model=Nothing(13, 3), epochs=3, stop={"epochs": 3, "target": "train_loss<=0.5"})
    with pytest.raises(TrainingError, match="every gradient held NaN"):
        run.wait()


def test_workers_can_change_when_a_run_goes_on():
    run = aimass.train("digits", epochs=2).wait()
    again = run.resume(epochs=4, workers=2).wait()
    assert again.config.strategy.name == "async_sgd"
    assert again.metrics()["steps"] == 180
    assert again.resume(epochs=5, workers=0).wait().metrics()["steps"] == 225


def test_fewer_workers_can_finish_the_open_leases_of_many():
    """Six workers leave up to six leases half-done; one process has to do the rest of each."""
    run = aimass.train("digits", workers=6, epochs=100_000, batch_size=8, lease={"batches": 32})
    while not any(envelope.type == "epoch" for envelope in run.events()):
        time.sleep(0.02)
    run.cancel()
    steps = run.wait().metrics()["steps"]
    whole = -(-steps // 180) + 1
    again = run.resume(epochs=whole, workers=0).wait()
    assert again.metrics()["steps"] == whole * 180
    assert sum(again.metrics()["staleness"]) == whole * 180


def test_a_plot_is_drawn_in_the_format_of_its_name(tmp_path):
    run = aimass.train("iris", epochs=2).wait()
    assert run.plot(tmp_path / "deep" / "curve.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert run.plot(tmp_path / "curve.svg").read_text().startswith("<?xml")
    with pytest.raises(UsageError, match=r"end the name in \.png"):
        run.plot(tmp_path / "curve.doc")


def test_a_run_tells_its_state_and_metrics_only_when_there_are_some():
    run = aimass.train("digits", epochs=100_000, workers=2)
    assert run.state == "running"
    with pytest.raises(NotFound, match="has no metrics yet"):
        run.metrics()
    with pytest.raises(TimeoutError, match="it goes on"):
        run.wait(timeout=0.05)
    with pytest.raises(UsageError, match="still running"):
        aimass.resume(run.id)
    run.cancel()
    run.wait()
    assert json.dumps(run.summary())
    assert run.summary()["state"] == "cancelled"


def test_a_run_that_is_watched_raises_what_ended_it():
    assert aimass.train("iris", epochs=2, progress=True).state == "succeeded"

    class Broken(torch.nn.Linear):
        def forward(self, numbers):
            return super().forward(numbers) * float("nan")

    with pytest.raises(TrainingError, match="every gradient held NaN"):
        aimass.train("iris", epochs=2, progress=True, model=Broken(4, 3))


def test_a_misspelt_target_is_refused_before_there_is_a_run():
    with pytest.raises(UsageError, match=r"'acuracy', and this run measures: accuracy, loss, train_loss; did you mean 'accuracy'\?"):
        aimass.train("iris", epochs=2, stop={"target": "acuracy>=0.9"})
    assert list((files.home() / "runs").glob("*")) == []

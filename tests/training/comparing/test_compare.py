"""Comparisons of real runs, held against what the runs themselves tell."""

import json

import pytest
import torch

import aimass
from aimass.core.errors import TrainingError, UsageError
from aimass.training.comparing.contenders import choose
from aimass.training.run import Run

STRATEGIES = ["single", "async_sgd", "parameter_server:staleness=2", {"name": "ddp", "accumulate": 2}]
LABELS = ["single", "async_sgd", "parameter_server:staleness=2", "allreduce:accumulate=2"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("compared")


@pytest.fixture(scope="module")
def found(home):
    return aimass.compare("iris", strategies=STRATEGIES, workers=2, epochs=4, lr=0.01, home=home)


@pytest.fixture(scope="module")
def hard(home):
    return aimass.compare(
        "iris", strategies="async_sgd", max_steps=60, slow="0:2x", kill=["1@5", "0@600s"], link="20ms", target_loss=-1.0, home=home
    )


def test_each_is_a_run_from_the_same_start_and_is_kept(found, home):
    assert [entry.strategy for entry in found.entries] == LABELS
    runs = [Run.open(entry.trials[0].run, home) for entry in found.entries]
    assert [run.config.strategy.name for run in runs] == ["single", "async_sgd", "parameter_server", "allreduce"]
    assert [run.config.workers for run in runs] == [entry.workers for entry in found.entries] == [0, 2, 2, 2]
    assert {(run.config.seed, run.config.optimizer.lr, run.source["fingerprint"]) for run in runs} == {
        (0, 0.01, runs[0].source["fingerprint"])
    }
    assert runs[2].config.strategy.staleness == 2
    assert {run.id for run in Run.list(home)} >= {run.id for run in runs}


def test_the_target_is_the_lowest_loss_that_every_run_reached(found, home):
    histories = [Run.open(entry.trials[0].run, home).history() for entry in found.entries]
    losses = [[epoch["validation"]["loss"] for epoch in history] for history in histories]
    assert found.target == max(map(min, losses))
    for entry, history, seen in zip(found.entries, histories, losses, strict=True):
        reached = next(epoch for epoch, loss in zip(history, seen, strict=True) if loss <= found.target)
        row = entry.figures(found.target, "accuracy")
        assert (row["epochs_to_target"], row["s_to_target"], row["bytes_to_target"]) == (
            reached["epoch"],
            reached["elapsed_s"],
            reached["bytes_moved"],
        )
        assert (row["loss"], row["metric"]) == (seen[-1], history[-1]["validation"]["accuracy"])
    times = [row["s_to_target"] for row in found.rows()]
    assert times == sorted(times)


def test_the_rows_say_what_the_runs_moved_and_how_stale_they_were(found, home):
    rows = {row["strategy"]: row for row in found.rows()}
    for entry in found.entries:
        metrics = Run.open(entry.trials[0].run, home).metrics()
        names = ("elapsed_s", "bytes_sent", "bytes_received", "staleness_mean", "staleness_most", "workers_lost")
        assert [rows[entry.strategy][name] for name in names] == [metrics[name] for name in names]
    assert rows["single"]["bytes_sent"] == 0 < rows["allreduce:accumulate=2"]["bytes_sent"] < rows["async_sgd"]["bytes_sent"]


def test_it_goes_through_json_and_becomes_a_picture(found, tmp_path):
    told = json.loads(json.dumps(found.as_dict()))
    assert [row["strategy"] for row in told["strategies"]] == [entry.strategy for entry in found.ranking]
    assert [run["points"][-1]["epoch"] for run in told["runs"]] == [4] * 4
    assert told["target_is"] == "the lowest loss that every run reached"
    header, *lines = str(found).splitlines()
    assert header.split()[-5:] == ["MB", "moved", "stale", "by", "lost"]
    assert [line.split()[0] for line in lines[:4]] == [entry.strategy for entry in found.ranking]
    below = lines.index(f"target      validation loss {found.target:.4g}, the lowest that every run reached") + 1
    assert [line[12:] for line in lines[below:-1]] == [f"{entry.strategy} {entry.trials[0].run}" for entry in found.entries]
    assert lines[-1].strip() == "aimass runs show ID tells more of one"
    assert found.plot(tmp_path / "compared.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UsageError, match=r"end the name in \.png"):
        found.plot(tmp_path / "compared.bmp")


def test_workers_are_slowed_killed_and_set_apart_as_asked(hard):
    (row,) = hard.rows()
    (trial,) = hard.entries[0].trials
    assert (row["state"], row["steps"], row["workers_lost"]) == ("succeeded", 60, 1)
    assert row["elapsed_s"] >= 60 * 2 * 0.02 / 2  # two messages a batch, and two workers at it
    assert row["remarks"] == ["worker 0 was not killed: the run ended before 600 s"]
    assert hard.adversity[0] == "worker 0 takes 2 times as long"
    assert hard.adversity[1:] == ("worker 1 is killed at step 5", "worker 0 is killed at 600 s", "exchanges over 20 ms")
    assert hard.target == -1.0
    assert row["s_to_target"] is row["epochs_to_target"] is None
    assert trial.metrics["steps"] == 60


def test_those_that_run_several_times_take_turns(home):
    found = aimass.compare("iris", strategies=["single", "auto"], workers=2, epochs=1, repeats=2, home=home)
    runs = [(trial.run, entry.strategy) for entry in found.entries for trial in entry.trials]
    created = {run.id: run.summary()["created"] for run in Run.list(home)}
    assert [strategy for _, strategy in sorted(runs, key=lambda run: created[run[0]])] == ["single", "auto"] * 2
    assert [row["steps"] for row in found.rows()] == [4, 4]
    assert found.entries[1].remarks()[0].startswith("trains by ")


def test_all_leaves_out_who_cannot_and_says_why():
    data = aimass.data.load("iris")
    contenders, cannot = choose("all", 2, {"lease": {"batches": 4}}, data)
    assert {"single", "async_sgd", "allreduce"} <= {contender.label for contender in contenders}
    assert "in rounds a lease is what a worker does between two exchanges" in cannot["parameter_server"]
    assert "workers=1" in choose("all", 1, {}, data)[1]["supernode"]
    with pytest.raises(UsageError, match="in rounds a lease"):
        choose("async_sgd,parameter_server", 2, {"lease": {"batches": 4}}, data)


class Hopeless(torch.nn.Module):
    """Its gradients are no numbers."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 3)

    def forward(self, numbers):
        return self.linear(numbers) * float("nan")


def test_what_ended_runs_that_fail_is_told(home):
    with pytest.raises(TrainingError, match=r"no run succeeded: single failed: .*; async_sgd failed: .*"):
        aimass.compare("iris", strategies="single,async_sgd", workers=0, epochs=1, model=Hopeless(), home=home)


def test_nobody_is_slow_or_killed_where_all_train_in_one_process(home):
    alone = aimass.compare("iris", strategies="single", slow="1:3x", kill="1@1", link="20ms", max_steps=1, home=home)
    assert alone.adversity == ()


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"strategies": "single,nobody"}, "no strategy 'nobody'"),
        ({"strategies": "parameter_server:staleness"}, "has no value for 'staleness'"),
        ({"strategies": "parameter_server:staleness=few"}, r"strategy\.staleness"),
        ({"strategies": []}, "none was named"),
        ({"strategies": "single,async_sgd,single"}, "'single' is named twice; name it once"),
        ({"workers": (1, 2)}, "give one number"),
        ({"slow": "1=3"}, "write it like 1:3x"),
        ({"slow": {1: 0.5}}, "at least 1"),
        ({"slow": {"x": 3.0}}, "names no workers and factors"),
        ({"slow": 5}, "names nobody; write it like 1:3x"),
        ({"kill": 5}, "names nobody; write it like 1@10s"),
        ({"repeats": "2"}, "from 1 to"),
        ({"target_loss": "low"}, "no loss"),
        ({"strategies": [5]}, "5 is no strategy; give a name"),
        ({"slow": ["1:3x", "1:5x"]}, "slow names worker 1 twice; give one factor"),
        ({"slow": {2: 3.0}}, "there are workers 0 to 1"),
        ({"kill": "1"}, "write it like 1@10s"),
        ({"kill": "1@100%"}, "write it like 1@10s"),
        ({"kill": {3: 1.0}}, "there are workers 0 to 1"),
        ({"kill": "0@10s", "workers": 0}, "there are none"),
        ({"kill": "1@50%", "budget": "5s"}, "length of the runs is not known"),
        ({"link": "fast"}, "such as 20mbit,50ms"),
        ({"link": "0mbit"}, "lets nothing pass"),
        ({"repeats": 0}, "from 1 to"),
        ({"target_loss": float("nan")}, "no loss"),
        ({"strategy": "single"}, "give it behind that strategy's name"),
        ({"epochs": 0}, "greater than or equal to 1"),
        ({"model": "nothing"}, "nothing"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(wanted, said, own_home):
    with pytest.raises(UsageError, match=said):
        aimass.compare("iris", **wanted)
    assert Run.list() == []

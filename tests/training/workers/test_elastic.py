"""Runs whose workers become more and fewer: what is asked for, what is refused, and what happens."""

import contextlib
import json
import os
import re
import signal
import sys

import cloudpickle
import pytest
import torch
from faults.test_runs import LONG, events_of, wait_until

import aimass
from aimass.cluster.processors import num_processors
from aimass.core.errors import Conflict, TrainingError, UsageError
from aimass.training.config import TrainConfig
from aimass.training.run import Run
from aimass.training.settling import changed, settle
from aimass.training.workers import entry as worker_entry
from aimass.training.workers.elastic import WorkerRange

cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.mark.parametrize("written", [(1, 4), [1, 4], "1:4", " 1 : 4 "])
def test_a_range_is_read_however_it_is_written_and_kept_as_two_numbers(written):
    config, _ = settle({"workers": written})
    assert (config.workers, config.least_workers, config.strategy.name) == (4, 1, "async_sgd")
    assert TrainConfig.parse(json.loads(config.model_dump_json())) == config


def test_one_number_is_no_range():
    for written in (3, "3", (3, 3), "3:3"):
        config, _ = settle({"workers": written})
        assert (config.workers, config.least_workers, config.strategy.name) == (3, None, "async_sgd")
    assert settle({"workers": "0"})[0].strategy.name == "single"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"workers": (0, 4)}, "the least is at least 1"),
        ({"workers": (4, 1)}, "the least is at least 1 and not above the most"),
        ({"workers": (1, 2, 3)}, "a range has two whole numbers"),
        ({"workers": (1.5, 2)}, "a range has two whole numbers"),
        ({"workers": "many"}, "it is a number, or a range such as 1:4"),
        ({"workers": (1, 999)}, "workers=999: input should be less than or equal to 256"),
        ({"workers": 2, "least_workers": 3}, "least_workers=3 is above workers=2"),
        ({"workers": (1, 2), "strategy": "single"}, "'single' trains in one process"),
    ],
)
def test_what_cannot_be_is_refused_before_a_process_starts(settings, said):
    with pytest.raises(UsageError, match=said):
        settle(settings)


def test_a_strategy_that_needs_all_workers_refuses_a_range():
    said = "'allreduce', as it is set, needs the same workers from start to end, and workers=1:2 is a range; give one number, or use"
    with pytest.raises(UsageError, match=said):
        TrainConfig.parse({"workers": (1, 2), "strategy": "allreduce"})
    assert TrainConfig.parse({"workers": 2, "strategy": "allreduce"}).workers == 2


def test_a_resumed_run_keeps_its_range_until_it_is_given_another_number():
    config, _ = settle({"workers": (1, 4)})
    assert changed(config, {"epochs": 3}).worker_range == WorkerRange(1, 4)
    assert changed(config, {"workers": 2}).worker_range == WorkerRange(2, 2)
    assert changed(config, {"workers": "2:3"}).worker_range == WorkerRange(2, 3)
    assert changed(config, {"workers": "0"}).strategy.name == "single"


def test_a_strategy_that_was_chosen_stays_with_other_workers_and_takes_no_settings_of_another():
    config, _ = settle({"strategy": {"name": "allreduce", "accumulate": 2}, "workers": 2})
    alone = changed(config, {"workers": 0})
    assert alone.strategy == changed(alone, {"workers": 3}).strategy == config.strategy
    assert changed(config, {"strategy": {"name": "parameter_server", "staleness": 3}}).strategy.model_dump()["staleness"] == 3
    assert changed(config, {"strategy.accumulate": 4}).strategy.model_dump()["backend"] == "auto"
    assert changed(config, {"strategy": "parameter_server", "strategy.servers": 2}).strategy.name == "parameter_server"


def test_a_run_starts_with_as_many_as_there_are_processors_for(tmp_path):
    assert WorkerRange(1, 10_000).start == num_processors()
    assert WorkerRange(9_000, 10_000).start == 9_000
    assert WorkerRange(5, 5).start == 5
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert num_processors(tmp_path) == min(2, num_processors())
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert num_processors(tmp_path) == num_processors(tmp_path / "none")
    older = tmp_path / "older"
    (older / "cpu").mkdir(parents=True)
    (older / "cpu/cpu.cfs_period_us").write_text("100000\n")
    for quota, expected in (("100000\n", 1), ("-1\n", num_processors(tmp_path / "none"))):
        (older / "cpu/cpu.cfs_quota_us").write_text(quota)
        assert num_processors(older) == expected


def test_workers_join_and_leave_a_run_that_goes():
    run = aimass.train("digits", workers=(1, 3), **LONG)
    wait_until(lambda: events_of(run, "epoch"))
    present = num_processors() if num_processors() < 3 else 3
    for wanted in (1, 3, 2):
        seen = len(events_of(run, "progress"))
        run.scale(wanted)
        wait_until(lambda: [event["workers"] for event in events_of(run, "progress")[seen:]][-1:] == [wanted])  # noqa: B023
        (*_, scaled) = events_of(run, "scaled")
        assert scaled == {"workers": wanted, "before": present, "reason": "asked"}
        present = wanted
    with pytest.raises(UsageError, match="from 1 to 3 workers; 4 is outside of that"):
        run.scale(4)
    Run.open(run.folder).scale(1)  # as another process does
    wait_until(lambda: [event["workers"] for event in events_of(run, "scaled")][-1:] == [1])
    run.cancel()
    run.wait()
    assert run.metrics()["workers_lost"] == 0
    assert len(events_of(run, "worker_left")) >= 2
    with pytest.raises(Conflict, match="is cancelled, and only a run that goes can be scaled"):
        run.scale(2)


def test_a_run_with_one_number_of_workers_is_not_scaled():
    run = aimass.train("digits", workers=1, **LONG)
    with pytest.raises(UsageError, match=r"1 worker from start to end; give a range, such as workers=\(1, 4\)"):
        run.scale(2)
    run.cancel()
    run.wait()


class Normed(torch.nn.Sequential):
    """A module with running statistics, and a count."""

    def __init__(self):
        super().__init__(torch.nn.Linear(64, 16), torch.nn.BatchNorm1d(16), torch.nn.ReLU(), torch.nn.Linear(16, 10))


def test_a_worker_that_comes_back_has_the_statistics_of_the_others_and_every_row_counts_once():
    run = aimass.train("digits", model=Normed(), workers=(1, 2), epochs=40, batch_size=32, checkpoint={"every": 0.5})
    for wanted in (1, 2, 1, 2):
        with contextlib.suppress(Conflict):  # on a fast machine it has ended
            run.scale(wanted)
        wait_until(lambda: [event["workers"] for event in events_of(run, "progress")][-1:] == [wanted] or run.state != "running")  # noqa: B023
    run.wait()
    assert run.metrics()["steps"] == 40 * 45
    assert events_of(run, "progress")[-1]["rows"] == 40 * len(run.data.train)
    assert sum(run.metrics()["staleness"]) == 40 * 45
    assert run.metrics()["validation"]["accuracy"] > 0.9


def short_of_memory(context):
    """An entry whose worker may have hardly more memory than it has, in any seat but the first."""
    import resource
    from pathlib import Path

    if context.payload.slot > 0:
        size = int(Path("/proc/self/statm").read_text().split()[0]) * 4096
        resource.setrlimit(resource.RLIMIT_AS, (size + (4 << 20), size + (4 << 20)))
    worker_main(context)


def killed_at_once(context):
    """An entry whose worker the system ends before it has done anything, in any seat but the first."""
    if context.payload.slot > 0:
        os.kill(os.getpid(), signal.SIGKILL)
    worker_main(context)


worker_main = worker_entry.main
LARGE = {"model": {"name": "mlp", "hidden": [2000, 500]}, "batch_size": 64}


@pytest.mark.parametrize(
    ("entry", "why"),
    [(short_of_memory, "out of memory: it had .* MB of addresses"), (killed_at_once, "died 3 times before its first step")],
)
def test_an_elastic_run_goes_on_with_fewer_where_there_is_no_room_for_more(entry, why, monkeypatch):
    monkeypatch.setattr(worker_entry, "main", entry)
    run = aimass.train("digits", workers=(1, 2), epochs=100_000, **LARGE)
    run.scale(2)
    wait_until(lambda: [event for event in events_of(run, "scaled") if event["reason"] != "asked"] or run.state != "running")
    (scaled,) = [event for event in events_of(run, "scaled") if event["reason"] != "asked"]
    assert (scaled["workers"], scaled["before"]) == (1, 2)
    assert re.search(why, scaled["reason"]), scaled
    seen = len(events_of(run, "progress"))
    wait_until(lambda: any(event["rows_per_s"] for event in events_of(run, "progress")[seen + 1 :]))
    run.cancel()
    run.wait()
    assert run.state == "cancelled"


def test_a_run_with_one_number_of_workers_says_what_to_do_about_memory(monkeypatch):
    monkeypatch.setattr(worker_entry, "main", short_of_memory)
    run = aimass.train("digits", workers=2, epochs=100_000, **LARGE)
    with pytest.raises(TrainingError, match=r"worker 1 ran out of memory: it had \d+ MB.*lower batch_size, use a smaller model, or fewer"):
        run.wait()

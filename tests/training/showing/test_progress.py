import io
import json
import re
from dataclasses import replace

import pytest

from aimass import train
from aimass.core.events import EventLog
from aimass.training import events as happened
from aimass.training.run import Run
from aimass.training.showing.news import news
from aimass.training.showing.progress import follow
from aimass.training.showing.standing import Standing, duration, headline
from aimass.training.train import resume


class Terminal(io.StringIO):
    def isatty(self):
        return True


def started(**changes):
    size = {"rows": 100, "parameters": 10, "batches_per_epoch": 10, "total_steps": 100, "epochs": 10}
    return happened.RunStarted(**{"data": "x", "strategy": "async_sgd", "workers": 2, **size, **changes})


def progress(step, **changes):
    return happened.Progress(**{"step": step, "epoch": step / 10, "rows": 0, "rows_per_s": 50.0, "workers": 2, "loss": 0.5, **changes})


ENDED = happened.RunEnded(state="succeeded", reason="epochs", message="all is done", step=100)


@pytest.fixture
def told(tmp_path):
    """A run that has ended, whose log holds the events that are given."""

    def make(*events):
        run = train("iris", max_steps=1, home=tmp_path).wait()
        (run.folder / "events.jsonl").unlink()
        with EventLog(run.folder / "events.jsonl", run.id) as log:
            for event in events:
                log.append(event)
        return Run.open(run.folder)

    return make


def lines_of(run, style="lines"):
    stream = io.StringIO()
    follow(run, style=style, stream=stream)
    return stream.getvalue().splitlines()


def test_lines_tell_the_beginning_the_end_and_little_between(tmp_path):
    lines = lines_of(train("iris", epochs=200, home=tmp_path))
    assert lines[0] == "training on iris: 120 rows, 9,091 parameters, single"
    assert re.fullmatch(r"epoch 200/200  step 800/800  loss \d\.\d{4}  validation accuracy \d\.\d{4}  [\d,]+ rows/s", lines[-2])
    assert lines[-1] == "succeeded: all 200 epochs are done"
    assert len(lines) < 100


def test_one_worker_is_no_plural(told):
    assert lines_of(told(started(workers=1)))[0] == "training on x: 100 rows, 10 parameters, async_sgd with 1 worker"
    begun = happened.StartedFrom(source="m", copied=["bias"], fresh=["weight"], adapters=[], trainable_parameters=9, frozen_parameters=0)
    assert lines_of(told(begun))[-1] == "begins with 1 tensor of m, weight afresh: 9 parameters learn, 0 stay as they are"
    many = replace(begun, fresh=[f"layers.{number}" for number in range(50)], warning="only 1 of the 9 parameters of m fit")
    line = "layers.0, layers.1, layers.2, layers.3, layers.4 and 45 more afresh: 9 parameters learn, 0 stay as they are. Warning: only 1 of"
    assert line in lines_of(told(many))[-1]


def test_every_event_that_matters_has_its_line(told):
    lost = happened.WorkerLost(worker=1, pid=7, how="killed by SIGKILL", inside_push=True)
    again = happened.LeaseReassigned(lease=3, epoch=2, from_batch=4, reason="worker 1 killed by SIGKILL")
    left = happened.LeaseReassigned(lease=5, epoch=2, from_batch=4, reason="worker 0 ended with status 0")
    back = happened.WorkerStarted(worker=1, pid=8, replaces_dead=True)
    first = happened.WorkerStarted(worker=1, pid=7)
    assert lines_of(told(started(), first, lost, again, left, back, progress(100), ENDED)) == [
        "training on x: 100 rows, 10 parameters, async_sgd with 2 workers",
        "worker 1 is lost: process 7 was killed by SIGKILL inside a push",
        "lease 3 goes on from its batch 4: worker 1 killed by SIGKILL",
        "worker 1 runs again as process 8",
        "epoch 10/10  step 100/100  loss 0.5000  50 rows/s  2 of 2 workers",
        "succeeded: all is done",
    ]


def test_where_and_in_what_it_computes_is_said(told):
    chosen = happened.PrecisionChosen(precision="bf16", float32_s=0.0052, bf16_s=0.0021)
    unable = happened.PrecisionChosen(precision="float32", float32_s=0.0052, bf16_s=None)
    assert lines_of(told(started(devices=["cuda:0", "cuda:1"]), chosen, unable, ENDED))[:3] == [
        "training on x: 100 rows, 10 parameters, async_sgd with 2 workers, on cuda:0 and cuda:1",
        "computing in bf16: a step takes 5.2 ms in float32 and 2.1 ms in bf16",
        "computing in float32: the model cannot in bfloat16",
    ]
    assert lines_of(told(started(devices=["cpu"]), ENDED))[0].endswith("with 2 workers")


def test_refused_gradients_are_counted_and_not_told_one_by_one(told):
    refused = [happened.GradientRefused(worker=1, count=1), happened.GradientRefused(worker=0, count=1)] * 50
    lines = lines_of(told(started(), *refused, ENDED))
    assert lines[-3:-1] == [
        "worker 0: 50 gradients with NaN or infinity refused",
        "worker 1: 50 gradients with NaN or infinity refused",
    ]
    assert len(lines) == 5


def test_a_failed_run_is_shown_and_not_raised(told):
    failed = happened.RunEnded(state="failed", reason="failed", message="bad luck", step=3)
    assert lines_of(told(started(), failed))[-1] == "failed at step 3"


def test_a_run_that_goes_on_shows_only_its_new_part(tmp_path):
    run = train("iris", max_steps=4, home=tmp_path).wait()
    lines = lines_of(resume(run.id, home=tmp_path, max_steps=6))
    assert [line for line in lines if line.startswith("training")] == [
        "training on iris: 120 rows, 9,091 parameters, single, going on from step 4"
    ]
    assert lines[-1] == "succeeded: all 6 steps are done"
    assert lines_of(Run.open(run.folder))[0] == lines[0]


def test_a_run_whose_process_died_ends_the_watch(told):
    run = told(started(), progress(5))
    described = json.loads((run.folder / "run.json").read_text())
    (run.folder / "run.json").write_text(json.dumps({**described, "state": "running", "pid": 2**22 + 1}))
    run = Run.open(run.folder)
    assert run.state == "interrupted"
    assert lines_of(run) == ["training on x: 100 rows, 10 parameters, async_sgd with 2 workers"]


def test_events_of_a_later_release_are_passed_over(told):
    run = told(started(), ENDED)
    log = run.folder / "events.jsonl"
    first, last = log.read_text().splitlines(keepends=True)
    before = lines_of(run)
    log.write_text(first + first.replace("run_started", "moon_landed") + last)
    assert lines_of(run) == before


def test_none_shows_nothing_and_waits(tmp_path):
    run = train("iris", max_steps=3, home=tmp_path)
    assert lines_of(run, "none") == []
    assert run.state == "succeeded"


def test_a_terminal_gets_a_bar_and_the_end_stands_below_it(tmp_path, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    terminal = Terminal()
    follow(train("iris", epochs=30, home=tmp_path), stream=terminal)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    assert "━" in shown
    assert "epoch 30/30" in shown
    assert "100%" in shown
    assert re.search(r"loss \d\.\d{4}  validation accuracy \d\.\d{4}  [\d,]+ rows/s", shown)
    assert shown.rstrip().splitlines()[-1] == "succeeded: all 30 epochs are done"
    assert terminal.getvalue().rstrip().count("\x1b[?25h") == 1  # the cursor is back


@pytest.mark.parametrize("kind", ["dumb", "unknown"])
def test_a_terminal_that_cannot_redraw_gets_lines(tmp_path, monkeypatch, kind):
    monkeypatch.setenv("TERM", kind)
    terminal = Terminal()
    follow(train("iris", max_steps=3, home=tmp_path), stream=terminal)
    assert "\x1b" not in terminal.getvalue()


def test_standing_counts_epochs_and_foretells_the_end():
    standing = Standing()
    assert (standing.done, standing.left_s, standing.epoch) == (None, None, "1")
    standing.hear(started(), 1000.0)
    assert (standing.done, standing.left_s, standing.epoch) == (0.0, None, "1/10")
    standing.hear(progress(25), 1005.0)
    assert (standing.done, standing.left_s, standing.epoch) == (0.25, 15.0, "3/10")
    standing.hear(progress(100, workers=0), 1020.0)
    assert (standing.done, standing.left_s, standing.epoch, standing.alive) == (1.0, 0.0, "10/10", 2)


def test_standing_after_a_resumption_counts_from_there():
    standing = Standing()
    standing.hear(started(resumed_at_step=60), 1000.0)
    standing.hear(progress(70), 1001.0)
    assert (standing.done, standing.left_s) == (0.7, 3.0)


def test_a_budget_bounds_what_is_left():
    standing = Standing(budget_s=10.0)
    standing.hear(started(total_steps=None, epochs=None), 1000.0)
    standing.hear(progress(25), 1004.0)
    assert (standing.done, standing.left_s, standing.epoch) == (0.4, 6.0, "3")


def test_figures_are_those_that_are_known():
    standing = Standing()
    assert standing.figures() == []
    standing.hear(started(workers=0), 0.0)
    standing.hear(happened.EpochEnded(epoch=1, step=10, train_loss=0.25, validation={"loss": 1.0, "rmse": 2.5}, rows_per_s=1234.5), 1.0)
    assert standing.figures() == ["loss 0.2500", "validation rmse 2.5000", "1,234 rows/s"]


def test_little_things():
    assert [duration(seconds) for seconds in (0, 59.9, 60, 3600)] == ["0:00", "0:59", "1:00", "1:00:00"]
    assert headline({"loss": 0.5}) == "loss 0.5000"
    assert (
        news(happened.WorkerStuck(worker=1, pid=5, stuck_s=2.04))
        == "worker 1 stood still for 2.0 s, stopped or with a lock; process 5 is killed"
    )
    assert news(happened.CheckpointUnreadable(name="step-1", reason="torn")) == "checkpoint step-1 is passed over: torn"
    assert (
        news(happened.CheckpointFailed(step=1, message="no space is left"))
        == "training goes on without a checkpoint of step 1: no space is left"
    )
    assert news(happened.CheckpointWritten(step=1, name="step-1")) is None

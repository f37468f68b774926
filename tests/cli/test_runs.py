import json
from pathlib import Path

import pytest

import aimass as library
from aimass.core.events import EventLog
from aimass.training.events import GradientRefused, WorkerLost, WorkersSampled


@pytest.fixture
def run(home):
    return library.train("iris", epochs=2, lr=0.05, model={"name": "mlp", "hidden": [8]}).wait()


def test_list_without_runs(aimass, home):
    assert aimass("runs", "list").out == f"there are no runs in {home / 'runs'} yet; start one with: aimass train digits\n"
    assert json.loads(aimass("runs", "list", "--json").out) == {"object": "list", "data": [], "has_more": False}


def test_list_the_newest_first(aimass, run):
    newest = library.train("wine", max_steps=1).wait()
    lines = aimass("runs", "list").out.splitlines()
    assert [line.split()[:5] for line in lines[1:]] == [
        [each.id, "succeeded", name, "mlp", "single"] for each, name in ((newest, "wine"), (run, "iris"))
    ]
    assert f"accuracy {run.metrics()['validation']['accuracy']:.4f}" in lines[2]
    found = json.loads(aimass("runs", "list", "--limit", "1", "--json").out)
    assert ([each["id"] for each in found["data"]], found["has_more"]) == ([newest.id], True)
    assert "and 1 older" in aimass("runs", "list", "--limit", "1").out


def test_show_tells_the_story(aimass, run):
    with EventLog(run.folder / "events.jsonl", run.id) as log:
        log.append(WorkerLost(worker=1, pid=77, how="killed by SIGKILL", inside_push=True))
        log.append(GradientRefused(worker=0, count=3))
    out = aimass("runs", "show", run.id).out
    facts = {line[:18].strip(): line[18:] for line in out.splitlines()}
    assert facts["state"] == "succeeded: all 2 epochs are done"
    assert facts["settings"] == "--model mlp --strategy single --model.hidden 8 --optimizer.lr 0.05 --stop.epochs 2"
    assert facts["steps"] == "8"
    assert facts["events"].startswith("2 epoch, ")
    assert "1 worker_lost" in facts["events"]
    assert "worker 1 is lost: process 77 was killed by SIGKILL inside a push" in out


def test_the_settings_that_are_shown_train_the_same_again(aimass, run):
    shown = next(line for line in aimass("runs", "show", run.id).out.splitlines() if line.startswith("settings"))
    aimass("train", "iris", *shown.removeprefix("settings").split())
    from aimass.training.run import Run

    again = Run.list()[0]
    assert again.id != run.id
    assert again.config == run.config


def test_show_for_programs(aimass, run):
    found = json.loads(aimass("runs", "show", run.id, "--json").out)
    assert (found["id"], found["config"]["optimizer"]["lr"], found["events_by_type"]["epoch"]) == (run.id, 0.05, 2)
    events = json.loads(aimass("runs", "show", run.id, "--json", "--events").out)["events"]
    assert [event["seq"] for event in events] == list(range(len(events)))
    assert {event["run"] for event in events} == {run.id}


def test_health_shows_what_was_amiss_and_what_processes_cost(aimass, run):
    assert aimass("runs", "health", run.id).out.endswith("nothing was amiss\n")
    sample = {"pid": 7, "cpu_percent": 93.4, "rss_bytes": 3 << 20, "rows_per_s": 1234.5, "loss": 0.25}
    with EventLog(run.folder / "events.jsonl", run.id) as log:
        log.append(WorkerLost(worker=1, pid=77, how="killed by SIGKILL"))
        log.append(WorkersSampled(driver={"pid": 5, "cpu_percent": 1.0, "rss_bytes": 1 << 20}, workers=[{"worker": 1, **sample}]))
    out = aimass("runs", "health", run.id).out
    assert "worker 1" in out
    assert "93 %" in out
    assert "1,23" in out
    assert "worker 1 is lost: process 77 was killed by SIGKILL" in out
    assert "93 %" in aimass("runs", "show", run.id).out
    found = json.loads(aimass("runs", "health", run.id, "--json").out)
    assert (found["rollbacks"], found["rate_factor"], found["fit"]) == (0, 1.0, None)
    assert [incident["type"] for incident in found["incidents"]] == ["worker_lost"]
    assert found["samples"][-1]["workers"] == [{"worker": 1, **sample}]


def test_events_one_a_line(aimass, run):
    lines = aimass("runs", "show", run.id, "--events").out.splitlines()
    assert [line.split()[1] for line in lines] == [envelope.type for envelope in run.events()]


def test_what_did_not_finish_says_how_to_go_on(aimass, run):
    described = json.loads((run.folder / "run.json").read_text())
    (run.folder / "run.json").write_text(json.dumps({**described, "state": "failed", "message": "no luck"}))
    out = aimass("runs", "show", run.id[:-2]).out
    assert "failed: no luck" in out
    assert f"aimass train --resume {run.id}" in out


def test_plot(aimass, run):
    assert aimass("runs", "plot", run.id, "curve.svg").out == "the learning curve is in curve.svg\n"
    assert "<svg" in Path("curve.svg").read_text()
    assert json.loads(aimass("runs", "plot", run.id, "curve.png", "--json").out) == {"plot": "curve.png"}
    assert aimass("runs", "plot", run.id, "curve.doc").status == 2


def test_follow_shows_a_run_of_another_process(start, aimass):
    import signal

    from aimass.training.run import Run

    process = start("train", "iris", "--max-steps", "1000000000")
    while "step" not in process.stderr.readline():
        assert process.poll() is None
    (run,) = Run.list()
    watcher = start("runs", "follow", run.id)
    while "step" not in watcher.stderr.readline():
        assert watcher.poll() is None
    process.send_signal(signal.SIGTERM)
    out, err = watcher.communicate(timeout=240)
    assert out == f"{run.id} is cancelled\n"
    assert "cancelled: it was asked to stop" in err


def test_scale_changes_a_run_that_goes_and_refuses_others(aimass, run):
    running = library.train("digits", workers=(1, 3), epochs=100_000)
    done = aimass("runs", "scale", running.id, 2)
    assert (done.status, done.out) == (0, f"{running.id} goes on with 2 workers\n")
    assert "--workers 1:3" in aimass("runs", "show", running.id).out
    done = aimass("runs", "scale", running.id, 5)
    assert (done.status, done.err) == (2, "error: this run has from 1 to 3 workers; 5 is outside of that\n")
    running.cancel()
    running.wait()
    done = aimass("runs", "scale", run.id, 1)
    assert done.status == 10
    assert "is succeeded, and only a run that goes can be scaled" in done.err


def test_show_tells_how_stale_gradients_were_and_what_servers_did(aimass, home):
    strategy = {"name": "parameter_server", "staleness": 2, "servers": 2}
    run = library.train("iris", model={"name": "mlp", "hidden": [8]}, workers=2, strategy=strategy, epochs=10).wait()
    lines = aimass("runs", "show", run.id).out.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("staleness"))
    counts = {int(steps): int(count) for steps, count in (item.split(": ") for item in lines[at][18:].split(", "))}
    assert sum(counts.values()) == run.metrics()["steps"]
    assert f"{max(counts)} at most; leads of up to {run.metrics()['largest_lead']} exchange" in lines[at + 1]
    header = next(number for number, line in enumerate(lines) if line.startswith("server"))
    assert lines[header].split()[:3] == ["server", "parameters", "steps"]
    assert [line.split()[:3] for line in lines[header + 1 : header + 3]] == [["0", "32", "40"], ["1", "35", "40"]]

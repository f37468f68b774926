import json
import signal
from pathlib import Path

from aimass.training.run import Run


def test_a_table_a_picture_and_what_stands_below(aimass):
    outcome = aimass(
        "compare", "iris", "--strategies", "single,psm:staleness=1", "--epochs", "2", "--model.hidden", "8", "--link", "1ms",
        "--kill", "1@600s", "--target-loss", "100", "--plot", "compared.png",
    )  # fmt: skip
    assert outcome.status == 0, outcome.err
    assert "1/2  single" in outcome.err
    header, *rows = outcome.out.split("\n\n")[0].splitlines()
    assert header.split()[:2] == ["strategy", "workers"]
    assert {tuple(row.split()[:3]) for row in rows} == {("single", "0", "1"), ("parameter_server:staleness=1", "2", "1")}
    loss = header.index("loss")  # the numbers of a column have as many decimals, and end below each other
    assert {len(row[: loss + 4].split()[-1].partition(".")[2]) for row in rows} == {4}
    assert "model       mlp, seed 0, on iris; worker 1 is killed at 600 s; exchanges over 1 ms" in outcome.out
    assert "target      validation loss 100, asked for" in outcome.out
    assert "note        parameter_server:staleness=1: worker 1 was not killed: the run ended before 600 s" in outcome.out
    assert Path("compared.png").read_bytes().startswith(b"\x89PNG")
    assert {run.config.model.hidden for run in Run.list()} == {(8,)}


def test_json_says_all_of_it(aimass):
    outcome = aimass("compare", "iris", "--strategies", "single,async_sgd", "--epochs", "1", "--json")
    assert outcome.status == 0, outcome.err
    assert outcome.err == ""
    found = json.loads(outcome.out)
    assert {row["strategy"] for row in found["strategies"]} == {"single", "async_sgd"}
    assert (found["cannot"], found["plot"]) == ({}, None)


def test_a_call_that_is_off_is_refused(aimass):
    outcome = aimass("compare", "iris", "--kill", "7@1s")
    assert outcome.status == 2
    assert outcome.err == "error: kill names worker 7, and there are workers 0 to 1; workers are counted from 0\n"
    assert Run.list() == []


def test_folders_of_images_are_compared_on_at_one_size(aimass, tmp_path):
    from PIL import Image

    for name, shade in (("dark", 20), ("light", 220)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(10):
            Image.new("L", (12, 12), shade + number).save(tmp_path / "photos" / name / f"{number}.png")
    asked = ("compare", str(tmp_path / "photos"), "--image-size", "6", "--strategies", "single", "--model", "linear", "--epochs", "1")
    assert aimass(*asked).status == 0
    assert Run.list()[0].model.encoder.image == (1, 6, 6)


def test_a_signal_stops_in_order_and_shows_what_was_done(start):
    process = start("compare", "iris", "--strategies", "single,async_sgd", "--workers", "2", "--epochs", "200", "--link", "300ms")
    for line in process.stderr:
        if line.startswith("training on iris") and "async_sgd" in line:
            break
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 130, err
    assert [line.split()[:2] for line in out.splitlines()[1:3]] == [["single", "0"], ["async_sgd", "2"]]
    assert "note        async_sgd: cancelled: it was asked to stop" in out
    assert [run.state for run in Run.list()] == ["cancelled", "succeeded"]

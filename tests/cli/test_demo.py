import json
from pathlib import Path

import aimass as library
from aimass.cli.demo import picture


def test_the_demo_tells_the_whole_story(start, home):
    process = start("demo", "--out", "shown")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert Path("shown/curve.png").read_bytes().startswith(b"\x89PNG")
    accuracy = library.load("shown/model").evaluate(library.data.load("digits").test)["accuracy"]
    assert accuracy >= 0.95
    assert f"accuracy {accuracy:.4g}" in out
    answers, truth = [line.split()[-10:] for line in out.splitlines() if "the next 10 answers" in line or "the truth" in line]
    assert sum(answer == true for answer, true in zip(answers, truth, strict=True)) >= 8
    assert "2 of 2 workers" in err


def test_the_demo_for_programs(aimass):
    found = json.loads(aimass("demo", "--workers", "0", "--json").out)
    assert (found["state"], found["plot"], len(found["predictions"])) == ("succeeded", "demo-output/curve.png", 10)


def test_a_digit_in_letters():
    rows = library.data.load("digits").test
    pixels = rows.table.slice(0, 1).to_pylist()[0]
    lines = picture(rows, 0).splitlines()
    assert len(lines) == 8
    for row, line in enumerate(lines):
        for column in range(8):
            shade = line[6 + 2 * column]
            assert (shade in "@%") == (pixels[f"pixel_{row}_{column}"] >= 14), (row, column)

import json
import re
import signal
from pathlib import Path

import httpx
import psutil
import pytest
from services import processes_of

from aimass.cli.demo import picture
from aimass.data.samples import read_sample


def left_of(folder):
    modules = ("aimass.service.jobs.driver", "aimass.serving.engine")
    return [process for module in modules for process in processes_of(Path(folder).resolve(), module)]


@pytest.mark.timeout(1200)
def test_the_demo_tells_the_whole_story_stays_until_it_is_interrupted_and_leaves(start, home):
    process = start("demo", "--out", "shown", "--stay")
    said = []
    for line in iter(process.stdout.readline, ""):
        said.append(line)
        if "stays up until Ctrl-C" in line:
            break
    url = json.loads(Path("shown/home/credentials.json").read_text())["url"]
    assert httpx.get(f"{url}/health/ready", timeout=60).status_code == 200
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    rest, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert "nothing of it runs any more" in rest
    assert family
    assert psutil.wait_procs(family, timeout=60)[1] == []
    assert left_of("shown") == []
    out = "".join(said)
    assert f"{url}/docs" in out
    right = int(re.search(r"(\d+) of 1,000 answers are right", out)[1])
    assert right >= 930
    assert re.search(r"^prediction +digits +1,000 +1,000 +row +0\.10$", out, re.MULTILINE)
    assert re.search(r"^total +1,0\d\d +0\.1\d+$", out, re.MULTILINE)
    assert "async_sgd with 2 workers" in err


@pytest.mark.timeout(1200)
def test_the_demo_for_programs(aimass):
    found = json.loads(aimass("demo", "--workers", "0", "--json").out)
    assert found["requests"] == 1000
    assert found["accuracy"] >= 0.93
    assert found["invoice"]["subtotal_micro"] == sum(line["amount_micro"] for line in found["invoice"]["lines"])


def test_a_folder_that_is_of_no_demo_stays_as_it_is(aimass, tmp_path):
    other = tmp_path / "mine" / "home"
    other.mkdir(parents=True)
    (other / "letter.txt").write_text("dear")
    ended = aimass("demo", "--out", str(tmp_path / "mine"))
    assert (ended.status, (other / "letter.txt").read_text()) == (2, "dear")
    assert "is of no demo" in ended.err


def test_a_digit_in_letters():
    pixels = read_sample("digits").table.slice(0, 1).to_pylist()[0]
    lines = picture(pixels).splitlines()
    assert len(lines) == 8
    for row, line in enumerate(lines):
        for column in range(8):
            shade = line[6 + 2 * column]
            assert (shade in "@%") == (pixels[f"pixel_{row}_{column}"] >= 14), (row, column)

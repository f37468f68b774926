"""A short run of the bill's oracle; benchmarks/experiments/bill_oracle.py has the long one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

EXPERIMENT = Path(__file__).parents[2] / "benchmarks" / "experiments" / "bill_oracle.py"


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_the_bill_is_right_to_the_event_whenever_a_gateway_is_killed(database):
    arguments = ["--requests", "600", "--kills", "6", "--database", database, "--no-costs", "--json"]
    done = subprocess.run([sys.executable, EXPERIMENT, *arguments], capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["holds"]
    assert sum(found["kills"].values()) >= 6
    assert found["charged"] >= found["received"] > 300

"""A short run of the bill's oracle; benchmarks/experiments/bill_oracle.py has the long one."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from databases import database_url  # noqa: F401 - a fixture

EXPERIMENT = Path(__file__).parents[2] / "benchmarks" / "experiments" / "bill_oracle.py"


def test_the_bill_is_right_to_the_event_whenever_a_gateway_is_killed(database_url):  # noqa: F811
    arguments = ["--requests", "600", "--kills", "6", "--database", database_url, "--no-costs", "--json"]
    oracle = subprocess.Popen(
        [sys.executable, EXPERIMENT, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        out, errors = (text.decode() for text in oracle.communicate(timeout=250))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(oracle.pid, signal.SIGKILL)  # gateways too, where it could not end them
    assert oracle.returncode == 0, out + errors
    found = json.loads(out)
    assert found["holds"]
    assert sum(found["kills"].values()) >= 6
    assert found["charged"] >= found["received"] > 300

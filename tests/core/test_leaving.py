"""Ends of real processes."""

import subprocess
import sys

PROGRAM = """
import atexit, gc, sys
from aimass.core.leaving import leave_lightly, leave_now

class Late:
    def __del__(self):
        print("looked through", file=sys.stderr, flush=True)

late = Late()
late.itself = late                  # only a search for garbage finds it
atexit.register(lambda: print("registered", flush=True))
print("printed")
"""


def ended(ending):
    """What a process that ends so leaves behind: its exit status, and its words."""
    done = subprocess.run([sys.executable, "-c", PROGRAM + ending], capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout.split(), done.stderr


def test_an_end_as_python_has_it():
    assert ended("sys.exit(3)") == (3, ["printed", "registered"], "looked through\n")


def test_a_light_end_does_what_is_registered_and_looks_for_no_garbage():
    assert ended("leave_lightly(); leave_lightly(); sys.exit(3)") == (3, ["printed", "registered"], "")


def test_an_end_at_once_has_written_what_was_printed():
    assert ended("leave_now(3)") == (3, ["printed"], "")

import subprocess
import sys

import pytest

import aimass.data


@pytest.mark.parametrize("name", aimass.data.__all__)
def test_every_public_name_is_there_and_documented(name):
    assert getattr(aimass.data, name).__doc__
    assert name in dir(aimass.data)


def test_other_names_are_not():
    with pytest.raises(AttributeError, match=r"module 'aimass.data' has no attribute 'lod'"):
        _ = aimass.data.lod


def test_names_cost_nothing_until_data_are_read():
    """The command line prints its help without waiting for the libraries that read data."""
    script = """
import sys, aimass.data
everything = [getattr(aimass.data, name) for name in aimass.data.__all__]
print([name for name in sys.argv[1:] if name in sys.modules])
"""
    heavy = ["numpy", "pyarrow", "sklearn", "torch", "pandas"]
    answer = subprocess.run([sys.executable, "-c", script, *heavy], capture_output=True, text=True, check=True, timeout=60)
    assert answer.stdout.strip() == "[]"

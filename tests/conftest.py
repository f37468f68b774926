import os
import threading

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("aimass", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])  # no time, no chance
settings.load_profile("aimass")


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory, monkeypatch):
    """Every test has a home of its own, which its subprocesses inherit."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("AIMASS_HOME", str(folder))
    return folder


@pytest.fixture(autouse=True)
def no_run_goes_on():
    """What a test leaves going, as one that fails may, would draw from the random numbers of the next one, and meet its patches."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        if thread.name.startswith("run-"):
            for trainer in getattr(thread, "_args", ())[:1]:
                trainer.cancel()
            thread.join(60)


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Tests run side by side; each keeps to one core."""
    import torch

    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)

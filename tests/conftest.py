import os

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("aimass", deadline=None, suppress_health_check=[HealthCheck.too_slow])  # no test asserts a time
settings.load_profile("aimass")


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory, monkeypatch):
    """Every test has a home of its own, which its subprocesses inherit."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("AIMASS_HOME", str(folder))
    return folder


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Tests run side by side; each keeps to one core."""
    import torch

    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)

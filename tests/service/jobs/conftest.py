"""A place for jobs, and a service of them."""

import pytest
import torch
from databases import sqlite
from jobplace import Place, be_patient

from aimass.data import load
from aimass.models.config import build_module, parse_model
from aimass.models.model import Model


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """Drivers have time enough; a test of what happens to a late one gives it less."""
    be_patient(monkeypatch.setattr)


@pytest.fixture
def place(tmp_path):
    """A database, stores, a project."""
    found = Place(sqlite(tmp_path), tmp_path / "platform")
    yield found
    found.database.close()


@pytest.fixture
def jobs(place):
    """A service's jobs, started; its drivers end with it."""
    found = place.jobs()
    found.start()
    yield found
    found.close(stop_drivers=True)


@pytest.fixture(scope="session")
def flowers(tmp_path_factory):
    """A saved mlp of iris, split otherwise than by default, so that it scales each column otherwise too."""
    torch.manual_seed(3)
    encoder, config = load("iris", seed=5).encoder, parse_model({"name": "mlp", "hidden": (8,)})
    model = Model(module=build_module(config, encoder.num_numbers, encoder.cardinalities, 3), encoder=encoder, config=config)
    return model.save(tmp_path_factory.mktemp("models") / "flowers")

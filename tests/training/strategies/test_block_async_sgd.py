"""Asynchronous SGD by owned blocks, in real runs."""

import os
import time

import pytest
import torch

import aimass
from aimass.core.errors import UsageError
from aimass.models.learner import Learner
from aimass.models.networks import MLPNetwork
from aimass.models.tasks import build_task
from aimass.parameters.layout import LEASE_LIMIT
from aimass.training.config import TrainConfig
from aimass.training.trainer import Trainer
from aimass.training.workers.supervisor import Supervisor

SETTINGS = {"optimizer": "sgd", "lr": 0.05, "epochs": 3, "seed": 2}


@pytest.fixture(scope="module")
def data():
    return aimass.data.load("wine")


@pytest.fixture(scope="module")
def bounded(data):
    """A run of two workers with all that can be set."""
    strategy = {"name": "block_async_sgd", "mix": 0.5, "clip_weights": (-0.1, 0.1), "regularization_strength": 1e-3}
    settings = {"strategy": strategy, "workers": 2, "epochs": 10, "clip": 1.0, "schedule": "inverse_sqrt", "lr": 0.05}
    return aimass.train(data, **settings).wait()


@pytest.mark.parametrize("workers", [0, 1])
def test_one_worker_that_takes_all_has_the_bits_of_plain_sgd(workers, data):
    plain = aimass.train(data, strategy="single", **SETTINGS).wait()
    owned = aimass.train(data, strategy="block_async_sgd", workers=workers, **SETTINGS).wait()
    for theirs, ours in zip(plain.model.module.parameters(), owned.model.module.parameters(), strict=True):
        assert torch.equal(theirs, ours)


def test_every_parameter_has_one_owner_and_it_is_told(bounded):
    (owned,) = [event.data["blocks"] for event in bounded.events() if event.type == "blocks_owned"]
    sizes = dict.fromkeys((0, 1), 0)
    for block in owned:
        sizes[block["owner"]] += block["size"]
    started = next(event.data for event in bounded.events() if event.type == "run_started")
    assert sum(sizes.values()) == started["parameters"]
    assert min(sizes.values()) > 0.4 * started["parameters"]


def test_it_learns_within_the_range_of_its_weights(bounded, data):
    metrics = bounded.metrics()
    assert bounded.model.evaluate(data.train)["loss"] < 0.3  # of three classes, guessed at for 1.1
    assert sum(metrics["staleness"]) == metrics["steps"]
    assert max(p.abs().max().item() for p in bounded.model.module.parameters()) == pytest.approx(0.1)
    assert 0 < metrics["bytes_sent"] < 4 * metrics["steps"] * 11_000  # a block each, and not all of p


def test_it_goes_on_from_a_checkpoint_with_more_workers(bounded):
    longer = bounded.resume(workers=3, epochs=12).wait()
    assert longer.history()[-1]["epoch"] == 12
    assert longer.metrics()["steps"] == 12 * 5


class Tardy(torch.nn.Linear):
    """Comes to one of two workers a moment late, and notes whether the other has computed by then. Nobody takes a second step alone."""

    def __init__(self, folder):
        super().__init__(13, 3)
        self.folder, self.driver = folder, os.getpid()

    def __setstate__(self, state):
        super().__setstate__(state)
        if os.getpid() == self.driver:
            return
        try:
            (self.folder / "late").mkdir()
        except FileExistsError:
            return
        for _ in range(50):
            if list(self.folder.glob("computed-*")):
                (self.folder / "too late").touch()
                return
            time.sleep(0.01)

    def forward(self, inputs):
        mark = self.folder / f"computed-{os.getpid()}"
        if os.getpid() != self.driver and not mark.exists():
            mark.touch()
            while len(list(self.folder.glob("computed-*"))) < 2:  # or the first might do all the work
                time.sleep(0.001)
        return super().forward(inputs)


def test_nobody_begins_before_every_owner_is_there(data, tmp_path):
    module = Tardy(tmp_path)
    before = module.weight.detach().clone(), module.bias.detach().clone()
    learnt = aimass.train(data, model=module, strategy="block_async_sgd", workers=2, epochs=2, batch_size=8).wait().model.module
    assert (tmp_path / "late").exists()
    assert not (tmp_path / "too late").exists()
    for old, new in zip(before, learnt.parameters(), strict=True):
        assert not torch.equal(old, new)


def test_nobody_begins_before_every_owner_is_there_where_a_resumed_run_has_an_epoch_to_tell_of(data, monkeypatch):
    """The run ended between an epoch's last batch and its evaluation."""
    state, are_there, limits = Trainer._state, Supervisor.are_all_there.fget, []
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_state", lambda run: {**state(run), "history": []})
        run = aimass.train(data, strategy="block_async_sgd", workers=2, epochs=1).wait()

    def come_after_the_first_look(supervisor):
        limits.append(supervisor._server.words[LEASE_LIMIT])
        return len(limits) > 2 and are_there(supervisor)

    monkeypatch.setattr(Supervisor, "are_all_there", property(come_after_the_first_look))
    resumed = run.resume(epochs=2).wait()
    assert [entry["epoch"] for entry in resumed.history()][-2:] == [1, 2]
    assert len(limits) > 2
    assert not any(limits)


def test_gradients_of_a_part_are_those_of_the_whole():
    torch.manual_seed(0)
    learner = Learner(MLPNetwork(5, [], 3, hidden=(8, 8), activation="relu", dropout=0.0, layer_norm=False), build_task("multiclass"))
    batch = {"inputs": {"numbers": torch.randn(6, 5)}, "targets": torch.arange(6) % 3, "rows": torch.arange(6), "weights": None}
    whole = learner.gradient(batch)[1].clone()
    part = slice(45, 90)  # inside the second weight and the third
    learner.learn_only(part)
    loss, found = learner.gradient(batch)
    assert torch.equal(found[part], whole[part])
    assert not found[:40].any()
    assert loss > 0


def test_a_part_without_a_role_in_the_loss_has_gradient_zero():
    learner = Learner(torch.nn.ModuleDict({"used": torch.nn.Linear(2, 1), "idle": torch.nn.Linear(2, 1)}), build_task("regression"))
    learner.module.forward = learner.module["used"].forward
    idle = next(entry for entry in learner.manifest.entries if entry.name == "idle.weight")
    learner.learn_only(slice(idle.offset, idle.offset + idle.size))
    batch = {"inputs": {"numbers": torch.ones(4, 2)}, "targets": torch.zeros(4), "rows": torch.arange(4), "weights": None}
    assert not learner.gradient(batch)[1].any()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"strategy": {"name": "block_async_sgd", "clip_weights": (1, -1)}}, "lo < hi"),
        ({"strategy": {"name": "block_async_sgd", "mix": 0}}, "strategy.mix"),
        ({"strategy": "block_async_sgd", "workers": "1:3"}, "same workers from start to end"),
    ],
)
def test_what_cannot_work_is_refused(settings, says):
    with pytest.raises(UsageError, match=says):
        TrainConfig.parse(settings)


def test_more_owners_than_parameters_are_refused():
    with pytest.raises(UsageError, match="at most so many workers"):
        aimass.train("iris", strategy="分块异步SGD", model=torch.nn.Linear(4, 3), workers=16, epochs=1).wait()


def test_the_range_may_be_written_as_on_the_command_line():
    config = TrainConfig.parse({"strategy": {"name": "block_async_sgd", "clip_weights": "-1,1"}})
    assert config.strategy.clip_weights == (-1.0, 1.0)

"""FSDP2 against a plain PyTorch loop over the rows of each round put together."""

import pytest
import torch
from torch import nn
from training.plain import weighed_rows
from training.strategies.test_allreduce import assert_same, plain_loop, settings

import aimass
from aimass.core.errors import UsageError


@pytest.fixture(scope="module")
def data():
    return aimass.data.load("wine")


def test_three_workers_equal_a_plain_loop_over_the_rounds_rows(data):
    chosen = settings("momentum", workers=3, epochs=2, batch_size=20, model={"name": "mlp", "hidden": [7]}, clip=0.3)
    chosen["strategy"] = "fsdp"
    run = aimass.train(data, **chosen).wait()
    assert_same(run.model, plain_loop(data, chosen, clip=0.3))
    (told,) = [event.data["slices"] for event in run.events() if event.type == "model_sliced"]
    assert [one["parameters"] for one in told] == [3 * 14 + 8, 3 * 14 + 8, 14 + 8]  # of 7 rows and 3 rows
    assert [one["parameters"] for one in run.metrics()["slices"]] == [one["parameters"] for one in told]
    assert run.metrics()["bytes_sent"] == 6 * 3 * (3 * 2 * 4 * 122 // 3)  # in 6 rounds, by 3 workers, of 122 parameters


def test_where_rows_are_weighed_it_equals_one_process_on_the_rounds_rows():
    data = weighed_rows()
    chosen = settings("momentum", workers=2, epochs=2, batch_size=12, model={"name": "mlp", "hidden": [7]}, clip=0.3)
    run = aimass.train(data, **{**chosen, "strategy": "sharded"}).wait()
    alone = aimass.train(data, **{**chosen, "strategy": "single", "workers": 0, "batch_size": 24}).wait()
    assert_same(run.model, dict(alone.model.module.named_parameters()))


def test_a_model_whose_tensors_are_all_its_own_is_one_unit(data):
    chosen = settings("momentum", workers=2, epochs=2, batch_size=20, model="linear", clip=0.3)
    chosen["strategy"] = "sharded"
    run = aimass.train(data, **chosen).wait()
    assert_same(run.model, plain_loop(data, chosen, clip=0.3))


class Mixed(nn.Module):
    """A tensor that two layers share, a frozen one, and running statistics."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(13, 13), nn.Linear(13, 13), nn.Linear(13, 3)
        self.second.weight = self.first.weight
        self.norm = nn.BatchNorm1d(13)
        self.last.bias.requires_grad_(False)

    def forward(self, numbers):
        return self.last(self.norm(self.second(torch.relu(self.first(numbers)))))


def test_tied_and_frozen_tensors_and_statistics_come_back_as_one_model(data):
    module = Mixed()
    run = aimass.train(data, model=module, strategy="sharded", workers=2, epochs=2, optimizer="adam").wait()
    trained = run.model.module
    assert trained.second.weight is trained.first.weight
    assert torch.equal(trained.last.bias, module.last.bias)
    assert not torch.equal(trained.first.weight, module.first.weight)
    assert trained.norm.num_batches_tracked > 0
    assert not torch.equal(trained.norm.running_mean, torch.zeros(13))
    assert run.history()[-1]["train_loss"] < run.history()[0]["train_loss"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"workers": 0}, "needs 2 workers or more"), ({"workers": (2, 3)}, "needs the same workers from start to end")],
)
def test_what_cannot_work_is_refused(changes, message, data, tmp_path):
    with pytest.raises(UsageError, match=message):
        aimass.train(data, home=tmp_path, **{"strategy": "zero3", "workers": 2, **changes})
    assert not list(tmp_path.iterdir())


def test_a_parameter_without_rows_cannot_be_sharded(data):
    class Scaled(nn.Linear):
        def __init__(self):
            super().__init__(13, 3)
            self.scale = nn.Parameter(torch.tensor(1.0))

        def forward(self, numbers):
            return super().forward(numbers) * self.scale

    with pytest.raises(UsageError, match="'scale' is a single number, which cannot be sharded"):
        aimass.train(data, model=Scaled(), strategy="sharded", workers=2, epochs=1).wait()

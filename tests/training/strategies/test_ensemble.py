"""Ensembles, in real runs."""

import os
import signal
import time

import numpy as np
import pytest
import torch

import aimass
from aimass.core.errors import UsageError
from aimass.data.slices import slices_of
from aimass.training.opening import plan_leases


@pytest.fixture(scope="module")
def cancer():
    return aimass.data.load("breast_cancer")


@pytest.fixture(scope="module")
def run(cancer):
    return aimass.train(cancer, strategy="ensemble", epochs=12, lr=0.005).wait()


def batches_of(run):
    """Numbers, targets and the rows' own numbers of each batch of a run."""
    encoded, plan = run.data.train.encoded, plan_leases(run.config, len(run.data.train))
    for lease in range(plan.num_leases):
        for index in torch.from_numpy(plan.rows(lease)).split(plan.batch_size):
            yield torch.from_numpy(encoded.numbers)[index], torch.from_numpy(encoded.targets)[index], encoded.rows[index.numpy()]


def outputs_of(module, data):
    with torch.no_grad():
        return module.eval()(torch.from_numpy(data.test.encoded.numbers))


def loss_of(outputs, data):
    targets = torch.from_numpy(data.test.encoded.targets)
    if data.task == "regression":
        return torch.nn.functional.mse_loss(outputs[:, 0], targets).item()
    return torch.nn.functional.binary_cross_entropy_with_logits(outputs[:, 0], targets.float()).item()


def test_it_is_at_least_as_good_as_its_members_are_on_average(run, cancer):
    targets = cancer.test.encoded.targets
    members = [outputs_of(member, cancer) for member in run.model.module.members]
    assert len(members) == 5
    ours = run.model.evaluate(cancer.test)
    assert ours["loss"] <= np.mean([loss_of(one, cancer) for one in members])
    assert ours["accuracy"] >= np.mean([((one[:, 0] > 0).numpy() == targets).mean() for one in members])


def test_it_is_saved_and_answers_as_any_model(run, cancer, tmp_path):
    loaded = aimass.load(run.model.save(tmp_path / "model"))
    assert loaded.config.name == "ensemble"
    assert loaded.config.member.name == "mlp"
    assert loaded.predict(cancer.test) == run.model.predict(cancer.test)
    assert not any(path.suffix in (".pkl", ".pt") for path in (tmp_path / "model").rglob("*"))


@pytest.mark.parametrize("share", [None, 0.6])
def test_each_member_equals_a_model_alone_with_its_rows_of_every_batch(share):
    data = aimass.data.load("diabetes")
    strategy = {"name": "ensemble", "models": 3, "slices": share}
    run = aimass.train(data, model="linear", strategy=strategy, optimizer="momentum", lr=0.02, batch_size=64, epochs=2, seed=3).wait()
    for number, member in enumerate(run.model.module.members):
        alone = torch.nn.Linear(data.train.encoded.numbers.shape[1], 1)
        torch.nn.init.zeros_(alone.weight)
        torch.nn.init.zeros_(alone.bias)
        optimizer = torch.optim.SGD(alone.parameters(), lr=0.02, momentum=0.9)
        for numbers, targets, rows in batches_of(run):
            held = torch.from_numpy(slices_of(rows, 3, 3, share)[number])
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(alone(numbers[held])[:, 0], targets[held]).backward()
            optimizer.step()
        torch.testing.assert_close(member.weight, alone.weight, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(member.bias, alone.bias, atol=1e-5, rtol=1e-5)


def test_a_killed_worker_costs_no_row(cancer):
    going = aimass.train(cancer, strategy={"name": "bagging", "combine": "vote", "models": 2}, workers=2, epochs=40)
    deadline = time.monotonic() + 120
    while not (pids := [event.data["pid"] for event in going.events() if event.type == "worker_started"]):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(pids[0], signal.SIGKILL)
    metrics = going.wait().metrics()
    assert metrics["workers_lost"] == 1
    assert metrics["steps"] == 40 * -(-len(cancer.train) // 32)


def test_what_cannot_work_is_refused(cancer, run):
    with pytest.raises(UsageError, match="numbers cannot be voted on"):
        aimass.train("diabetes", strategy={"name": "集成学习", "combine": "vote"})
    with pytest.raises(UsageError, match="builds its models from settings"):
        aimass.train(cancer, strategy="ensemble", model=torch.nn.Linear(30, 1))
    with pytest.raises(UsageError, match="the model 'transformer' answers by text, so it cannot be a member"):
        aimass.train("iris", strategy="ensemble", model="transformer")
    single = aimass.train("iris", epochs=1).wait()
    with pytest.raises(UsageError, match="a run keeps its own"):
        single.resume(strategy="ensemble", epochs=2)
    for asked in ({"strategy.models": 7}, {"strategy.combine": "vote"}):
        with pytest.raises(UsageError, match="are not those of the model, an ensemble of 5 that is combined by 'average'; set strategy="):
            run.resume(epochs=13, **asked)
    assert run.resume(epochs=13).wait().history()[-1]["epoch"] == 13

"""What holds for every strategy over every task, and for every family. A new file is tested the moment it exists."""

import math

import numpy as np
import pytest

import aimass
from aimass.models.family import FAMILIES
from aimass.training.strategy import STRATEGIES, parse_strategy

TASKS = {"rows": {"binary": "breast_cancer", "multiclass": "wine", "regression": "diabetes"}, "images": {"multiclass": "digits"}}
TASKS["text"] = {"language": {"text": ["to be, or not to be: that is the question. " * 40]}}
SETTINGS = {"text": {"layers": 1, "heads": 2, "width": 16, "context": 16}}
EPOCHS, RATE = 2, 0.003  # at a higher rate sums of late changes overshoot, and the loss of an epoch is a matter of luck


def cost_of_guessing(data):
    """What the best constant answer costs on the rows that are learnt from: their variance, or their entropy."""
    targets = data.train.encoded.targets
    if data.task == "regression":
        return float(np.var(targets))
    if data.task == "language":
        return math.log(256)
    shares = np.bincount(targets.astype(int)) / len(targets)
    return float(-(shares * np.log(shares)).sum())


def worker_counts(name):
    strategy = STRATEGIES.load(name)
    most = 2 if strategy.most_workers is None else strategy.most_workers
    return [count for count in (0, 2) if strategy.needs_workers <= count <= most]


STRATEGY_CASES = [("mlp", name, workers) for name in STRATEGIES.names() for workers in worker_counts(name)]
FAMILY_CASES = [(family, name, workers) for family in FAMILIES.names() for name, workers in (("single", 0), ("async_sgd", 2))]
CASES = [
    (family, name, workers, task)
    for family, name, workers in dict.fromkeys([*STRATEGY_CASES, *FAMILY_CASES])
    for task in TASKS[FAMILIES.load(family).takes]
]


@pytest.mark.parametrize(("family", "name", "workers", "task"), CASES)
def test_it_learns_counts_saves_and_answers(family, name, workers, task, tmp_path):
    kind = FAMILIES.load(family).takes
    data = aimass.data.load(TASKS[kind][task], task=task)
    assert data.task == task
    run = aimass.train(
        data, model={"name": family, **SETTINGS.get(kind, {})}, strategy=name, workers=workers, epochs=EPOCHS, lr=RATE
    ).wait()
    config, metrics, history = run.config, run.metrics(), run.history()
    assert [epoch["epoch"] for epoch in history] == [1, 2]
    assert run.model.evaluate(data.train)["loss"] < cost_of_guessing(data)
    batches = EPOCHS * -(-len(run.data.train) // config.batch_size)
    assert metrics["steps"] == batches
    if config.strategy.sync_batches == 1:
        assert sum(metrics["staleness"]) == batches
    else:
        assert 0 < sum(metrics["staleness"]) <= batches  # some batches make one push
    assert (metrics["bytes_sent"] > 0) == (metrics["bytes_received"] > 0) == (workers > 1)
    assert history[-1]["bytes_moved"] <= metrics["bytes_sent"] + metrics["bytes_received"]
    folder = run.model.save(tmp_path / "model")
    assert aimass.load(folder).predict(data.test) == run.model.predict(data.test)


@pytest.mark.parametrize("name", STRATEGIES.names())
def test_it_is_described_and_its_settings_go_through_json(name):
    strategy = STRATEGIES.load(name)
    assert strategy.__doc__
    config = parse_strategy(name)
    assert config.name == name
    assert parse_strategy(config.model_dump(mode="json")) == config
    for alias in [alias for alias, canonical in STRATEGIES.aliases().items() if canonical == name]:
        assert parse_strategy(alias) == config

"""What holds for every strategy, over every task and family. A new file is tested the moment it exists."""

import pytest

import aimass
from aimass.models.family import FAMILIES
from aimass.training.strategy import STRATEGIES, parse_strategy

TASKS = {"binary": "breast_cancer", "multiclass": "wine", "regression": "diabetes"}


def worker_counts(name):
    strategy = STRATEGIES.load(name)
    most = 2 if strategy.most_workers is None else strategy.most_workers
    return [count for count in (0, 2) if strategy.needs_workers <= count <= most]


CASES = [(name, workers) for name in STRATEGIES.names() for workers in worker_counts(name)]


@pytest.mark.parametrize(("name", "workers"), CASES)
@pytest.mark.parametrize("task", sorted(TASKS))
@pytest.mark.parametrize("family", FAMILIES.names())
def test_it_learns_saves_and_answers(name, workers, task, family, tmp_path):
    data = aimass.data.load(TASKS[task])
    assert data.task == task
    run = aimass.train(data, model=family, strategy=name, workers=workers, epochs=15, lr=0.005).wait()
    first, last = run.history()[0], run.history()[-1]
    assert last["train_loss"] < first["train_loss"]
    assert run.metrics()["steps"] == 15 * -(-len(data.train) // 32)
    assert sum(run.metrics()["staleness"]) == run.metrics()["steps"]
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

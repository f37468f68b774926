"""A pipeline against a plain PyTorch loop over the same batches, and what it refuses before a process starts."""

import pytest
import torch
from torch import nn
from training.plain import weighed_rows
from training.strategies.test_allreduce import assert_same, plain_loop, settings

import aimass
from aimass.core.errors import UsageError

PLAIN = {"strategy": "single", "workers": 0}


@pytest.fixture(scope="module")
def data():
    return aimass.data.load("wine")


def pipeline(optimizer, workers, schedule, **changes):
    chosen = settings(optimizer, workers, batch_size=30, model={"name": "mlp", "hidden": [16, 12]}, **changes)
    return {**chosen, "strategy": {"name": "pipeline", "schedule": schedule, **changes.get("strategy", {})}}


@pytest.fixture(scope="module")
def run(data):
    return aimass.train(data, **pipeline("adam", 3, "1f1b", clip=0.3)).wait()


def test_1f1b_over_three_workers_equals_a_plain_loop(run, data):
    chosen = pipeline("adam", 3, "1f1b")
    assert_same(run.model, plain_loop(data, {**chosen, **PLAIN}, clip=0.3))
    assert run.history()[-1]["train_loss"] == pytest.approx(
        aimass.train(data, **{**chosen, **PLAIN, "clip": 0.3}).wait().history()[-1]["train_loss"], abs=1e-6
    )


def test_gpipe_over_two_workers_equals_a_plain_loop(data):
    chosen = pipeline("momentum", 2, "gpipe", epochs=1, strategy={"split": "layer", "micro_batches": 7})
    assert_same(aimass.train(data, **chosen).wait().model, plain_loop(data, {**chosen, **PLAIN}))


@pytest.mark.parametrize("schedule", ["gpipe", "1f1b"])
def test_where_rows_are_weighed_it_equals_one_process(schedule):
    data = weighed_rows()
    chosen = pipeline("momentum", 2, schedule, epochs=2, clip=0.3)
    run = aimass.train(data, **chosen).wait()
    alone = aimass.train(data, **{**chosen, **PLAIN}).wait()
    assert_same(run.model, dict(alone.model.module.named_parameters()))
    assert [epoch["train_loss"] for epoch in run.history()] == pytest.approx([epoch["train_loss"] for epoch in alone.history()], abs=1e-6)


@pytest.mark.parametrize(("workers", "optimizer"), [(2, "adam"), (3, "momentum")])
def test_bytes_that_are_read_and_told_by_the_same_weights_are_one_tensor_for_both_ends(workers, optimizer, tmp_path):
    (tmp_path / "song.txt").write_text("row, row, row your boat, gently down the stream. " * 12)
    model = {"name": "transformer", "layers": 2, "heads": 2, "width": 8, "context": 16}
    chosen = settings(optimizer, workers, epochs=2, batch_size=10, clip=0.5, model=model)
    run = aimass.train(aimass.data.load(tmp_path / "song.txt"), **{**chosen, "strategy": "pipeline"}).wait()
    alone = aimass.train(aimass.data.load(tmp_path / "song.txt"), **{**chosen, **PLAIN}).wait()
    assert_same(run.model, dict(alone.model.module.named_parameters()))
    assert run.model.module.head.next.weight is run.model.module.embedding.byte.weight
    (told,) = [event.data["slices"] for event in run.events() if event.type == "model_sliced"]
    assert sum(one["parameters"] for one in told) == sum(values.numel() for values in run.model.module.parameters())


def test_a_stage_may_be_frozen_as_a_whole(data):
    chosen = pipeline("momentum", 3, "gpipe", epochs=1, freeze="layers.0", strategy={"split": "layer"})
    run, alone = (aimass.train(data, **{**chosen, **other}).wait() for other in ({}, PLAIN))
    assert_same(run.model, dict(alone.model.module.named_parameters()))
    (told,) = [event.data["slices"] for event in run.events() if event.type == "model_sliced"]
    assert told[0]["parameters"] == 0


def test_it_says_who_has_what_and_how_much_memory_that_took(run):
    (told,) = [event.data for event in run.events() if event.type == "model_sliced"]
    sizes = [one["parameters"] for one in told["slices"]]
    assert [one["pieces"][0] for one in told["slices"]] == ["layers.0 Linear", "layers.2 Linear", "layers.4 Linear"]
    assert sizes == [13 * 16 + 16, 16 * 12 + 12, 12 * 3 + 3]
    assert [one["bytes"] for one in told["slices"]] == [4 * 4 * size for size in sizes]  # p, g and the two states of Adam
    for one, size in zip(run.metrics()["slices"], sizes, strict=True):
        assert one["parameters"] == size
        assert one["peak_bytes"] >= one["base_bytes"] > 0
    boundary = 4 * (16 + 12) * (4 * 30 + 24) * 3  # 22 rows are filled up to 6 micro-batches of 4
    assert (run.metrics()["bytes_sent"], run.metrics()["bytes_received"]) == (2 * boundary, 2 * boundary)


def test_the_slices_are_one_ordinary_model_that_another_strategy_goes_on_with(run, data, tmp_path):
    assert aimass.load(run.model.save(tmp_path / "model")).predict(data.test) == run.model.predict(data.test)
    longer = run.resume(strategy="single", workers=0, epochs=4).wait()
    assert (longer.metrics()["steps"], len(longer.history())) == (20, 4)
    longer = longer.resume(strategy="pipeline", workers=2, epochs=5).wait()
    assert (longer.metrics()["steps"], len(longer.history())) == (25, 5)


def test_a_run_that_diverges_goes_back_with_all_its_slices_and_ends_with_every_batch_once():
    settings = {"model": {"name": "mlp", "hidden": [8]}, "optimizer": "sgd", "lr": 0.5, "batch_size": 16, "epochs": 6}
    run = aimass.train("diabetes", strategy="pipeline", workers=2, checkpoint={"every": 0.2}, **settings).wait()
    metrics, undone = run.metrics(), [event.data for event in run.events() if event.type == "rolled_back"]
    assert 1 <= len(undone) == metrics["rollbacks"] <= 3
    assert metrics["rate_factor"] == 0.5 ** len(undone)
    assert sum(metrics["staleness"]) + metrics["gradients_refused"] == metrics["steps"] == 6 * 23
    assert [epoch["epoch"] for epoch in run.history()] == list(range(1, 7))


class Normed(nn.Sequential):
    """With running statistics in two of its three layers."""

    def __init__(self):
        super().__init__(nn.BatchNorm1d(13), nn.Linear(13, 8), nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 3)))


def test_running_statistics_of_every_slice_are_in_the_model(data):
    chosen = {"model": Normed(), "workers": 2, "batch_size": 20, "epochs": 1, "seed": 1}
    run = aimass.train(data, strategy={"name": "pipeline", "micro_batches": 1}, **chosen).wait()
    alone = aimass.train(data, **{**chosen, **PLAIN}).wait()
    for name, ours in run.model.module.state_dict().items():
        torch.testing.assert_close(ours, alone.model.module.state_dict()[name], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"name": "mlp", "hidden": [8]}, "workers": 3}, "needs 3 layers, and the model has 2; use fewer workers"),
        ({"model": "linear"}, "needs 2 layers, and the model has 1"),
        ({"model": nn.Bilinear(1, 1, 1)}, "cut where it is an nn.Sequential or has pieces"),
        ({"strategy": {"name": "pipeline", "split": "module"}}, "needs 2 modules, and the model has 1; use fewer workers, split='layer'"),
        ({"workers": 0}, "needs 2 workers or more; give workers=2"),
        ({"workers": (2, 3)}, "needs the same workers from start to end"),
    ],
)
def test_what_cannot_work_is_refused_before_there_is_a_run(changes, message, data, tmp_path):
    with pytest.raises(UsageError, match=message):
        aimass.train(data, home=tmp_path, **{"model": "mlp", "strategy": "model_slices", "workers": 2, **changes})
    assert not list(tmp_path.iterdir())

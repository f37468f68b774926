"""Learning rates of their own for some parameters, against torch's parameter groups."""

import pytest
import torch
from training.plain import assert_same, train_plainly

import aimass
from aimass.core.errors import UsageError

RATES = {"layers.0": 0.1, "*.bias": 0.5}


def grouped(make, lr):
    """A torch optimizer over the parameters of two layers, whose rates are those of `RATES`."""
    factors = [0.1, 0.1, 1.0, 0.5]
    return lambda parameters: make([{"params": [one], "lr": factor * lr} for one, factor in zip(parameters, factors, strict=True)])


@pytest.mark.parametrize(
    ("strategy", "workers"),
    [("single", 0), ("async_sgd", 1), ({"name": "parameter_server", "push": "delta"}, 1), ("parameter_server", 2), ("allreduce", 2)],
    ids=str,
)
def test_each_parameter_has_its_rate(strategy, workers):
    data = aimass.data.load("wine")
    optimizer = {"name": "adam", "lr": 0.01, "rates": RATES, "weight_decay": 0.1, "decay_bias": True}
    settings = {"model": {"name": "mlp", "hidden": (8,)}, "optimizer": optimizer, "epochs": 2, "batch_size": 16}
    if strategy == "allreduce" or workers == 1:
        settings["lease"] = {"batches": 1}
    run = aimass.train(data, strategy=strategy, workers=workers, **settings).wait()
    reference = grouped(lambda groups: torch.optim.Adam(groups, weight_decay=0.1), 0.01)
    plainly = {**settings, "strategy": strategy, "workers": workers}
    together = workers if workers == 2 else None
    assert_same(run.model, train_plainly(data, plainly, reference, together))


def test_the_first_pattern_that_fits_counts_and_one_that_fits_nothing_is_refused():
    data = aimass.data.load("wine")
    for order, slow in (({"layers.0.bias": 1e-12, "*.bias": 1.0}, True), ({"*.bias": 1.0, "layers.0.bias": 1e-12}, False)):
        run = aimass.train(data, model={"name": "mlp", "hidden": (8,)}, optimizer={"lr": 0.05, "rates": order}, max_steps=2).wait()
        fresh = aimass.train(data, model={"name": "mlp", "hidden": (8,)}, lr=1e-12, max_steps=1).wait().model
        bias, before = (dict(model.module.named_parameters())["layers.0.bias"] for model in (run.model, fresh))
        assert torch.allclose(bias, before, atol=1e-6) is slow
    with pytest.raises(UsageError, match=r"fits no parameter that learns; there are: layers\.0\.weight"):
        aimass.train(data, optimizer={"rates": {"head": 0.1}}, workers=2)
    with pytest.raises(UsageError, match=r"optimizer\.rates='head' fits no parameter that learns"):
        run.resume(max_steps=4, **{"optimizer.rates": {"head": 0.1}})

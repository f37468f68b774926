"""Load-balanced rounds: against plain PyTorch on the same rows, and that the slow get fewer."""

import pytest
import torch
from training import gathering
from training.plain import assert_same, train_plainly

import aimass
from aimass.cli.exchange import print_shares
from aimass.core.errors import UsageError
from aimass.training.settling import settle
from aimass.training.workers import entry as worker_entry
from aimass.training.workers.shaping import shaped

SMALL = {"model": {"name": "mlp", "hidden": [16]}, "batch_size": 16, "seed": 4, "epochs": 3, "strategy": "负载均衡SGD"}


@pytest.fixture(scope="module")
def wine():
    return aimass.data.load("wine")


def clip_all(parameters):
    torch.nn.utils.clip_grad_value_(parameters, 0.05)
    torch.nn.utils.clip_grad_norm_(parameters, 0.3)


@pytest.mark.parametrize("workers", [0, 3, (1, 3)])
def test_rounds_equal_plain_torch_on_the_same_rows_whatever_the_shares(wine, workers):
    """Also the last of an epoch, which is shorter; `clip` bounds the mean."""
    settings = {**SMALL, "optimizer": {"name": "adam", "lr": 0.01}, "clip": {"norm": 0.3, "value": 0.05}, "workers": workers}
    with shaped(slow={1: 8.0}):
        run = aimass.train(wine, **settings)
    run.wait()  # before the reference: both draw from torch's random state
    reference = {**settings, "workers": 3 if workers else 0}
    at_once = 3 if workers else 1
    assert_same(run.model, train_plainly(wine, reference, lambda p: torch.optim.Adam(p, lr=0.01), leases_at_once=at_once, clip=clip_all))
    assert run.metrics()["steps"] == 3 * -(-len(wine.train) // 16) == sum(run.metrics()["staleness"])


def test_a_slow_worker_gets_fewer_rows_and_it_is_shown(wine, capsys, monkeypatch):
    monkeypatch.setattr(worker_entry, "main", gathering.main)
    with shaped(slow={1: 8.0}):
        run = aimass.train(wine, **{**SMALL, "epochs": 16, "model": {"name": "mlp", "hidden": [256, 256]}}, workers=2).wait()
    fast, slow = run.metrics()["shares"]
    assert fast["rows"] + slow["rows"] == 16 * len(wine.train)
    assert fast["rows"] > slow["rows"] > 0
    assert fast["rows_per_s"] > slow["rows_per_s"] > 0
    print_shares(run.metrics())
    assert f"{slow['rows']:,}" in capsys.readouterr().out
    resumed = run.resume(epochs=17).wait().metrics()["shares"]
    assert sum(share["rows"] for share in resumed) == 17 * len(wine.train)


def test_rows_with_weights_count_by_them():
    generator = torch.Generator().manual_seed(0)
    columns = {f"x{i}": torch.randn(200, generator=generator).tolist() for i in range(3)}
    columns |= {"y": torch.randn(200, generator=generator).tolist(), "w": torch.rand(200, generator=generator).tolist()}
    data = aimass.data.load(columns, "y", weight="w", task="regression")
    settings = {"model": "linear", "batch_size": 16, "epochs": 2, "optimizer": {"name": "sgd", "lr": 0.1}, "workers": 2}
    balanced = aimass.train(data, **settings, strategy="load_balanced_sgd").wait()
    equal = aimass.train(data, **settings, strategy="parameter_server").wait()
    assert_same(balanced.model, dict(equal.model.module.named_parameters()))


def test_a_lease_has_no_other_size():
    with pytest.raises(UsageError, match=r"which is 1 batch; leave lease\.batches out$"):
        settle({"strategy": "load_balanced_sgd", "lease": {"batches": 4}})
    with pytest.raises(UsageError, match=r"strategy\.smoothing=0: input should be greater than 0"):
        settle({"strategy": {"name": "balanced_sgd", "smoothing": 0}})

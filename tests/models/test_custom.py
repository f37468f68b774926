"""Whether a module that the caller brought fits the data."""

import pytest
import torch
from torch import nn

from aimass.core.errors import UsageError
from aimass.models.custom import check_module
from aimass.models.networks import LinearNetwork


def test_modules_that_fit():
    check_module(nn.Linear(4, 3), 4, (), 3)
    check_module(LinearNetwork(4, (3, 2), 3).double(), 4, (3, 2), 3)
    check_module(nn.Sequential(nn.Linear(4, 1), nn.Flatten(0)), 4, (), 1)


@pytest.mark.parametrize(
    ("module", "cardinalities", "message"),
    [
        (nn.Linear(4, 2), (), r"gives \(2, 2\) for 2 rows, and the task needs \(2, 3\); let its last layer have 3 outputs"),
        (nn.Linear(5, 3), (), r"fails on numbers of shape \(rows, 4\): mat1 and mat2"),
        (nn.Linear(4, 3), (2,), r"fails on numbers of shape \(rows, 4\) and categories of shape \(rows, 1\): .*positional arguments"),
        (nn.GRU(4, 3), (), r"gives a tuple for 2 rows"),
    ],
)
def test_modules_that_do_not_fit(module, cardinalities, message):
    with pytest.raises(UsageError, match=message):
        check_module(module, 4, cardinalities, 3)


def test_nothing_in_the_module_changes():
    module = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout())
    module[2].eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    random = torch.get_rng_state()
    check_module(module, 4, (), 3)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert (module.training, module[1].training, module[2].training) == (True, True, False)

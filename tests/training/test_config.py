import subprocess
import sys

import pytest
import torch

import aimass
from aimass.core.errors import AimassError, UsageError
from aimass.training.config import TrainConfig
from aimass.training.settling import changed, settle


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"epochs": 0}, r"stop\.epochs=0: input should be greater than or equal to 1"),
        ({"workers": -1}, r"workers=-1: input should be greater than or equal to 0"),
        ({"workers": 2.5}, r"workers=2\.5"),
        ({"batch_size": 0}, r"batch_size=0"),
        ({"batch_size": "few"}, r"batch_size='few': it is a number of rows, such as 32, or 'all'"),
        ({"lr": -0.1}, r"optimizer\.lr=-0\.1: input should be greater than 0"),
        ({"lr": float("nan")}, r"optimizer\.lr=nan"),
        ({"max_steps": 0}, r"stop\.max_steps=0"),
        ({"budget": "soon"}, r"stop\.budget='soon': a duration is"),
        ({"tolerance": 0}, r"stop\.tolerance=0"),
        ({"patience": 0}, r"stop\.patience=0"),
        ({"stop": {"target": "accuracy>97"}}, r"stop\.target='accuracy>97': a target is a metric"),
        ({"optimizer": "adm"}, "no optimizer 'adm'; did you mean 'adam'"),
        ({"optimizer": "lbfgs"}, "cannot train one flat vector in slices"),
        ({"strategy": "asynk"}, "no strategy 'asynk'"),
        ({"model": "mpl"}, "no model 'mpl'; did you mean 'mlp'"),
        ({"model": {"name": "mlp", "hiden": [3]}}, r"model\.hiden.*did you mean 'model\.hidden'"),
        (
            {"strategy": "single", "workers": 2},
            "'single' trains in one process; use workers=0, or one of: allreduce, async_sgd, .*parameter_server",
        ),
        ({"strategy": {"name": "ps", "sync_every": "2s"}}, "with staleness=0 every part of a round has fixed rows"),
        ({"strategy": {"name": "ps", "scale_steps": True}}, "with staleness=0 no gradient is ever old; leave scale_steps out"),
        ({"strategy": {"name": "ps", "sync_every": 0}}, r"strategy\.sync_every=0: it is a number of batches from 1"),
        ({"strategy": {"name": "ps", "staleness": 2, "push": "delta", "compensation": "constant"}}, "compensation is for gradients"),
        ({"strategy": "ps", "lease": {"batches": 4}}, r"in rounds a lease is .* which is 1 batch; leave lease\.batches out"),
        ({"strategy": {"staleness": 3}}, r"staleness is a setting of parameter_server, and not of single; leave it out, or set strategy"),
        ({"strategy": {"name": "ps", "accumulate": 2}}, "accumulate is a setting of allreduce, and not of parameter_server"),
        ({"epoks": 3}, "no setting 'epoks'"),
        ({"schedule": "cosine", "budget": "5s"}, "cosine schedule needs to know where training ends"),
        ({"schedule": "linear"}, r"schedule\.name='linear'"),
        ({"clip": {"norm": 0}}, r"clip\.norm=0"),
        ({"device": "warp"}, r"device=.warp.: a device is .cpu., .auto. for a GPU"),
        ({"device": "cuda:"}, r"device=.cuda:."),
        ({"precision": "fp8"}, r"precision=.fp8.: input should be .float32., .bf16. or .auto."),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence_before_anything_starts(settings, words, own_home):
    with pytest.raises(AimassError, match=words) as raised:
        aimass.train("iris", **settings).wait()
    assert "\n" not in str(raised.value)
    assert raised.value.exit_code == UsageError.exit_code


def test_short_dotted_and_nested_names_mean_the_same():
    ways = [
        {"epochs": 3, "lr": 0.5, "optimizer": "sgd"},
        {"stop.epochs": 3, "optimizer.name": "sgd", "optimizer.lr": 0.5},
        {"stop": {"epochs": 3}, "optimizer": {"name": "sgd", "lr": 0.5}},
    ]
    first, *others = [settle(way)[0] for way in ways]
    assert all(other == first for other in others)


def test_the_tree_goes_through_json_and_back():
    config, _ = settle({"workers": 3, "model": {"name": "linear"}, "clip": 1.0, "budget": "2m", "optimizer": "AdamW"})
    assert TrainConfig.model_validate_json(config.model_dump_json()) == config


def test_the_default_strategy_follows_the_workers():
    assert settle({})[0].strategy.name == "single"
    assert settle({"workers": 2})[0].strategy.name == "async_sgd"
    assert settle({"workers": 0, "strategy": "ap-sgd"})[0].strategy.name == "async_sgd"


def test_a_strategy_of_which_only_a_field_is_given_is_the_default_one():
    assert settle({"workers": 2, "strategy.atomic": False})[0].strategy.name == "async_sgd"


@pytest.mark.parametrize("none", [None, "none"])
def test_no_bound_on_staleness_is_written_none(none):
    assert settle({"workers": 2, "strategy": {"name": "ps", "staleness": none}})[0].strategy.staleness is None


def test_another_strategy_or_optimizer_brings_settings_of_its_own():
    config, _ = settle({"workers": 2, "strategy": {"name": "ddp", "accumulate": 3}, "optimizer": {"name": "sgd", "momentum": 0.5}})
    other = changed(config, {"strategy": {"name": "ssp", "staleness": 3}, "optimizer": {"name": "adam"}})
    assert (other.strategy.staleness, other.optimizer.momentum) == (3, None)
    same = changed(config, {"strategy": {"name": "allreduce", "backend": "gloo"}, "optimizer.lr": 0.5})
    assert (same.strategy.accumulate, same.optimizer.momentum) == (3, 0.5)


def test_epochs_default_only_where_nothing_bounds_the_run():
    assert settle({})[0].stop.num_epochs == 10
    assert settle({"max_steps": 5})[0].stop.num_epochs is None
    assert settle({"budget": 5})[0].stop.num_epochs is None
    assert settle({"patience": 2})[0].stop.num_epochs == 10


def test_a_module_of_the_callers_is_kept_apart_from_the_settings():
    module = torch.nn.Linear(4, 3)
    config, kept = settle({"model": module})
    assert kept is module
    assert config.model.model_dump() == {"name": "custom", "module": "torch.nn.modules.linear.Linear"}


def test_settings_need_no_torch():
    program = "import sys; from aimass.training.config import TrainConfig; TrainConfig.parse({}); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "False\n"


def test_target_names_a_column_and_not_a_metric():
    data = aimass.data.load("iris")
    with pytest.raises(UsageError, match=r"stop=\{.target."):
        aimass.train(data, target="accuracy>=0.9")

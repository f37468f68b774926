"""The settings of optimizers, schedules and clipping."""

from __future__ import annotations

import subprocess
import sys

import pytest

from aimass.core.config import Config
from aimass.core.errors import UsageError
from aimass.optim.config import METHODS, ClipConfig, OptimizerConfig, ScheduleConfig


class Tree(Config):
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    clip: ClipConfig = ClipConfig()


@pytest.mark.parametrize("spelling", ["nadam", "NAdam", "torch.optim.NAdam", " nadam "])
def test_spellings_of_a_name(spelling: str) -> None:
    assert OptimizerConfig(name=spelling).name == "nadam"


def test_an_unknown_name_answers_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"no optimizer 'adm'; did you mean 'adam'\? Known: .*adagrad.*sgd"):
        OptimizerConfig.parse({"name": "adm"})


@pytest.mark.parametrize("name", ["Adafactor", "torch.optim.Muon", "lbfgs", "SparseAdam"])
def test_methods_that_are_not_elementwise_are_refused_with_the_reason(name: str) -> None:
    with pytest.raises(UsageError, match=r"cannot train one flat vector in slices, because it .*; choose one .*adam"):
        OptimizerConfig(name=name)


def test_a_setting_of_another_method_is_refused() -> None:
    with pytest.raises(UsageError, match=r"momentum is not a setting of the optimizer 'adam'; .* choose one of momentum, rmsprop, sgd"):
        OptimizerConfig(name="adam", momentum=0.9)


def test_nesterov_needs_momentum() -> None:
    with pytest.raises(UsageError, match="nesterov needs momentum"):
        OptimizerConfig(name="sgd", nesterov=True)
    assert OptimizerConfig(name="momentum", nesterov=True).momentum_value == 0.9


def test_adamw_cannot_be_coupled() -> None:
    with pytest.raises(UsageError, match="choose name='adam'"):
        OptimizerConfig(name="adamw", decoupled=False)


@pytest.mark.parametrize("settings", [{"lr": -1}, {"lr": 0}, {"weight_decay": -0.1}, {"momentum": 1.0}, {"betas": (0.9, 1.5)}])
def test_numbers_out_of_range(settings: dict) -> None:
    name = next(iter(settings))
    with pytest.raises(UsageError, match=rf"optimizer\.{name}.*input should be"):
        OptimizerConfig.parse({"name": "sgd", **settings}, prefix="optimizer.")


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_config_survives_json(name: str) -> None:
    config = OptimizerConfig(name=name, **{"l2" if METHODS[name].from_sums else "weight_decay": 0.1})
    assert OptimizerConfig.model_validate_json(config.model_dump_json()) == config


def test_defaults_of_a_method() -> None:
    assert OptimizerConfig(name="adamw").is_decoupled
    assert not OptimizerConfig(name="adam").is_decoupled
    assert OptimizerConfig(name="adagrad").eps_value == 1e-10
    assert OptimizerConfig(name="momentum").learning_rate == OptimizerConfig(name="sgd").learning_rate
    assert OptimizerConfig(name="sgd", lr=0.5).learning_rate == 0.5


def test_biases_are_decayed_only_on_request() -> None:
    config = OptimizerConfig(weight_decay=0.1)
    assert (config.weight_decay_of("decay"), config.weight_decay_of("no_decay")) == (0.1, 0.0)
    assert OptimizerConfig(weight_decay=0.1, decay_bias=True).weight_decay_of("no_decay") == 0.1


def test_short_forms_inside_a_tree() -> None:
    tree = Tree.parse({"optimizer": "sgd", "schedule": "cosine", "clip": 1.0})
    assert (tree.optimizer.name, tree.schedule.name, tree.clip.norm) == ("sgd", "cosine", 1.0)


def test_an_unknown_schedule_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match="'constant', 'cosine', 'step' or 'inverse_sqrt'"):
        ScheduleConfig.parse({"name": "cosinus"})


def test_config_modules_do_not_import_torch() -> None:
    code = "import sys, aimass.optim.config, aimass.optim.schedules, aimass.optim.clipping; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

from typing import get_args

import pytest

from aimass.cli.settings import argument_helps, lift, look_up, table, with_names
from aimass.core.errors import UsageError
from aimass.models.family import FAMILIES
from aimass.training.config import SHORTHANDS, TrainConfig
from aimass.training.settling import settle
from aimass.training.strategy import STRATEGIES


def dotted(config, prefix=""):
    from aimass.core.config import Config

    for name, field in config.model_fields.items():
        kinds = [kind for kind in (field.annotation, *get_args(field.annotation)) if isinstance(kind, type) and issubclass(kind, Config)]
        if kinds and prefix + name not in ("model", "strategy"):
            yield from dotted(kinds[0], f"{prefix}{name}.")
        else:
            yield prefix + name


def test_the_table_has_every_setting_and_says_what_each_is_for():
    found = table()
    wanted = set(dotted(TrainConfig))
    for kind, plugins in (("model", FAMILIES), ("strategy", STRATEGIES)):
        for name in plugins.names():
            config = plugins.load(name).config if kind == "model" else plugins.load(name).config_class
            wanted |= {f"{kind}.{field}" for field in config.model_fields if field != "name"}
    assert set(found) == wanted
    assert [name for name, setting in found.items() if not setting.help] == []
    assert set(SHORTHANDS.values()) <= set(found)


def test_defaults_come_from_the_config():
    found = table()
    assert (found["adapter.name"].default, found["adapter.rank"].default) == ("none", "8")
    assert found["adapter.name"].help == "`lora`. There is none unless you ask for one: --adapter NAME."
    assert found["optimizer.name"].default == TrainConfig.parse({}).optimizer.name
    assert found["checkpoint.every"].default == str(TrainConfig.parse({}).checkpoint.every)
    assert found["model.channels"].default == ",".join(map(str, FAMILIES.load("cnn").config().channels))
    assert (found["model.hidden"].default, found["model.hidden"].of) == ("by model", "cnn, mlp")
    having = [name for name in STRATEGIES.names() if "atomic" in STRATEGIES.load(name).config_class.model_fields]
    assert found["strategy.atomic"].of == ", ".join(having)


@pytest.mark.parametrize(
    ("line", "kept", "found"),
    [
        ("--optimizer.lr 0.1 iris --epochs 3", ["iris", "--epochs", "3"], {"optimizer.lr": "0.1"}),
        ("iris --optimizer.lr=0.1", ["iris"], {"optimizer.lr": "0.1"}),
        ("--optimizer.weight-decay 0.1", [], {"optimizer.weight_decay": "0.1"}),
        ("--model.hidden 64,32", [], {"model.hidden": ["64", "32"]}),
        ("--model.layer_norm iris", ["iris"], {"model.layer_norm": "true"}),
        ("--model.layer_norm false iris", ["iris"], {"model.layer_norm": "false"}),
        ("--clip.norm none", [], {"clip.norm": None}),
        ("--optimizer.options.rho 0.9", [], {"optimizer.options.rho": 0.9}),
        ("--batch_size 8 --max_steps=5", ["--batch-size", "8", "--max-steps=5"], {}),
        ("--missing -999 a_b", ["--missing", "-999", "a_b"], {}),
        ("--model.name mlp", [], {"model": "mlp"}),
        ("-- --optimizer.lr", ["--", "--optimizer.lr"], {}),
    ],
)
def test_dotted_settings_are_taken_out_of_the_line(line, kept, found):
    assert lift(line.split()) == (kept, found)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--optimizer.lrr 1", "there is no setting 'optimizer.lrr'; did you mean 'optimizer.lr'?"),
        ("--opimizer.lr 1", "there is no setting 'opimizer.lr'; did you mean 'optimizer'?"),
        ("--optimizer.lr", "--optimizer.lr needs a value: the learning rate"),
        ("--optimizer.lr --epochs 3", "--optimizer.lr needs a value"),
        ("--optimizer.options x", "--optimizer.options 'x' is not JSON"),
    ],
)
def test_what_cannot_be_a_setting_says_so(line, message):
    with pytest.raises(UsageError) as error:
        lift(line.split())
    assert str(error.value).startswith(message)


def test_every_setting_of_every_kind_is_read_by_its_own_type():
    line = "--model.hidden 8,4 --model.layer_norm --strategy.atomic no --optimizer.betas 0.8,0.9"
    _, found = lift([*line.split(), "--clip.norm", "1", "--stop.budget=2m", "--stop.max-steps=7"])
    config, _ = settle(with_names({**found, "workers": 2}))
    assert config.model.hidden == (8, 4)
    assert config.model.layer_norm
    assert config.strategy.name == "async_sgd"
    assert not config.strategy.atomic
    assert config.optimizer.betas == (0.8, 0.9)
    assert (config.clip.norm, config.stop.budget, config.stop.max_steps) == (1.0, 120.0, 7)


def test_a_named_model_keeps_its_name():
    assert with_names({"model": "mlp", "model.hidden": "8"}) == {"model": "mlp", "model.hidden": "8"}
    assert with_names({"epochs": 3}) == {"epochs": 3}


def test_looking_up():
    assert look_up("optimizer.nesterov").is_switch
    assert not look_up("optimizer.lr").is_switch


def test_helps_are_read_over_several_lines():
    def documented():
        """One line.

        Args:
            one: the first,
                over two lines: really.
            two: the second.

        Raises:
            ValueError: never.
        """

    assert argument_helps(documented) == {"one": "the first, over two lines: really.", "two": "the second."}

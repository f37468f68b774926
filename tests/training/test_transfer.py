"""Runs that begin with a model that was trained before."""

import shutil

import pytest
import torch

import aimass
from aimass.core.errors import NotFound, UsageError
from aimass.training import opening, transfer
from aimass.training.comparing.compare import Contest, read
from aimass.training.run import Run
from aimass.training.settling import settle
from aimass.training.train import begin_again
from aimass.training.transfer import Named

SMALL = {"name": "mlp", "hidden": (12,)}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def wine():
    return aimass.data.load("wine")


@pytest.fixture(scope="module")
def first(home, wine):
    """A run whose model others begin with."""
    return aimass.train(wine, model=SMALL, epochs=5, lr=0.02, home=home).wait()


def start_of(run):
    (data,) = [envelope.data for envelope in run.events() if envelope.type == "started_from"]
    return data


def parameters_of(model):
    return {name: value.detach().clone() for name, value in model.module.named_parameters()}


@pytest.mark.parametrize("workers", [0, 2])
def test_what_is_frozen_stays_and_the_rest_learns(workers, home, wine, first):
    run = aimass.train(wine, model=SMALL, start_from=first.id, freeze="layers.0", workers=workers, epochs=2, lr=0.02, home=home).wait()
    before, after = parameters_of(first.model), parameters_of(run.model)
    assert [name for name in before if before[name].equal(after[name])] == ["layers.0.weight", "layers.0.bias"]
    assert start_of(run)["trainable_parameters"] == 12 * 3 + 3
    assert run.history()[-1]["train_loss"] < first.history()[0]["train_loss"]
    assert all(parameter.requires_grad for parameter in run.model.module.parameters())


@pytest.mark.parametrize("workers", [0, 2])
def test_adapters_learn_and_end_as_an_ordinary_model(workers, home, wine, first, tmp_path):
    run = aimass.train(wine, model=SMALL, start_from=first, adapter={"rank": 2}, workers=workers, epochs=4, lr=0.02, home=home).wait()
    assert start_of(run)["adapters"] == ["layers.0", "layers.2"]
    assert run.model.evaluate(wine.train)["loss"] < first.model.evaluate(wine.train)["loss"]
    change = run.model.module.layers[0].weight - first.model.module.layers[0].weight
    assert torch.linalg.matrix_rank(change, tol=1e-5) == 2
    assert aimass.load(run.model.save(tmp_path / "model")).predict(wine.test) == run.model.predict(wine.test)


def test_the_first_loss_is_that_of_the_model_and_rows_are_read_alike(home, first):
    other = aimass.data.load("wine", seed=5)  # other training rows, so another mean of each column
    run = aimass.train(other, model=SMALL, start_from=first.model, epochs=1, lr=1e-12, home=home).wait()
    assert run.model.encoder.to_json() == first.model.encoder.to_json()
    assert run.model.evaluate(other.test)["loss"] == pytest.approx(first.model.evaluate(other.test)["loss"], abs=1e-6)


def test_other_classes_get_a_fresh_head(home, wine, first):
    table = wine.table.set_column(
        wine.table.column_names.index("target"),
        "target",
        [["low" if value == "class_0" else "high" for value in wine.table["target"].to_pylist()]],
    )
    run = aimass.train(aimass.data.load(table, "target"), model=SMALL, start_from=first, adapter="lora", epochs=1, home=home).wait()
    assert start_of(run)["fresh"] == ["layers.2.weight", "layers.2.bias"]
    assert start_of(run)["adapters"] == ["layers.0"]


def test_without_settings_of_a_model_it_has_the_family_and_the_sizes_of_the_start(home, wine, first):
    run = aimass.train(wine, start_from=first, epochs=1, home=home).wait()
    assert run.config.model == first.config.model
    assert (start_of(run)["fresh"], start_of(run)["warning"]) == ([], None)
    (contender,) = Contest(read("single", 2, settings={"start_from": first}), wine, home).contenders
    assert contender.config.model == first.config.model
    own = torch.nn.Sequential(torch.nn.Linear(13, 6), torch.nn.ReLU(), torch.nn.Linear(6, 3))
    mine = aimass.train(wine, model=own, epochs=1, home=home).wait()
    with pytest.raises(UsageError, match=r"is a module of your own .* pass model=MyModule\(\), or name a family"):
        aimass.train(wine, start_from=mine, home=home)


def test_layers_begin_afresh_as_wholes_and_a_warning_says_what_that_costs(home, wine, first):
    fewer = aimass.data.load(wine.table.drop_columns(["alcohol"]), "target")
    run = aimass.train(fewer, start_from=first, epochs=1, home=home).wait()
    assert start_of(run)["copied"] == ["layers.2.weight", "layers.2.bias"]
    assert (
        start_of(run)["warning"]
        == f"only 39 of the 207 parameters of {first.id} fit, since it was trained on other inputs or for other answers"
    )
    small = {"name": "mlp", "hidden": (12, 12)}
    deep = aimass.train(wine, model=small, epochs=1, home=home).wait()
    run = aimass.train(wine, model={"name": "mlp", "hidden": (9, 12)}, start_from=deep, epochs=1, home=home).wait()
    assert start_of(run)["copied"] == ["layers.4.weight", "layers.4.bias"]
    assert start_of(run)["warning"] == f"only 39 of the 363 parameters of {deep.id} fit; leave model out to have its family and sizes"


def test_outputs_for_other_classes_begin_afresh_though_there_are_as_many(home, wine, first):
    other = {"class_0": "red", "class_1": "white", "class_2": "rose"}
    at = wine.table.column_names.index("target")
    table = wine.table.set_column(at, "target", [[other[value] for value in wine.table["target"].to_pylist()]])
    colours = aimass.data.load(table, "target")
    run = aimass.train(colours, start_from=first, epochs=1, home=home).wait()
    assert start_of(run)["fresh"] == ["layers.2.weight", "layers.2.bias"]
    with pytest.raises(UsageError, match=r"grow=True keeps the answers of .* \(class_0, class_1, class_2\), and the data ask for"):
        aimass.train(colours, model={"name": "mlp", "hidden": (20,)}, start_from=first, grow=True, home=home)
    flat = aimass.train(wine, model="linear", epochs=1, home=home).wait()
    with pytest.raises(UsageError, match=r"nothing of .* was trained on other inputs or for other answers, 'target' .*; begin without"):
        aimass.train(colours, start_from=flat, home=home)


def test_adapters_beside_what_is_frozen_learn(home, wine, first):
    run = aimass.train(wine, start_from=first, adapter={"rank": 2}, freeze="layers.*", epochs=1, lr=0.02, home=home).wait()
    assert start_of(run)["adapters"] == ["layers.0", "layers.2"]
    assert (start_of(run)["trainable_parameters"], start_of(run)["frozen_parameters"]) == (2 * (13 + 12) + 2 * (12 + 3), 207)
    before, after = parameters_of(first.model), parameters_of(run.model)
    assert [name for name in after if before[name].equal(after[name])] == ["layers.0.bias", "layers.2.bias"]


def test_a_larger_model_begins_with_the_answers_of_the_smaller_one(home, wine, first):
    large = {"name": "mlp", "hidden": (20, 15)}
    run = aimass.train(wine, model=large, start_from=first, grow=True, epochs=1, lr=1e-12, home=home).wait()
    assert run.model.module.layers[0].weight.shape == (20, 13)
    assert run.model.evaluate(wine.test)["loss"] == pytest.approx(first.model.evaluate(wine.test)["loss"], abs=1e-6)


def test_a_language_model_that_sees_more_bytes_begins_with_the_answers_of_the_smaller_one(home):
    text = {"text": ["to be, or not to be: that is the question. " * 40]}
    small = {"name": "transformer", "layers": 1, "heads": 2, "width": 16, "context": 8}
    trained = aimass.train(aimass.data.load(text, task="language"), model=small, epochs=2, home=home).wait()
    large = {**small, "layers": 2, "context": 16}
    data = aimass.data.load(text, task="language")
    grown = aimass.train(data, model=large, start_from=trained, grow=True, epochs=1, lr=1e-12, home=home).wait().model
    assert grown.encoder.context == 16
    answers = [model.generate("to b", 4, temperature=0.0) for model in (grown, trained.model)]
    assert answers[0] == answers[1]


def test_a_run_is_resumed_after_its_start_is_gone(home, wine, first, tmp_path):
    shutil.copytree(first.folder / "model", tmp_path / "model")
    (tmp_path / "model" / "notes.md").symlink_to("nowhere")  # what is no part of the model is left alone
    whole, halves = (
        aimass.train(wine, model=SMALL, start_from=tmp_path / "model", adapter="lora", epochs=epochs, home=home).wait() for epochs in (4, 2)
    )
    shutil.rmtree(tmp_path / "model")
    again = aimass.resume(halves.id, data=aimass.data.load("wine"), epochs=4, home=home).wait()
    for name, value in parameters_of(whole.model).items():
        torch.testing.assert_close(parameters_of(again.model)[name], value)
    with pytest.raises(UsageError, match="adapter cannot change"):
        aimass.resume(halves.id, epochs=5, adapter="lora", home=home)


def test_a_run_that_died_before_its_first_checkpoint_begins_again(home):
    digits = aimass.data.load("digits", seed=5)
    small = {"name": "cnn", "channels": (4,), "hidden": (8,)}
    first = aimass.train(digits, model=small, max_steps=20, home=home).wait()
    named = Named(name="digits@1", folder=first.folder / "model")
    asked = {"model": small, "start_from": named, "max_steps": 10}
    run = aimass.train("digits", **asked, home=home).wait()
    expected = parameters_of(run.model)
    for left in ("checkpoints", "model", "start"):
        shutil.rmtree(run.folder / left)
    again = Run.open(run.folder)
    begin_again(
        again, settle({**asked, "start_from": "digits@1"})[0], aimass.data.load("digits"), named
    )  # nobody said how large an image is
    found = parameters_of(again.wait().model)
    assert all(found[name].equal(value) for name, value in expected.items())
    assert [one.data["source"] for one in again.events() if one.type == "started_from"] == ["digits@1"] * 2
    assert again.model.encoder.to_json() == first.model.encoder.to_json()


def test_a_module_of_ones_own_is_frozen_as_it_is(home, wine):
    torch.manual_seed(3)
    module = torch.nn.Sequential(torch.nn.Linear(13, 6), torch.nn.ReLU(), torch.nn.Linear(6, 3))
    kept = module[0].weight.clone()
    run = aimass.train(wine, model=module, freeze="0.*", adapter={"modules": "2"}, epochs=1, home=home).wait()
    assert run.model.module[0].weight.equal(kept)
    assert start_of(run)["adapters"] == ["2"]


def test_the_features_of_images_are_kept_for_other_classes(home):
    digits = aimass.data.load("digits")
    small = {"name": "cnn", "channels": (4, 4), "hidden": (8,)}
    first = aimass.train(digits, model=small, max_steps=20, home=home).wait()
    at = digits.table.column_names.index("target")
    parity = [["even", "odd"][int(digit) % 2] for digit in digits.table["target"].to_pylist()]
    table = digits.table.set_column(at, "target", [parity])
    run = aimass.train(
        aimass.data.load(table, "target"), model={**small, "image": (8, 8)}, start_from=first, freeze="features.*", max_steps=5, home=home
    ).wait()
    assert start_of(run)["fresh"] == ["head.2.weight", "head.2.bias"]
    before, after = parameters_of(first.model), parameters_of(run.model)
    assert {name.split(".")[0] for name in after if name in before and before[name].equal(after[name])} == {"features"}


@pytest.mark.parametrize(
    ("settings", "error", "why"),
    [
        ({"start_from": "nowhere"}, NotFound, "neither a folder that Model.save wrote nor a run"),
        ({"start_from": "/no/where"}, NotFound, "neither a folder that Model.save wrote nor a run"),
        ({"start_from": 5}, UsageError, "is no model"),
        ({"model": {"name": "mlp", "hidden": (5, 5)}}, UsageError, "leave model out to have the family 'mlp' and the sizes of [^,]*$"),
        ({"model": {"name": "mlp", "hidden": (15, 13)}}, UsageError, r"and 1 more; leave model out .* or set grow=True$"),
        (
            {"model": "linear"},
            UsageError,
            "nothing of .* fits the model: .* leave model out to have the family 'mlp' and the sizes of [^,]*$",
        ),
        ({"model": "linear", "strategy": "ensemble", "workers": 2}, UsageError, "'ensemble' makes another model of it"),
        ({"freeze": "features.*"}, UsageError, "fits no parameter; there are: layers.0.weight"),
        ({"freeze": "*"}, UsageError, "leaves nothing to train"),
        (
            {"freeze": "layers.0.lora_a", "adapter": "lora"},
            UsageError,
            "fits no parameter; there are: layers.0.weight, layers.0.bias, layers.2",
        ),
        ({"model": "linear", "grow": True}, UsageError, "needs a model of one family"),
        ({"start_from": None, "adapter": "lora"}, UsageError, "adapts a model that was trained before"),
        ({"start_from": None, "grow": True}, UsageError, "needs start_from"),
        ({"adapter": "prefix"}, UsageError, "adapter"),
    ],
)
def test_what_cannot_work_is_refused_before_a_run_exists(settings, error, why, home, wine, first):
    there = len(Run.list(home))
    with pytest.raises(error, match=why):
        aimass.train(wine, **{"model": SMALL, "start_from": first, "epochs": 1, "home": home, "workers": 2, **settings})
    assert len(Run.list(home)) == there


def test_lora_without_linear_layers_is_refused(home, wine):
    flat = aimass.train(wine, model="linear", epochs=1, home=home).wait()
    with pytest.raises(UsageError, match="a LinearNetwork holds its weights itself, in no such layer; train it without an adapter"):
        aimass.train(wine, model="linear", start_from=flat, adapter="lora", home=home)


def test_the_network_that_was_seen_to_work_is_the_one_that_learns(home, wine, first, monkeypatch):
    made, build = [], transfer.build_module
    for module in (transfer, opening):
        monkeypatch.setattr(module, "build_module", lambda *settings: made.append(build(*settings)) or made[-1])
    aimass.train(wine, model=SMALL, start_from=first, optimizer={"rates": {"layers.0": 0.1}}, epochs=1, home=home).wait()
    assert len(made) == 1
    aimass.train(wine, model=SMALL, optimizer={"rates": {"layers.0": 0.1}}, epochs=1, home=home).wait()
    assert [next(network.parameters()).is_meta for network in made] == [False, True, False]

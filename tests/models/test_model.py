"""Models: answers, metrics, and what is left of them on disk."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn import metrics as sk
from torch import nn

from aimass.core.errors import DataError, UsageError
from aimass.data import load
from aimass.models.config import build_module, parse_model
from aimass.models.learner import Learner
from aimass.models.model import Model
from aimass.models.tasks import task_of

PEOPLE = {
    "age": [20, 30, None, 50, 61, 35, 28, 44, 52, 39] * 4,
    "plan": ["gold", "free", "free", None, "gold", "silver", "silver", "free", "gold", "free"] * 4,
    "member": [True, False, True, True, False, False, True, True, False, False] * 4,
    "churn": ["no", "yes", "no", "no", "yes", "yes", "no", "yes", "no", "yes"] * 4,
}


class Net(nn.Module):
    """A module of a caller's own, with everything that is hard to save: tied and frozen weights, buffers."""

    def __init__(self, width=4):
        super().__init__()
        self.inward = nn.Linear(4, width)
        self.norm = nn.BatchNorm1d(width)
        self.outward = nn.Linear(4, width, bias=False)
        self.outward.weight = self.inward.weight
        self.frozen = nn.Linear(width, width).requires_grad_(False)
        self.head = nn.Linear(width, 3)

    def forward(self, numbers):
        return self.head(self.frozen(torch.tanh(self.norm(self.inward(numbers)) + self.outward(numbers))))


@pytest.fixture
def people():
    return load(PEOPLE, target="churn")


def untrained(data, model="mlp", module=None):
    """A model with random weights."""
    torch.manual_seed(0)
    config, task, encoder = parse_model(module if module is not None else model), task_of(data.encoder), data.encoder
    module = module or build_module(config, encoder.num_numbers, encoder.cardinalities, task.num_outputs(encoder.classes))
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return Model(module=module, encoder=encoder, config=config, task=task)


def trained(data, model="mlp", steps=300, lr=0.1):
    torch.manual_seed(0)
    encoder, task = data.encoder, task_of(data.encoder)
    config = parse_model(model)
    learner = Learner(build_module(config, encoder.num_numbers, encoder.cardinalities, task.num_outputs(encoder.classes)), task)
    encoded = data.train.encoded
    inputs = {"numbers": torch.from_numpy(encoded.numbers)}
    batch = {"inputs": inputs, "targets": torch.from_numpy(encoded.targets), "rows": torch.from_numpy(encoded.rows), "weights": None}
    for _ in range(steps):
        learner.parameters.add_(learner.gradient(batch)[1], alpha=-lr)
    return Model(module=learner.module, encoder=encoder, config=config, task=task)


# --------------------------------------------------------------------------------------------------- predict and evaluate


def test_the_ways_to_ask_give_the_same_answers(people, tmp_path):
    import pyarrow as pa
    from pyarrow import csv

    model = untrained(people)
    rows = [{name: values[i] for name, values in PEOPLE.items() if name != "churn"} for i in range(10)]
    table = pa.table({name: values[:10] for name, values in PEOPLE.items() if name != "churn"})
    csv.write_csv(table, tmp_path / "rows.csv")
    expected = model.predict(rows)
    assert [set(answer) for answer in expected] == [{"prediction", "probability", "probabilities"}] * 10
    assert {answer["prediction"] for answer in expected} <= {"yes", "no"}
    assert len({answer["probability"] for answer in expected}) == 10
    for asked in (table, str(tmp_path / "rows.csv"), tmp_path / "rows.csv", table.to_pydict()):
        assert model.predict(asked) == expected
    (alone,) = model.predict(rows[3])
    assert alone["prediction"] == expected[3]["prediction"]
    assert alone["probabilities"] == pytest.approx(expected[3]["probabilities"])


def test_a_split_is_predicted_in_its_order(people):
    model = untrained(people)
    answers = model.predict(people.test)
    assert len(answers) == len(people.test)
    outputs = Learner(model.module, model.task).outputs(
        {
            "numbers": torch.from_numpy(people.test.encoded.numbers),
            "categories": torch.from_numpy(people.test.encoded.categories),
        }
    )
    expected = torch.sigmoid(outputs[:, 0].double()).tolist()
    assert [answer["probabilities"]["yes"] for answer in answers] == pytest.approx(expected)


def test_no_rows_have_no_answers(people):
    assert untrained(people).predict([]) == []
    assert untrained(load("iris")).predict([]) == []


def test_dropout_is_off_in_answers(people):
    model = untrained(people, {"name": "mlp", "dropout": 0.9})
    assert model.predict(people.train) == model.predict(people.train)


def test_a_row_that_cannot_be_answered(people):
    model = untrained(people)
    with pytest.raises(DataError, match=r"2 columns that the model needs are absent: 'plan', 'member'"):
        model.predict([{"age": 41}])
    with pytest.raises(DataError, match=r"column 'age' holds 'old'"):
        model.predict([{"age": "old", "plan": "gold", "member": True}])


def test_a_trained_classifier_is_measured_like_scikit_learn_would():
    data = load("iris")
    model = trained(data)
    truth = [data.encoder.decode_class(number) for number in data.test.encoded.targets]
    predicted = [answer["prediction"] for answer in model.predict(data.test)]
    found = model.evaluate(data.test)
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(truth, predicted))
    assert found["macro_f1"] == pytest.approx(sk.f1_score(truth, predicted, average="macro"))
    assert found["accuracy"] >= 0.85


def test_a_trained_regression_answers_in_the_targets_unit():
    data = load("diabetes")
    model = trained(data, "linear", steps=500, lr=0.05)
    truth = data.test.encoded.targets * data.encoder.target_std + data.encoder.target_mean
    predicted = [answer["prediction"] for answer in model.predict(data.test)]
    found = model.evaluate(data.test)
    assert found["rmse"] == pytest.approx(np.sqrt(np.mean((truth - predicted) ** 2)), rel=1e-5)
    assert found["r2"] == pytest.approx(sk.r2_score(truth, predicted), rel=1e-5)
    assert model.evaluate(data.train)["r2"] > 0.45


def test_a_file_is_evaluated(people, tmp_path):
    from pyarrow import csv

    model = untrained(people)
    csv.write_csv(people.test.table, tmp_path / "test.csv")
    assert model.evaluate(tmp_path / "test.csv") == pytest.approx(model.evaluate(people.test))
    csv.write_csv(people.test.table.drop_columns(["churn"]), tmp_path / "blind.csv")
    with pytest.raises(DataError, match="churn"):
        model.evaluate(tmp_path / "blind.csv")


def test_a_split_of_another_data_set_is_read_by_the_models_encoder(people):
    model = untrained(people)
    other = load({name: values[:20] for name, values in PEOPLE.items()}, target="churn", seed=5)
    assert other.encoder.to_json() != people.encoder.to_json()
    rows = other.train.table.select(["age", "plan", "member"])
    assert model.predict(other.train) == model.predict(rows)


def test_an_empty_split_cannot_be_evaluated():
    data = load({"x": [1.0, 2.0, 3.0], "y": ["a", "b", "a"]}, target="y", split=(1, 0, 0))
    with pytest.raises(DataError, match="no row with a target to evaluate on"):
        untrained(data).evaluate(data.test)


def test_the_signature_says_what_goes_in_and_comes_out(people):
    assert untrained(people).signature() == {
        "inputs": [{"name": "age", "kind": "numeric"}, {"name": "plan", "kind": "categorical"}, {"name": "member", "kind": "boolean"}],
        "target": "churn",
        "task": "binary",
        "classes": ["no", "yes"],
    }


# ---------------------------------------------------------------------------------------------------------- save and load


@pytest.mark.parametrize("source", ["digits", "diabetes", "breast_cancer"])
@pytest.mark.parametrize("family", ["linear", {"name": "mlp", "hidden": (7,), "layer_norm": True}], ids=["linear", "mlp"])
def test_what_was_saved_answers_alike_to_the_bit(source, family, tmp_path):
    data = load(source)
    model = untrained(data, family)
    assert model.save(tmp_path / "model") == tmp_path / "model"
    again = Model.load(tmp_path / "model")
    assert again.predict(data.test) == model.predict(data.test)
    assert again.evaluate(data.test) == model.evaluate(data.test)
    assert (again.config, again.signature(), repr(again)) == (model.config, model.signature(), repr(model))


def test_categories_and_missing_values_survive(people, tmp_path):
    model = untrained(people)
    model.save(tmp_path / "model")
    row = {"age": None, "plan": "never seen", "member": "no"}
    assert Model.load(tmp_path / "model").predict(row) == model.predict(row)


def test_a_folder_holds_json_and_safetensors_and_nothing_else(people, tmp_path):
    untrained(people).save(tmp_path / "model")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["model.json", "model.safetensors"]
    description = json.loads((tmp_path / "model" / "model.json").read_text())
    assert description["format"] == 1
    names = {entry["name"] for entry in description["manifest"]["entries"]}
    assert names == set(load_file(tmp_path / "model" / "model.safetensors"))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_model_bound_to_a_flat_vector_saves_its_own_tensors(people, tmp_path):
    model = untrained(people)
    expected = model.predict(people.test)
    Learner(model.module, model.task)
    Model(module=model.module, encoder=model.encoder, config=model.config).save(tmp_path / "model")
    assert Model.load(tmp_path / "model").predict(people.test) == expected


def test_a_module_of_ones_own_needs_its_network_again(tmp_path):
    data = load("iris")
    model = untrained(data, module=Net())
    model.module.norm.running_mean.fill_(0.3)
    expected = model.predict(data.test)
    model.save(tmp_path / "model")
    with pytest.raises(UsageError, match=r"holds the tensors of .*Net; pass the network too: aimass.load\(.*, module=\.\.\.\)"):
        Model.load(tmp_path / "model")
    again = Model.load(tmp_path / "model", module=Net())
    assert again.predict(data.test) == expected
    assert again.module.outward.weight is again.module.inward.weight
    assert "outward.weight" not in load_file(tmp_path / "model" / "model.safetensors")


def test_another_network_than_the_one_that_was_trained(tmp_path):
    model = untrained(load("iris"), module=Net())
    model.save(tmp_path / "model")
    with pytest.raises(UsageError, match=r"'frozen.bias' has shape \(4,\) in .* and \(5,\) in the network; pass the network that was"):
        Model.load(tmp_path / "model", module=Net(width=5))
    with pytest.raises(UsageError, match=r"do not have the same tensors: .* alone; pass the network that was trained"):
        Model.load(tmp_path / "model", module=nn.Linear(4, 3))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_are_kept(dtype, tmp_path):
    data = load("iris")
    model = untrained(data, module=Net().to(dtype))
    model.save(tmp_path / "model")
    assert load_file(tmp_path / "model" / "model.safetensors")["head.weight"].dtype == dtype
    assert Model.load(tmp_path / "model", module=Net().to(dtype)).predict(data.test) == model.predict(data.test)


def test_saving_again_replaces_a_model_and_nothing_else(people, tmp_path):
    untrained(people, "linear").save(tmp_path / "model")
    untrained(people, "mlp").save(tmp_path / "model")
    assert Model.load(tmp_path / "model").config.name == "mlp"
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.txt").write_text("a cat")
    for taken in (tmp_path / "photos", tmp_path / "photos" / "cat.txt", tmp_path / "absent" / ".." / "photos" / "cat.txt"):
        with pytest.raises(UsageError, match="is there already and is no model; choose another folder"):
            untrained(people).save(taken)
    assert (tmp_path / "photos" / "cat.txt").read_text() == "a cat"

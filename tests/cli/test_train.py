import json
import random
from pathlib import Path

import pytest

import aimass as library
from aimass.training.run import Run


@pytest.fixture
def customers(home):
    """A file of 200 rows whose target follows from its columns."""
    chance = random.Random(0)
    lines = ["age,plan,zip,churn"]
    for _ in range(200):
        age, plan = chance.randint(18, 80), chance.choice(["gold", "free"])
        lines.append(f"{age},{plan},{chance.randint(1, 9)},{'yes' if age > 45 and plan == 'free' else 'no'}")
    path = Path("customers.csv")
    path.write_text("\n".join(lines))
    return path


def test_from_a_file_to_a_model(aimass, customers):
    outcome = aimass(
        "train", customers, "--target", "churn", "--schema", "zip=categorical", "--split", "0.6,0.2,0.2", "--model.hidden", "16",
        "--epochs", "3", "--lr", "0.01", "--out", "churn", "--plot", "curve.png",
    )  # fmt: skip
    assert outcome.status == 0, outcome.err
    (run,) = Run.list()
    assert (run.state, run.config.model.hidden, run.config.optimizer.lr, run.config.stop.epochs) == ("succeeded", (16,), 0.01, 3)
    assert "Dataset(customers.csv: 120 + 40 + 40 rows, 3 inputs, binary target 'churn')" in outcome.err
    assert "succeeded: all 3 epochs are done" in outcome.err
    assert f"aimass predict churn DATA   or   aimass runs show {run.id}" in outcome.out
    assert Path("curve.png").read_bytes().startswith(b"\x89PNG")
    model = library.load("churn")
    assert [column.name for column in model.encoder.columns if column.kind == "categorical"] == ["plan", "zip"]
    assert set(model.predict({"age": 41, "plan": "gold", "zip": "3"})[0]["probabilities"]) == {"no", "yes"}


def test_what_learnt_text_goes_on_with_one(aimass, home):
    Path("poem.txt").write_text("to be or not to be")
    small = [f"--model.{name}={value}" for name, value in {"context": 4, "layers": 1, "heads": 1, "width": 8}.items()]
    outcome = aimass("train", "poem.txt", "--model", "transformer", *small, "--max-steps", "1", "--out", "poet")
    assert outcome.status == 0, outcome.err
    assert "next        aimass generate poet TEXT   or   aimass runs show" in outcome.out
    refused = aimass("train", "poem.txt")
    assert (refused.status, "set model to 'transformer', which learns it" in refused.err) == (2, True)


def test_for_programs_standard_output_is_one_object(aimass, home):
    outcome = aimass("train", "iris", "--max-steps", "5", "--json", "--out", "flowers")
    found = json.loads(outcome.out)
    assert (found["state"], found["metrics"]["steps"], found["out"], found["plot"]) == ("succeeded", 5, "flowers", None)
    assert found["test"]["accuracy"] == library.load("flowers").evaluate(library.data.load("iris").test)["accuracy"]
    assert Path(found["folder"]).parent == home / "runs"
    assert "step 5/5" in outcome.err


def test_progress_can_be_left_out(aimass):
    outcome = aimass("train", "iris", "--epochs", "1", "--json", "--progress", "none")
    assert (outcome.status, outcome.err) == (0, "")


def test_one_seed_decides_everything_and_the_split_can_have_its_own(aimass):
    def split_of(*arguments):
        aimass("train", "iris", "--epochs", "1", *arguments)
        described = json.loads((Run.list()[0].folder / "run.json").read_text())
        return described["data"]["fingerprint"]

    plain = split_of()
    assert split_of("--seed", "1") == library.data.load("iris", seed=1).fingerprint != plain
    assert split_of("--seed", "1", "--split-seed", "0") == plain
    assert Run.list()[0].config.seed == 1


def test_a_run_goes_on(aimass):
    aimass("train", "iris", "--max-steps", "6")
    (run,) = Run.list()
    outcome = aimass("train", "--resume", run.id, "--max-steps", "9", "--optimizer.lr", "0.5", "--json")
    found = json.loads(outcome.out)
    assert (found["id"], found["metrics"]["steps"]) == (run.id, 9)
    assert found["test"].keys() >= {"loss", "accuracy"}
    assert "going on from step 6" in outcome.err
    assert outcome.err.count("training on") == 1
    assert Run.open(run.id).config.optimizer.lr == 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "there is nothing to train on"),
        (["iris", "--resume", "x"], "DATA cannot be given with --resume"),
        (["--resume", "x", "--split-seed", "1"], "--split-seed cannot be given with --resume"),
        (["iris", "--split", "much"], "--split 'much' is not three shares"),
        (["iris", "--schema", "age"], "--schema 'age' has no column and kind"),
        (["iris", "--plot", "curve.doc"], "--plot curve.doc cannot be drawn"),
        (["iris", "--plot", "folder.png"], "--plot folder.png is a folder; name a file"),
        (["iris", "--out", "absent/../folder.png/rows.csv"], "--out absent/../folder.png/rows.csv is there already and is no model"),
        (["iris", "--optimizer", "adm"], "there is no optimizer 'adm'; did you mean 'adam'?"),
        (["iris", "--model", "linear", "--model.hidden", "3"], "model.hidden is a setting of cnn and mlp, and not of linear"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(aimass, home, arguments, message):
    Path("folder.png").mkdir()
    Path("folder.png/rows.csv").write_text("a,b\n")
    outcome = aimass("train", *arguments)
    assert outcome.status == 2
    assert outcome.err.startswith(f"error: {message}")
    assert not home.exists()


def test_what_was_noted_of_the_data_is_said(aimass):
    Path("few.csv").write_text("a,b\n1,x\n2,y\n3,x\n")
    outcome = aimass("train", "few.csv", "--target", "b", "--epochs", "1")
    assert "3 + 0 + 0 rows, 1 input, binary" in outcome.err
    assert "\nnote: too few rows for a validation and a test split: none were set aside\n" in outcome.err


def test_settings_are_looked_at_before_the_data(aimass):
    assert "optimizer" in aimass("train", "no.csv", "--optimizer", "adm").err


def test_a_folder_that_is_no_model_is_never_replaced(aimass, home):
    Path("photos").mkdir()
    Path("photos/one.jpg").write_text("precious")
    outcome = aimass("train", "iris", "--epochs", "1", "--out", "photos")
    assert outcome.status == 2
    assert "is there already and is no model" in outcome.err
    assert Path("photos/one.jpg").read_text() == "precious"
    assert not home.exists()

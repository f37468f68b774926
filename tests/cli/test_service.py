"""The commands against a real service: the way from a file to a bill, and what goes wrong on it."""

import json
import os
import random
import stat
from pathlib import Path

import pytest
from services import running_service

ROWS = '[{"age": 75, "plan": "free"}, {"age": 20, "plan": "gold"}]'


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """A service with a model `churn`, trained and deployed by the commands that are tested below."""
    with running_service(tmp_path_factory.mktemp("service")) as found:
        yield found


@pytest.fixture
def here(service, home, monkeypatch):
    """A folder with customers in it, and the commands logged in."""
    monkeypatch.setenv("AIMASS_HOME", str(service.home))
    chance = random.Random(0)
    lines = ["age,plan,churn"]
    for _ in range(300):
        age, plan = chance.randint(18, 80), chance.choice(["gold", "free"])
        lines.append(f"{age},{plan},{'yes' if age > 45 and plan == 'free' else 'no'}")
    Path("customers.csv").write_text("\n".join(lines) + "\n")
    return Path.cwd()


@pytest.fixture
def say(aimass, here):
    """Runs a command that is to succeed; with `--json` at its end, the value is what it printed."""

    def run(*arguments):
        outcome = aimass(*arguments)
        assert outcome.status == 0, outcome.err
        return json.loads(outcome.out) if arguments[-1] == "--json" else outcome.out

    return run


@pytest.fixture
def churn(say):
    """The model, made on first use."""
    if "churn" not in [model["name"] for model in say("models", "list", "--json")["data"]]:
        say("jobs", "create", "customers.csv", "--target", "churn", "--model", "churn", "--epochs", "5", "--family", "linear", "--follow")
        say("deploy", "churn")
    return "churn"


def test_from_a_file_to_a_bill(say, aimass, here, churn):
    job = next(job for job in say("jobs", "list", "--json")["data"] if job["model"] == "churn")
    assert (job["status"], job["result"]) == ("succeeded", {"model": "churn", "version": 1})
    assert (job["config"]["stop"]["epochs"], job["config"]["model"]["name"]) == (5, "linear")
    assert "version 1" in say("jobs", "follow", job["id"])
    assert "run_started" in say("jobs", "show", job["id"], "--events")
    assert "status      succeeded" in say("jobs", "show", job["id"])

    shown = say("models", "show", "churn", "--json")
    assert (shown["version"], shown["lineage"]["job"], shown["lineage"]["dataset"]) == (1, job["id"], job["dataset"])
    assert "churn, version 1 of 1" in say("models", "show", "churn")

    Path("rows.json").write_text(ROWS)
    answers = say("predict", "churn", "rows.json", "--json")["predictions"]
    assert [answer["prediction"] for answer in answers] == ["yes", "no"]

    before = charged(say, 2)
    say("predict", "churn", "rows.json")
    after = charged(say, before + 2)
    assert after == before + 2
    invoice = say("usage", "invoice", "--json")
    assert sum(line["amount_micro"] for line in invoice["lines"]) == invoice["subtotal_micro"] > 0
    assert invoice["id"] in say("usage", "invoice")
    say("usage", "invoice", "--csv", "invoice.csv")
    assert "prediction,churn,1" in Path("invoice.csv").read_text()
    assert "training" in say("usage", "--start", "2020-01-01")
    assert "prediction" in say("usage", "prices")


def charged(say, least):
    """The rows that were charged, once they are at least so many."""
    from services import wait_until

    def rows():
        found = sum(line["quantity"] for line in say("usage", "--json")["items"] if line["item"] == "prediction")
        return found if found >= least else None

    return wait_until(rows)


def test_the_service_answers_like_the_model_itself(say, churn):
    say("models", "download", "churn", "copy", "--version", "1")
    assert say("predict", "copy", "customers.csv") == say("predict", "churn", "customers.csv")
    assert say("predict", "copy", "customers.csv", "--json") == say("predict", "churn", "customers.csv", "--version", "1", "--json")
    say("predict", "churn", "customers.csv", "--out", "answers.json")
    assert json.loads(Path("answers.json").read_text()) == say("predict", "copy", "customers.csv", "--json")


def test_models_go_up_and_get_other_names(say, churn):
    say("models", "download", "churn", "copy")
    assert say("models", "upload", "copied", "copy", "--json")["version"] == 1
    assert say("models", "upload", "copied", "copy", "--json")["version"] == 2
    assert [version["version"] for version in say("models", "versions", "copied", "--json")["data"]] == [2, 1]
    say("models", "alias", "copied", "production", "1")
    assert say("models", "show", "copied", "--version", "production", "--json")["version"] == 1
    assert "production → 1" in say("models", "list")
    made = say("deploy", "copied", "--alias", "production", "--name", "second", "--json")
    assert (made["name"], made["model"], made["version"], made["status"]) == ("second", "copied", 1, "ready")
    assert say("deploy", "copied", "--name", "second", "--json")["version"] == 2
    assert "second" in say("deployments", "list")
    assert {model["name"] for engine in say("engines", "--json")["data"] for model in engine["models"]} >= {"second"}
    assert "loaded" in say("engines", "--history")
    say("deployments", "delete", "second")
    assert "second" not in say("deployments", "list")
    say("models", "alias", "copied", "production", "--delete")
    assert say("models", "show", "copied", "--json")["aliases"] == []


def test_files_and_data_sets(say, here):
    file = say("files", "upload", "customers.csv", "--json")
    assert file["bytes"] == Path("customers.csv").stat().st_size
    assert file["id"] in say("files", "list", "--limit", "1")
    assert file["sha256"] in say("files", "show", file["id"])
    say("files", "download", file["id"], "back.csv")
    assert Path("back.csv").read_bytes() == Path("customers.csv").read_bytes()
    dataset = say("datasets", "create", file["id"], "--target", "churn", "--split", "0.5,0.25,0.25", "--schema", "age=numeric", "--json")
    assert dataset["split"] == {"train": 150, "validation": 75, "test": 75}
    assert "churn: binary" in say("datasets", "show", dataset["id"])
    assert dataset["id"] in say("datasets", "list")
    say("datasets", "delete", dataset["id"])
    say("files", "delete", file["id"])
    assert file["id"] not in say("files", "list")
    assert "iris" in say("datasets", "create", "iris", "--name", "flowers")


def test_a_job_is_cancelled_and_resumed(say, aimass, here):
    job = say("jobs", "create", "digits", "--model", "digits", "--epochs", "100000", "--json")
    say("jobs", "cancel", job["id"])
    outcome = aimass("jobs", "follow", job["id"])
    assert (outcome.status, f"{job['id']} was cancelled" in outcome.err) == (130, True)
    assert "go on with it: aimass jobs resume" in say("jobs", "show", job["id"])
    resumed = say("jobs", "resume", job["id"], "--epochs", "1", "--follow", "--json")
    assert (resumed["status"], resumed["config"]["stop"]["epochs"]) == ("succeeded", 1)


def test_keys_and_projects(say, aimass, service, monkeypatch, tmp_path, churn):
    project = say("projects", "create", "shop", "--json")
    assert "shop" in say("projects", "list")
    made = say("keys", "create", "website", "--role", "inference", "--json")
    other = say("keys", "create", "till", "--project", "shop", "--json")
    listed = aimass("keys", "list").out
    assert made["id"] in listed
    assert made["key"] not in listed
    assert other["project"] == project["id"]

    monkeypatch.setenv("AIMASS_API_KEY", made["key"])
    Path("rows.json").write_text(ROWS)
    assert len(say("predict", "churn", "rows.json", "--json")["predictions"]) == 2
    assert aimass("files", "list").status == 14
    monkeypatch.setenv("AIMASS_API_KEY", other["key"])
    outcome = aimass("models", "show", "churn")
    assert (outcome.status, "churn" in outcome.err) == (5, True)
    monkeypatch.delenv("AIMASS_API_KEY")
    say("keys", "revoke", made["key"])
    monkeypatch.setenv("AIMASS_API_KEY", made["key"])
    outcome = aimass("predict", "churn", "rows.json")
    assert (outcome.status, outcome.err.count("\n")) == (9, 1)


def test_a_budget_is_set_shown_and_lifted(say, aimass):
    say("projects", "create", "stall")
    made = say("budgets", "set", "stall", "2.50", "--period", "day", "--json")
    assert (made["limit_micro"], made["period"]) == (2_500_000, "day")
    assert "left, until it begins anew at 20" in say("budgets", "show", "stall")
    assert "in total" in say("budgets", "set", "stall", "1", "--period", "total")
    say("budgets", "remove", "stall")
    assert aimass("budgets", "show", "stall").status == 5
    assert aimass("budgets", "set", "stall", "much").status == 2


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["files", "show", "file-0"], 5, "there is no file 'file-0'"),
        (["files", "upload", "absent.csv"], 5, "there is no file 'absent.csv'; check the path"),
        (["datasets", "create", "absent.csv"], 5, "there is no file 'absent.csv' here; give a path"),
        (["datasets", "create", "customers.csv", "--target", "chrn"], 4, "chrn"),
        (["jobs", "create", "customers.csv", "--target", "churn", "--epochs", "0"], 2, "stop.epochs=0"),
        (["jobs", "create", "ds-0", "--target", "churn"], 2, "--target belongs to a data set when it is made"),
        (["jobs", "create", "ds-0", "--start-from", "./churn"], 2, "start_from='./churn' names no version of a model"),
        (["jobs", "create", "ds-0", "--start-from", "roses@2", "--adapter", "lora"], 5, "there is no model 'roses'"),
        (["jobs", "show", "job-0"], 5, "job-0"),
        (["models", "show", "nope"], 5, "nope"),
        (["deploy", "nope"], 5, "nope"),
        (["deploy", "churn", "--version", "1", "--alias", "x"], 2, "give one of them"),
        (["deployments", "delete", "nope"], 5, "there is no deployment 'nope'"),
        (["predict", "nope", "customers.csv"], 5, "nope"),
        (["models", "alias", "churn", "production"], 2, "or --delete"),
        (["evaluate", "nope", "customers.csv"], 5, "A model of the registry comes here by: aimass models download nope FOLDER"),
        (["generate", "nope", "Once"], 5, "aimass models download nope FOLDER"),
        (["budgets", "set", "shop", "-1"], 2, "if a number is meant, it cannot be below 0 here"),
        (["usage", "--start", "soon"], 2, "'soon' is no day; write it like 2026-01-31"),
    ],
)
def test_what_goes_wrong_is_one_line_and_an_exit_code(aimass, here, arguments, status, said):
    outcome = aimass(*arguments)
    assert (outcome.status, outcome.out) == (status, ""), outcome.err
    assert said in outcome.err
    assert outcome.err.splitlines()[-1].startswith("error: ")
    failed = aimass(*arguments, "--json")
    assert (failed.status, said in json.loads(failed.out)["error"]["message"]) == (status, True)


def test_a_model_called_like_a_family_may_have_been_meant_as_one(aimass, here):
    told = aimass("jobs", "create", "ds-0", "--model", "linear").err
    assert told.startswith("note: --model linear is the name in the registry; the family 'linear' is chosen by --family linear\n")
    assert "note" not in aimass("jobs", "create", "ds-0", "--model", "linear", "--family", "linear").err


def test_rows_that_cannot_be_answered_say_where_they_are(aimass, here, churn):
    Path("bad.csv").write_text("age,plan\n" + "30,gold\n" * 1500 + "old,gold\n")
    outcome = aimass("predict", "churn", "bad.csv")
    assert outcome.status == 4
    assert "'age'" in outcome.err
    assert "counted from row 1000" in outcome.err


def test_login(aimass, service, home, monkeypatch):
    nobody = aimass("login")
    assert (nobody.status, "nobody is logged in here" in nobody.err) == (5, True)
    assert aimass("login", service.url, "--key", "am_0_wrong").status == 9
    assert not (home / "credentials.json").exists()
    done = aimass("login", service.url + "/", "--key", service.key)
    assert (done.status, service.key in done.out) == (0, False)
    kept = home / "credentials.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    shown = aimass("login", "--show")
    assert (shown.status, service.url in shown.out, service.key in shown.out) == (0, True, False)
    assert aimass("files", "list").status == 0
    kept.unlink()
    read, write = os.pipe()
    os.write(write, f"{service.key}\n".encode())
    os.close(write)
    with os.fdopen(read) as keys:
        monkeypatch.setattr("sys.stdin", keys)
        assert aimass("login", service.url).status == 0


def test_a_service_that_is_not_there(aimass, home, monkeypatch):
    outcome = aimass("files", "list")
    assert (outcome.status, outcome.err.count("\n")) == (2, 1)
    assert "no service is known here; start one with `aimass up`" in outcome.err
    monkeypatch.setenv("AIMASS_URL", "http://127.0.0.1:1")
    assert "there is no key for http://127.0.0.1:1" in aimass("files", "list").err
    monkeypatch.setenv("AIMASS_API_KEY", "am_0_x")
    outcome = aimass("files", "list")
    assert outcome.status == 12
    assert (
        outcome.err
        == "error: no service answers at http://127.0.0.1:1; start one with `aimass up`, or log in elsewhere with `aimass login`\n"
    )


def test_every_command_has_an_example_and_json(aimass):
    from aimass.cli.app import command

    def leaves(group, path):
        for name, below in group.commands.items():
            if hasattr(below, "commands"):
                yield from leaves(below, [*path, name])
            else:
                yield [*path, name], below

    nouns = (
        "files",
        "datasets",
        "jobs",
        "models",
        "deploy",
        "deployments",
        "usage",
        "budgets",
        "keys",
        "projects",
        "engines",
        "login",
        "up",
    )
    found = {" ".join(path): verb for path, verb in leaves(command(), []) if path[0] in nouns}
    assert len(found) > 30
    assert [name for name, verb in found.items() if "--json" not in {option for param in verb.params for option in param.opts}] == []
    assert [name for name, verb in found.items() if not (verb.epilog or "").startswith(f"Example: aimass {name}")] == []

"""Where options and settings are found: `--help`, `--help-all` and `aimass settings`."""

import json
import re

import pytest

from aimass.cli.app import command
from aimass.cli.settings import table

COMMANDS = (["train"], ["compare"], ["jobs", "create"])


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("NO_COLOR", "1")


def declared(words):
    """The names of a command's options, as they are typed."""
    found = command()
    for word in words:
        found = found.commands[word]
    return {each.opts[0] for each in found.params if each.opts[0].startswith("--")}


def options_in(shown):
    return re.findall(r"^│ (?:\*  )?(--[a-z-]+) ", shown, re.MULTILINE)


@pytest.mark.parametrize("words", COMMANDS)
def test_the_ten_used_most_come_first_and_the_help_is_one_screen(aimass, words):
    outcome = aimass(*words, "--help")
    assert (outcome.status, outcome.err) == (0, "")
    shown = options_in(outcome.out)
    assert len(shown) == len(set(shown)) == 13
    assert shown[10:] == ["--json", "--help-all", "--help"]
    assert {"--workers", "--model", "--epochs", "--target"} < set(shown[:10])
    left = len(declared(words) - set(shown))
    assert f"{left} more options: aimass {' '.join(words)} --help-all" in outcome.out
    assert "aimass settings" in outcome.out
    assert len(outcome.out.splitlines()) < 50


@pytest.mark.parametrize("words", COMMANDS)
def test_all_of_it_has_every_option_once_and_every_setting(aimass, words):
    outcome = aimass(*words, "--help-all")
    assert (outcome.status, outcome.err) == (0, "")
    options, _, settings = outcome.out.partition("Settings, as")
    shown = options_in(options)
    assert sorted(shown) == sorted({*declared(words), "--help"})
    assert shown[:10] == options_in(aimass(*words, "--help").out)[:10]
    assert [name for name in table() if f" {name} " not in settings] == []


def test_the_help_of_a_command_with_few_options_shows_them_all(aimass):
    shown = aimass("jobs", "resume", "--help").out
    assert {*options_in(shown)} == {*declared(["jobs", "resume"]), "--help"}
    assert "aimass settings" in shown


def test_settings_are_looked_up(aimass):
    names = [entry["name"] for entry in json.loads(aimass("settings", "--json").out)["data"]]
    assert names == list(table())
    found = json.loads(aimass("settings", "pipeline", "micro-batches", "--json").out)["data"]
    assert [(entry["name"], entry["of"]) for entry in found] == [("strategy.micro_batches", "pipeline")]
    shown = aimass("settings", "clip.norm").out
    assert "clip.norm" in shown
    assert "the largest Euclidean norm" in shown
    assert "optimizer" not in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["clip.nrom"], "error: there is no setting 'clip.nrom'; did you mean 'clip.norm'? Known: adapter, batch_size"),
        (["pipeline", "clip.norm"], "error: no setting has 'clip.norm' beside the other words; give fewer\n"),
    ],
)
def test_what_is_not_found_says_so(aimass, words, message):
    outcome = aimass("settings", *words)
    assert outcome.status == 2
    assert outcome.err.startswith(message)

"""The two pages of concepts: every term has a name that exists, a command that can be given, and a page; in both languages alike."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from aimass.cli.app import app
from aimass.cli.settings import table
from aimass.models.family import FAMILIES
from aimass.optim.config import OptimizerConfig
from aimass.training.config import SHORTHANDS
from aimass.training.strategy import STRATEGIES

DOCS = Path(__file__).parents[1] / "docs"
PAGES = {"en": DOCS / "concepts.md", "zh": DOCS / "concepts.zh.md"}
KINDS = {"strategy": STRATEGIES, "strategies": STRATEGIES, "model": FAMILIES, "策略": STRATEGIES, "模型": FAMILIES}
PLANNED = {"not there yet", "尚未提供"}

TERMS = [
    "大模型",
    "网络部署",
    "自动训练",
    "预测引擎",
    "调度中心",
    "模型训练",
    "模型存储",
    "模型服务",
    "客户端侧",
    "服务端侧",
    "按需加载",
    "流式处理",
    "云端训练平台",
    "部署到终端",
    "计算集群",
    "作业调度器",
    "超参数搜索",
    "模型架构",
    "模型压缩",
    "健康监控",
    "高可用",
    "数据",
    "参数服务器",
    "异步并行SGD",
    "超级节点",
    "联邦学习",
    "增量式SGD",
    "数据切片",
    "模型切片",
    "迁移学习",
    "FTRL",
]


def rows_of(page):
    """(term, name, command, page) of every row that has a command."""
    found = re.findall(r"^\| (.+?) \| (.+?) \| (`.+?`|—) \| \[.+?\]\((.+?)\) \|$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return [(term, name, command.strip("`"), link) for term, name, command, link in found]


ROWS = [(language, *row) for language, page in PAGES.items() for row in rows_of(page)]


def named(cell):
    """The plugins that a cell names: (kind, name)."""
    for part in re.split(r"[;；]", cell):
        kind = re.match(r"\s*(\w+) ", part)
        for name in re.findall(r"`(\w+)`", part) if kind and kind[1] in KINDS else []:
            yield KINDS[kind[1]], name


@pytest.mark.parametrize(("language", "term", "name", "command", "page"), ROWS, ids=[f"{row[0]}-{row[1]}" for row in ROWS])
def test_a_term_leads_to_a_name_a_command_and_a_page(language, term, name, command, page):
    assert (DOCS / page).exists()
    assert [kind for kind, known in named(name) if known not in kind.own_names()] == []
    if any(planned == name for planned in PLANNED):
        assert command == "—"
        return
    program, *words = shlex.split(command)
    assert program == "aimass"
    asked = check_command(words)
    for option, kind in (("strategy", STRATEGIES), ("model", FAMILIES)):
        if option in asked and asked[option] != "auto":
            expected = [known for of, known in named(name) if of is kind]
            assert not expected or kind.canonical(asked[option]) in expected
    if asked.get("optimizer", "auto") != "auto":
        assert OptimizerConfig(name=asked["optimizer"]).name in name


def check_command(words):
    """Walk down the commands, and see that each option is one. Returns the options' values."""
    command = typer.main.get_command(app)
    rest = list(words)
    while rest and rest[0] in getattr(command, "commands", {}):
        command = command.commands[rest.pop(0)]
    assert not hasattr(command, "commands") or command.invoke_without_command, words
    known = {option for parameter in command.params for option in parameter.opts}
    settings = {f"--{name.replace('_', '-')}" for name in [*table(), *SHORTHANDS]}
    asked = {}
    for at, word in enumerate(rest):
        if word.startswith("--"):
            assert word in known or word.replace("_", "-") in settings, word
            asked[word[2:]] = rest[at + 1] if at + 1 < len(rest) else ""
    return asked


def test_both_pages_say_the_same():
    english, chinese = rows_of(PAGES["en"]), rows_of(PAGES["zh"])
    assert [link for *_, link in english] == [link for *_, link in chinese]
    pattern = re.compile(r"`([a-z_.]+)`")
    assert [pattern.findall(row[1]) for row in english] == [pattern.findall(row[1]) for row in chinese]
    for (*_, ours, _), (*_, theirs, _) in zip(english, chinese, strict=True):
        assert re.sub(r"--(strategy|model) \S+", "", ours) == re.sub(r"--(strategy|model) \S+", "", theirs)


def test_every_term_of_the_literature_is_there():
    terms = " ".join(term for term, *_ in rows_of(PAGES["zh"]))
    assert [term for term in TERMS if term not in terms] == []


@pytest.mark.parametrize("language", PAGES)
def test_every_name_and_alias_is_there(language):
    text = PAGES[language].read_text(encoding="utf-8")
    for kind in (STRATEGIES, FAMILIES):
        assert [alias for alias, name in kind.aliases().items() if f"`{alias}`" not in text.lower()] == []
        assert [name for name in kind.own_names() if f"`{name}`" not in text] == []

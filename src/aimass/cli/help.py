"""What the commands that train show of their many options: those used most, all of them, and `aimass settings` for the tree."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperArgument, TyperCommand

from aimass.cli.options import AsJson
from aimass.cli.output import print_json
from aimass.cli.settings import META, Setting, lift, table
from aimass.core.errors import UsageError, unknown_name

if TYPE_CHECKING:
    from collections.abc import Iterable

_ALL = "aimass.help"
MOST_USED, OUTPUT = "Used most", "Help and output"


class SettingsCommand(TyperCommand):
    """A command that takes every dotted setting as an option, beside those that it declares. They are left in `ctx.meta[META]`.

    Attributes:
        most_used: the names of the options that its help shows. `--help-all` shows all; with none named here, `--help` does.
    """

    most_used: tuple[str, ...] = ()
    _arranged: Sequence[Any] | None = None

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        kept, found = lift(args)
        ctx.meta[META] = found
        return super().parse_args(ctx, kept)

    def get_params(self, ctx: Any) -> list[Any]:
        return super().get_params(ctx) if self._arranged is None else list(self._arranged)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        declared = super().get_params(ctx)
        is_all = bool(ctx.meta.get(_ALL)) or not self.most_used
        self._arranged = arrange(declared, self.most_used, is_all=is_all)
        try:
            super().format_help(ctx, formatter)
        finally:
            self._arranged = None
        if is_all and self.most_used:
            print_settings(table().values())
        elif not is_all:
            left = len(declared) - len(arrange(declared, self.most_used, is_all=False))
            typer.echo(f" {left} more options: {ctx.command_path} --help-all")
        if not (is_all and self.most_used):
            typer.echo(" Every setting is an option too, such as --optimizer.weight_decay 0.01: aimass settings")
            typer.echo()


def with_most_used(*names: str) -> type[SettingsCommand]:
    """The class of a command whose help shows these options, in this order."""
    return type("SettingsCommand", (SettingsCommand,), {"most_used": names})


def arrange(declared: Sequence[Any], most_used: Sequence[str], *, is_all: bool) -> list[Any]:
    """The parameters of a command as its help shows them: arguments, the options used most, the others by what they are for.

    Args:
        declared: of the command.
        most_used: names of options.
        is_all: whether the others are shown too, beside those of help and output.
    """
    arguments = [each for each in declared if isinstance(each, TyperArgument)]
    by_name = {each.name: each for each in declared if each not in arguments}
    used = [_in_panel(by_name.pop(name), MOST_USED) for name in most_used]
    last = [_in_panel(each, OUTPUT) for each in by_name.values() if not each.rich_help_panel]
    return [*arguments, *used, *(each for each in by_name.values() if each.rich_help_panel and is_all), *last]


def _in_panel(option: Any, panel: str) -> Any:
    moved = copy(option)
    moved.rich_help_panel = panel
    return moved


def _show_all(context: typer.Context, wanted: bool) -> None:
    if wanted:
        context.meta[_ALL] = True
        typer.echo(context.get_help())
        raise typer.Exit


HelpAll = Annotated[
    bool, typer.Option("--help-all", callback=_show_all, is_eager=True, expose_value=False, help="Show every option and setting, and exit.")
]


def settings(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[WORD]...", help="Show those alone that are called so, or are of this.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Look up the settings of a training. Each is an option of train, compare and jobs create: --NAME VALUE."""
    found = matching(words or ())
    if json:
        names = ("name", "default", "of", "help")
        return print_json({"object": "list", "data": [{name: getattr(setting, name) for name in names} for setting in found]})
    print_settings(found)


def matching(words: Iterable[str]) -> list[Setting]:
    """The settings in whose names, plugins or explanations all words are found.

    Raises:
        UsageError: there are none.

    >>> [setting.name for setting in matching(["clip.norm"])]
    ['clip.norm']
    """
    found = list(table().values())
    for word in words:
        sought = word.lower().lstrip("-").replace("-", "_")
        left = [setting for setting in found if sought in f"{setting.name} {setting.of} {setting.help}".lower()]
        if not left and len(found) < len(table()):
            raise UsageError(f"no setting has {word!r} beside the other words; give fewer")
        if not left:
            raise unknown_name("setting", word, {setting.name.partition(".")[0] for setting in found}, also=table())
        found = left
    return found


def print_settings(shown: Iterable[Setting]) -> None:
    """A table of settings: their names, defaults, and what they are."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    rows = Table(title="Settings, as --NAME VALUE", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    rows.add_column("name", style="bold cyan", no_wrap=True)
    rows.add_column("default", overflow="fold")
    rows.add_column("what it is")
    for setting in shown:
        rows.add_row(setting.name, setting.default, f"{setting.of}: {setting.help}" if setting.of else setting.help)
    Console().print(rows, highlight=False, markup=False)

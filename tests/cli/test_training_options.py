from typing import Annotated

import typer
from typer.testing import CliRunner

from aimass.cli.options import AsJson
from aimass.cli.training_options import COLUMNS, OF_END, given_of, taking


def test_a_command_takes_more_options_than_it_declares_where_they_are_wanted_in_its_help():
    app, found = typer.Typer(add_completion=False), {}

    @app.command()
    @taking(COLUMNS, before="name")
    @taking(OF_END, before="json")
    def make(context: typer.Context, data: Annotated[str, typer.Argument()], name: str = "none", json: AsJson = False):
        found.update(given_of(context), data=data, name=name)

    assert CliRunner().invoke(app, ["digits", "--epochs", "3", "--schema", "a=numeric", "--no-stratify", "--name", "n"]).exit_code == 0
    assert found == {"data": "digits", "epochs": 3, "schema": ["a=numeric"], "stratify": False, "name": "n", "json": False}
    assert [option.name for option in typer.main.get_command(app).params] == ["data", *COLUMNS, "name", *OF_END, "json"]

"""`aimass up`: the service, from here."""

from __future__ import annotations

import json as jsons
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aimass.core.errors import AimassError

if TYPE_CHECKING:
    from aimass.service.serve import Started

ANSWERS, WORK, KEPT = "Where it answers", "What it may use", "Where things are kept"


def _option(panel: str, text: str, metavar: str | None = None, *names: str) -> Any:
    return typer.Option(*names, help=text, metavar=metavar, rich_help_panel=panel, show_default=False)


def up(
    host: Annotated[str | None, _option(ANSWERS, "The address to listen on; by default 127.0.0.1, this machine alone.")] = None,
    port: Annotated[int | None, _option(ANSWERS, "The port; by default 8321, and 0 takes a free one.")] = None,
    engines: Annotated[int | None, _option(WORK, "How many processes may answer predictions; by default 1.")] = None,
    engine_memory: Annotated[str | None, _option(WORK, "The models that one of them may hold; by default 2GB.", "SIZE")] = None,
    cpus: Annotated[float | None, _option(WORK, "The cores that jobs may use together; by default all.")] = None,
    memory: Annotated[str | None, _option(WORK, "The memory that jobs may use together; by default 80% of it.", "SIZE")] = None,
    max_upload: Annotated[str | None, _option(WORK, "The largest file that is taken; by default 10GB.", "SIZE")] = None,
    home: Annotated[Path | None, _option(KEPT, "The folder for all state; by default AIMASS_HOME, or ~/.aimass.", "FOLDER")] = None,
    database_url: Annotated[str | None, _option(KEPT, "postgresql://…; by default a SQLite file in the home.", "URL")] = None,
    store_url: Annotated[str | None, _option(KEPT, "A folder, or s3://bucket/prefix; by default a folder in the home.", "URL")] = None,
    stop_jobs: Annotated[bool, typer.Option("--stop-jobs", help="End running jobs with the service; by default they go on.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one line of JSON when it answers.")] = False,
) -> None:
    """Start the service, and run it until Ctrl-C. Every setting may also be an AIMASS_ variable, or stand in aimass.toml."""
    from aimass.service.serve import serve
    from aimass.service.settings import read_settings

    flags: dict[str, Any] = {"host": host, "port": port, "engines": engines, "engine_memory": engine_memory, "cpus": cpus, "memory": memory}
    flags |= {"max_upload": max_upload, "home": home, "database_url": database_url, "store_url": store_url}
    flags |= {"stop_jobs": stop_jobs or None}
    serve(read_settings(flags), lambda started: _announce(started, as_json=json))
    if not json:
        typer.echo("stopped" if stop_jobs else "stopped; jobs that were running go on, and the next `aimass up` takes them up")


def _announce(started: Started, *, as_json: bool) -> None:
    from aimass.client.address import keep_own_login

    try:
        note = keep_own_login(started.home, started.url, started.admin_key)
    except AimassError as error:
        note = f"the login could not be kept: {error}"
    if as_json:
        key = {"key": started.admin_key} if started.admin_key else {}
        line = jsons.dumps({"url": started.url, **key, "pid": started.pid, "home": str(started.home)})
    else:
        line = "\n".join(_words(started, note))
    typer.echo(line)


def _words(started: Started, note: str | None) -> list[str]:
    from aimass.core.files import home

    words = [f"AI Mass answers at {started.url}   (its documents: {started.url}/docs)"]
    if started.admin_key:
        words.append(f"admin key, shown this once: {started.admin_key}")
    if note:
        words.append(note)
    elsewhere = "" if started.home == home().absolute() else f"AIMASS_HOME={shlex.quote(str(started.home))} "
    words.append(f"next, in another terminal: {elsewhere}aimass jobs create digits --epochs 10 --follow")
    words.append("Ctrl-C stops it.")
    return words

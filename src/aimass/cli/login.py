"""`aimass login`: which service the commands talk to."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from aimass.cli.options import AsJson
from aimass.cli.output import print_json
from aimass.core.errors import NotFound, UsageError


def login(
    url: Annotated[
        str | None, typer.Argument(metavar="URL", help="The service, such as http://127.0.0.1:8321.", show_default=False)
    ] = None,
    key: Annotated[str | None, typer.Option(metavar="KEY", help="The key; if it is not given it is asked for.", show_default=False)] = None,
    show: Annotated[bool, typer.Option("--show", help="Say which service this is logged in to, and leave.")] = False,
    json: AsJson = False,
) -> None:
    """Log in to a service: the key is tried, and kept in a file that you alone can read."""
    if show or url is None:
        return _show(as_json=json)
    from aimass.client import Client
    from aimass.client.address import Address, find_address, save_login

    address = find_address(url, key or _ask(url))
    address = Address(url=address.url, key=address.key)
    with Client(address.url, address.key, max_retries=1) as client:
        list(client.served(limit=1))
    path = save_login(address)
    if json:
        return print_json({"url": address.url, "file": str(path)})
    typer.echo(f"logged in to {address.url}; the key is kept in {path}")


def _ask(url: str) -> str:
    """The key, from a terminal without showing it, or from the first line of a pipe."""
    key: str = typer.prompt(f"key for {url}", hide_input=True, err=True) if sys.stdin.isatty() else sys.stdin.readline()
    if not key.strip():
        raise UsageError("there is no key; give it with --key, or on standard input")
    return key.strip()


def _show(*, as_json: bool) -> None:
    import os

    from aimass.client.address import find_address, login_path, read_login

    if read_login() is None and not os.environ.get("AIMASS_URL"):
        raise NotFound("nobody is logged in here; start a service with `aimass up`, or log in to one with `aimass login URL`")
    address = find_address()
    where = "AIMASS_URL" if os.environ.get("AIMASS_URL") else str(login_path())
    if as_json:
        return print_json({"url": address.url, "from": where})
    typer.echo(f"{address.url}   (from {where})")

"""`aimass generate`: how a language model goes on with a text."""

from __future__ import annotations

import sys
import unicodedata
from base64 import b64encode
from codecs import getincrementaldecoder
from typing import Annotated

import typer

from aimass.cli.local import load_here
from aimass.cli.options import AsJson
from aimass.cli.output import print_json
from aimass.core.errors import UsageError


def generate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A saved model's folder, or a run.")],
    prompt: Annotated[str, typer.Argument(metavar="TEXT", help="What to go on with; - reads it from standard input.")] = "",
    max_bytes: Annotated[int, typer.Option(metavar="N", help="How many bytes to add at most.")] = 200,
    temperature: Annotated[float, typer.Option(help="How daring it is; 0 always takes the likeliest byte.")] = 0.8,
    top_k: Annotated[int | None, typer.Option(metavar="N", help="Draw among so many of the likeliest bytes alone.")] = None,
    seed: Annotated[int, typer.Option(help="The same one gives the same text.")] = 0,
    raw: Annotated[
        bool, typer.Option("--raw", help="Write the bytes as they are, and nothing else; else what is no text is replaced.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Let a language model go on with a text. The text and what follows it are printed."""
    if raw and json:
        raise UsageError("--raw and --json are two forms of one answer; give one of them (the JSON has the bytes, too, as base64)")
    given = sys.stdin.buffer.read() if prompt == "-" else prompt.encode("utf-8", "surrogateescape")
    out = None if json else Raw(given) if raw else Shown(given)
    added = load_here(model).generate_bytes(
        given, max_bytes, temperature=temperature, top_k=top_k, seed=seed, tell=out.add if out else None
    )
    if out is not None:
        return out.end()
    texts = [symbols.decode("utf-8", "replace") for symbols in (given, added)]
    print_json({"prompt": texts[0], "text": texts[1], "base64": b64encode(added).decode("ascii")})


class Raw:
    """Bytes on standard output, as they are.

    Args:
        start: the first of them, which wait for others: a model that cannot go on shall print nothing.
    """

    def __init__(self, start: bytes) -> None:
        self._waiting = start

    def add(self, symbols: bytes) -> None:
        """Write some more."""
        sys.stdout.buffer.write(self._waiting + symbols)
        self._waiting = b""

    def end(self) -> None:
        """There are no more."""
        self.add(b"")
        sys.stdout.buffer.flush()


class Shown:
    """Bytes on standard output as text. What is no UTF-8 is U+FFFD, and half a character waits for its other half.

    A terminal has each character as soon as it is whole, and none that would command it: a model may write any byte.

    Args:
        start: the first of them, which wait for others: a model that cannot go on shall print nothing.
    """

    def __init__(self, start: bytes) -> None:
        self._waiting = start
        self._decoder = getincrementaldecoder("utf-8")("replace")
        self._is_terminal = sys.stdout.isatty()

    def add(self, symbols: bytes, *, final: bool = False) -> None:
        """Write what is whole of these and of those before."""
        text = self._decoder.decode(self._waiting + symbols, final)
        self._waiting = b""
        sys.stdout.write(harmless(text) if self._is_terminal else text)
        if self._is_terminal:
            sys.stdout.flush()

    def end(self) -> None:
        """There are no more: what is not whole never will be."""
        self.add(b"", final=True)
        typer.echo()


def harmless(text: str) -> str:
    """A text with U+FFFD for what moves a cursor, colours or rings; lines and tabs stay.

    >>> harmless("one\\ttwo\\n\\x1b[2J")
    'one\\ttwo\\n�[2J'
    """
    return "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(each) == "Cc" and each not in "\n\t" else each for each in text)

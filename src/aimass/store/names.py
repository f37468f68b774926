"""What models, aliases and the files of a version may be called. Names stand in addresses, and paths on disks."""

from __future__ import annotations

import re

from aimass.core.errors import UsageError

_NAME = re.compile(r"\w[\w.-]*")
_NAME_LENGTH, _ALIAS_LENGTH, _PATH_LENGTH = 128, 64, 512
_LETTERS = "use letters, digits, '.', '_' and '-', the first no '.' or '-'"


def check_name(name: str) -> None:
    """See that a model may be called so.

    Raises:
        UsageError: it may not, and how it may.

    >>> check_name("../x")
    Traceback (most recent call last):
    aimass.core.errors.UsageError: '../x' cannot name a model; use letters, digits, '.', '_' and '-', the first no '.' or '-', 128 at most
    """
    if not _NAME.fullmatch(name) or len(name) > _NAME_LENGTH:
        raise UsageError(f"{name[:_NAME_LENGTH]!r} cannot name a model; {_LETTERS}, {_NAME_LENGTH} at most")


def fitting_name(text: str) -> str:
    """The nearest name that a model may have.

    >>> fitting_name("Sales (2024).csv"), fitting_name("...")
    ('Sales-2024-.csv', 'model')
    """
    return re.sub(r"[^\w.-]+", "-", text).lstrip(".-")[:_NAME_LENGTH] or "model"


def check_alias(alias: str) -> None:
    """See that an alias may be called so: like a model, and not like a number.

    Raises:
        UsageError: it may not, and how it may.
    """
    if not _NAME.fullmatch(alias) or len(alias) > _ALIAS_LENGTH or alias.isdecimal():
        raise UsageError(f"{alias[:_ALIAS_LENGTH]!r} cannot be an alias; {_LETTERS}, {_ALIAS_LENGTH} at most, and not digits alone")


def check_path(path: str) -> None:
    """See that a file of a version may lie there: its path is put below a folder when the version is written to a disk.

    Raises:
        UsageError: it may not, and how it may.

    >>> check_path("../model.json")
    Traceback (most recent call last):
    aimass.core.errors.UsageError: '../model.json' cannot be the path of a model's file; give one such as model.json or parts/a.safetensors
    """
    plain = not any(part == "" or part.startswith(".") for part in path.split("/"))
    if not plain or len(path) > _PATH_LENGTH or any(character in "\\:" or not character.isprintable() for character in path):
        raise UsageError(
            f"{path[:_PATH_LENGTH]!r} cannot be the path of a model's file; give one such as model.json or parts/a.safetensors"
        )

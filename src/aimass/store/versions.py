"""What the registry hands out: models and versions as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row

from aimass.store.upload import Blob


@dataclass(frozen=True, kw_only=True)
class RegisteredModel:
    """A named model: its newest number, and where its aliases point."""

    id: str
    project: str
    name: str
    created: float
    newest: int
    aliases: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Version:
    """One numbered version of a model. Everything but its aliases stays as it is for ever."""

    id: str
    project: str
    model: str
    number: int
    created: float
    files: dict[str, Blob]
    bytes: int
    signature: dict[str, Any]
    card: dict[str, Any]
    lineage: dict[str, Any]
    aliases: tuple[str, ...] = ()


def model_of(row: Row[Any], named: Mapping[str, int]) -> RegisteredModel:
    """A model as its row has it.

    Args:
        row: of `models`.
        named: its aliases, and the numbers they point at.
    """
    return RegisteredModel(id=row.id, project=row.project_id, name=row.name, created=row.created, newest=row.newest, aliases=dict(named))


def version_of(row: Row[Any], named: Mapping[str, int]) -> Version:
    """A version as its row has it.

    Args:
        row: of `versions`, with the `model` name and the `project_id` of its model.
        named: the aliases of the model, and the numbers they point at.
    """
    return Version(
        id=row.id,
        project=row.project_id,
        model=row.model,
        number=row.number,
        created=row.created,
        files={path: Blob(about["sha256"], about["bytes"]) for path, about in row.files.items()},
        bytes=row.bytes,
        signature=row.signature,
        card=row.card,
        lineage=row.lineage,
        aliases=tuple(alias for alias, number in named.items() if number == row.number),
    )

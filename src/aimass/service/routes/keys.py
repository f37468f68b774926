"""Keys: made, listed and revoked by administrators. The secret is shown once."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from aimass.service.auth import Admin
from aimass.service.shapes import Asked, Here, ListOf, Paging, failures, listing, new_router

router = new_router("projects and keys")

Role = Literal["inference", "member", "admin"]


class Key(BaseModel):
    """A key without its secret."""

    id: str
    object: Literal["key"] = "key"
    name: str
    role: Role
    project: str
    created_at: int
    revoked_at: int | None = None


class MadeKey(Key):
    """A key that was just made. `key` is what clients send; it is null where a repeated request is answered again."""

    key: str | None


class NewKey(Asked):
    """What a key is for.

    `inference` may predict and list models, `member` do all of a project's work, `admin` manage the service.
    """

    name: str = Field(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]*$")
    role: Role = "member"
    project: str | None = Field(None, max_length=128, pattern=r"^[^\x00-\x1f\x7f]*$", description="id or name; the caller's if not given")


@router.post("/v1/keys", response_model=MadeKey, responses=failures(404, 409, 415))
def create(asked: NewKey, caller: Admin, platform: Here) -> Any:
    """Make a key. The answer is the only place where its secret ever stands."""
    made = platform.keys.create(asked.project or caller.project, asked.name, asked.role)
    platform.changes.look()
    return made


@router.get("/v1/keys", response_model=ListOf[Key], responses=failures())
def list_keys(caller: Admin, platform: Here, page: Paging) -> Any:
    """The keys of all projects, newest first, revoked ones too."""
    return listing(platform.keys.listed(page))


@router.delete("/v1/keys/{key_id}", response_model=Key, responses=failures(404))
def revoke(key_id: str, caller: Admin, platform: Here) -> Any:
    """Revoke a key. Every service on this database refuses it within a second."""
    revoked = platform.keys.revoke(key_id)
    platform.changes.look()
    return revoked

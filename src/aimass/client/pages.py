"""Lists that come page by page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from aimass.client.answers import document
from aimass.client.call import Call, Listing

if TYPE_CHECKING:
    import httpx

R = TypeVar("R")
_LARGEST = 100


@dataclass(frozen=True, kw_only=True)
class Found(Generic[R]):
    """The entries of a page, and the page behind it."""

    entries: Sequence[R]
    next: Page[R] | None


@dataclass(frozen=True, kw_only=True)
class Page(Generic[R]):
    """A page of a list: how many entries came before it, and after which id it begins."""

    listing: Listing[R]
    before: int = 0
    after: str | None = None

    @property
    def call(self) -> Call[Found[R]]:
        """The call that asks for it."""
        left = None if self.listing.limit is None else self.listing.limit - self.before
        request = self.listing.request
        query = {**request.query, "limit": _LARGEST if left is None else max(1, min(_LARGEST, left))}
        if self.after is not None:
            query["after"] = self.after
        return Call(request=replace(request, query=query), read=self._read)

    def _read(self, response: httpx.Response) -> Found[R]:
        raw: dict[str, Any] = document(response)
        entries = raw.get("data") or []
        taken = self.before + len(entries)
        is_enough = self.listing.limit is not None and taken >= self.listing.limit
        last = raw.get("last_id") or (entries[-1].get("id") if entries else None)
        is_last = not (raw.get("has_more") and entries and last and last != self.after)
        following = None if is_enough or is_last else Page(listing=self.listing, before=taken, after=str(last))
        return Found(entries=[self.listing.read(entry) for entry in entries], next=following)


def first_page(listing: Listing[R]) -> Page[R] | None:
    """Where a list begins; None where nothing of it is wanted."""
    return None if listing.limit is not None and listing.limit <= 0 else Page(listing=listing, after=listing.request.query.get("after"))

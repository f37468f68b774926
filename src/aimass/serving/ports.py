"""What the gateway needs of others: who calls, which model a name means, and who writes the bill.

The service and billing satisfy these by shape; serving imports neither. Everything but the two awaitables of `Meter` is synchronous,
answers from memory and is called on the event loop: a few microseconds each.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a key stands for.

    `project` is the id of the project that is acted in and charged, `key` the public id of the key, `role` one of inference, member, admin.
    """

    project: str
    key: str
    role: str


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """The model version that a name means just now, with all that an engine needs to answer for it.

    `name` is the deployment's name, which the answer carries and the bill shows; `model` the model's in the registry; `bytes` the size of
    its files, a first guess of what it takes in memory; `settings` the deployment's (`latency_ms`, `max_batch`). The folder is there
    before the target is. The directory hands out one and the same object until the deployment changes.
    """

    project: str
    name: str
    model: str
    version: int
    version_id: str
    folder: Path
    bytes: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    signature: Mapping[str, Any] = field(default_factory=dict)


class Directory(Protocol):
    """Keys and deployments, from memory."""

    def caller(self, headers: Mapping[bytes, bytes]) -> Caller:
        """Who calls.

        Args:
            headers: the request's headers as ASGI has them: names in lower case, bytes.

        Raises:
            Unauthorized: no key, or an unknown or revoked one.
            Forbidden: the key may not act in the project that the headers name.
        """
        ...

    def target(self, caller: Caller, name: str, version: str | None) -> Target:
        """The version that answers under a deployment's name, or the numbered version of it (which must be deployed).

        Raises:
            NotFound: the caller's project has no such deployment; the sentence names those it has.
            Unavailable: the deployment is there and its files are not yet.
        """
        ...


class Meter(Protocol):
    """Quota before the answer, the usage record before the first byte of it leaves."""

    def admit(self, project: str, item_cost_hint: int) -> Awaitable[None] | None:
        """Whether the project may spend on.

        Args:
            project: the project that will be charged.
            item_cost_hint: the rows expected; at least 1.

        Returns:
            None to go on at once, or what to await until a slice of the budget is here.

        Raises:
            QuotaExceeded: the budget is used up; the awaitable raises it too.
        """
        ...

    def reserve(self, project: str, amount: int) -> Awaitable[None]:
        """Top up the slice so that it covers a charge of `amount` rows; what to await after `charge` found it short.

        Raises:
            QuotaExceeded: the budget has no more.
        """
        ...

    def charge(
        self, *, project: str, key: str, model: str, version: int, rows: int, request_id: str, compute_us: int, event_id: str | None = None
    ) -> int:
        """Record the answer; the bytes are in the log's file when this returns.

        Returns:
            The ticket for `sent` or `credit`.

        Raises:
            QuotaExceeded: the slice does not cover it; `reserve`, then try once more.
        """
        ...

    def sent(self, ticket: int) -> None:
        """The last byte of the answer was handed to the transport."""
        ...

    def credit(self, ticket: int) -> None:
        """The client went before the last byte: nothing is to be paid."""
        ...

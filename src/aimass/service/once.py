"""`Idempotency-Key`: the same request under the same key is done once, and answered as often as it is asked.

Before a request is done its key is written down with a hash of the request and a lease; afterwards the answer is put beside it. A second
one finds the answer, or that the first is under way, or that the key stands for another request. What failed, and may go better the
next time, is forgotten.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, select, update
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from aimass.core.errors import AimassError, Conflict, UsageError
from aimass.service import errors
from aimass.service.auth import Keys
from aimass.service.door import App, Message, Receive, Send, is_form
from aimass.service.uploads import Received
from aimass.store.database import Database
from aimass.store.tables import idempotency

HEADER = b"idempotency-key"
_REPLAYED = {"idempotent-replayed": "true"}
_LEASE_S = 300.0  # longer than any of these requests takes
_KEPT_S = 86400.0
_SANE = re.compile(rb"[\x21-\x7e]{1,255}")
_NOT_KEPT = frozenset({401, 403, 408, 409, 429})


@dataclass(frozen=True)
class Stored:
    """An answer that was given."""

    status: int
    body: bytes
    headers: dict[str, str] | None = None

    def response(self) -> Response:
        """The same answer again, marked as such."""
        return Response(self.body, self.status, {"content-type": "application/json", **(self.headers or {}), **_REPLAYED})


@dataclass(frozen=True)
class Claim:
    """The right to do a request, under a key of a project."""

    project: str
    key: str
    request_hash: str


class Answers:
    """What was answered under which key. A day's are kept."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(self, claim: Claim) -> Stored | None:
        """Take the right to do a request.

        Returns:
            the answer, where it was done already; None where the caller is to do it.

        Raises:
            Conflict: it is being done, or the key stands for another request.
        """
        now = time.time()
        fresh = {"request_hash": claim.request_hash, "created": now, "lease_until": now + _LEASE_S}
        with self._database.write() as connection:
            connection.execute(delete(idempotency).where(idempotency.c.created < now - _KEPT_S))
            statement = self._database.insert(idempotency).values(project_id=claim.project, key=claim.key, **fresh)
            if connection.execute(statement.on_conflict_do_nothing().returning(idempotency.c.key)).scalar() is not None:
                return None
            row = connection.execute(select(idempotency).where(*_is(claim))).one()
            if row.request_hash != claim.request_hash:
                raise Conflict(f"the Idempotency-Key {claim.key!r} was used for another request; take a new one for each")
            if row.status is not None:
                return Stored(row.status, row.body, row.headers)
            if row.lease_until > now:
                error = Conflict("the same request is under way; ask again in a moment, under the same Idempotency-Key")
                error.retry_after_s = 1.0
                raise error
            connection.execute(update(idempotency).where(*_is(claim)).values(**fresh))
            return None

    def keep(self, connection: Connection, claim: Claim, answer: Stored) -> None:
        """Put the answer beside the key, in the caller's transaction.

        Raises:
            Conflict: another has answered meanwhile, since this one took longer than its lease.
        """
        values = {"status": answer.status, "body": answer.body, "headers": answer.headers}
        kept = connection.execute(update(idempotency).where(*_is(claim), idempotency.c.status.is_(None)).values(values))
        if kept.rowcount != 1:
            raise Conflict("the same request was answered meanwhile; ask again, under the same Idempotency-Key")

    def forget(self, claim: Claim) -> None:
        """Give the key back: what it was used for was not done."""
        with self._database.write() as connection:
            connection.execute(delete(idempotency).where(*_is(claim), idempotency.c.status.is_(None)))

    def do(self, claim: Claim | None, work: Callable[[], dict[str, Any]]) -> dict[str, Any] | Response:
        """Do a request once.

        Args:
            claim: the right to do it; None where it carries no key.
            work: gives the answer.
        """
        if claim is None:
            return work()
        stored = self.claim(claim)
        if stored is not None:
            return stored.response()
        try:
            answer = work()
        except BaseException:
            self.forget(claim)
            raise
        self.settle(claim, 200, json.dumps(answer).encode())
        return answer

    def settle(self, claim: Claim, status: int, body: bytes) -> None:
        """Keep an answer, or forget the request where it may go better the next time."""
        if status >= 500 or status in _NOT_KEPT:
            self.forget(claim)
            return
        with self._database.write() as connection:
            self.keep(connection, claim, Stored(status, body))


def _is(claim: Claim) -> tuple[Any, Any]:
    return idempotency.c.project_id == claim.project, idempotency.c.key == claim.key


def key_of(headers: Mapping[bytes, bytes]) -> str | None:
    """The key that a request carries.

    Raises:
        UsageError: it is no sane one.
    """
    given = headers.get(HEADER)
    if given is None:
        return None
    if not _SANE.fullmatch(given):
        raise UsageError("an Idempotency-Key has 1 to 255 printable characters without spaces; a UUID does well")
    return given.decode()


def claim_of(project: str, key: str, *said: bytes) -> Claim:
    """A claim to a request, told apart from others by what it said."""
    return Claim(project, key, hashlib.sha256(b"\n".join(said)).hexdigest())


def claim_of_form(headers: Mapping[bytes, bytes], project: str, path: str, form: Received) -> Claim | None:
    """The claim of a request that brought a form, where it carries a key. The bytes between its parts do not count."""
    key = key_of(headers)
    if key is None:
        return None
    files = [[part, label, blob.sha256] for part, label, blob in form.files]
    return claim_of(project, key, path.encode(), json.dumps([sorted(form.fields.items()), files]).encode())


class Once:
    """Stands before the routes: POST requests under /v1 with a key and a JSON body are done once.

    Forms and predictions see to it themselves: a form's bytes are only known by what was received, and a prediction is charged in the
    transaction that keeps its answer.
    """

    def __init__(self, app: App, answers: Answers, keys: Keys) -> None:
        self._app, self._answers, self._keys = app, answers, keys

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Take one request."""
        if not _is_for_once(scope):
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        try:
            body = await _whole_body(receive)
            key = key_of(headers) or ""
            claim = claim_of(self._keys.caller(headers).project, key, scope["path"].encode(), scope["query_string"], body)
            stored = await asyncio.to_thread(self._answers.claim, claim)
        except ClientDisconnect:  # what came is not the request, and nobody waits for an answer
            return
        except HTTPException as error:
            await errors.refusal(error)(scope, receive, send)
            return
        except AimassError as error:
            await errors.answer(error)(scope, receive, send)
            return
        if stored is not None:
            await stored.response()(scope, receive, send)
            return
        await self._do(claim, body, scope, receive, send)

    async def _do(self, claim: Claim, body: bytes, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        sent: list[Message] = []
        given = False

        async def receive_again() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def note(message: Message) -> None:
            sent.append(message)

        status, answer = 500, b""
        try:
            await self._app(scope, receive_again, note)
            status = sent[0]["status"]
            answer = b"".join(message.get("body", b"") for message in sent[1:])
        finally:
            try:
                await asyncio.to_thread(self._answers.settle, claim, status, _without_secret(scope["path"], answer))
            except AimassError as error:
                await errors.answer(error)(scope, receive, send)
                sent.clear()
        for message in sent:
            await send(message)


def _is_for_once(scope: MutableMapping[str, Any]) -> bool:
    if scope["type"] != "http" or scope["method"] != "POST" or not scope["path"].startswith("/v1/"):
        return False
    headers = dict(scope["headers"])
    return HEADER in headers and not is_form(headers) and not scope["path"].endswith(":predict")


async def _whole_body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientDisconnect
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _without_secret(path: str, answer: bytes) -> bytes:
    """A key's secret is shown once and kept nowhere, not even here."""
    if path != "/v1/keys" or not answer:
        return answer
    told = json.loads(answer)
    return json.dumps({**told, "key": None} if "key" in told else told).encode()

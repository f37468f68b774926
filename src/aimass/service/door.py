"""The door: what every request passes before the routes see it, and every answer on its way out.

It gives each request an id, checks the key before a body is read, bounds the body and the wait for it, logs a line, and turns what nobody
caught into a 500 that tells nothing.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response

from aimass.core.errors import AimassError, UsageError
from aimass.core.ids import new_id
from aimass.service import errors
from aimass.service.auth import Keys
from aimass.service.settings import ServiceSettings

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_SANE_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DRAIN_S, _DRAIN_BYTES = 2.0, 32_000_000  # what is read of a body that nobody wants, so that its sender can read the answer
_NEED_A_KEY = ("/v1/", "/v2/models/", "/v2/repository/")
_log = logging.getLogger("aimass.service")


class Door:
    """Stands before an ASGI app.

    Args:
        app: what is behind it.
        keys: who may come in.
        settings: the limits.
        leaving: is set when the service leaves; answers that would go on for ever end then.
    """

    def __init__(self, app: App, keys: Keys, settings: ServiceSettings, leaving: asyncio.Event) -> None:
        self._app, self._keys, self._settings, self._leaving = app, keys, settings, leaving

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Take one request; other scopes go on as they are."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        passage = _Passage(scope, receive, send, self._settings, self._leaving)
        started = time.perf_counter()
        try:
            refusal = self._refusal(scope, passage.headers)
            if refusal is not None:
                await refusal(scope, passage.receive, passage.send)
            else:
                await self._app(scope, passage.receive, passage.send)
        except Exception as error:  # noqa: BLE001 - the last one to catch it: logged whole, answered without it
            _log.error("unexpected error", exc_info=error, extra={"request_id": passage.id, "path": scope["path"]})
            if passage.status is None:
                await errors.unexpected()(scope, passage.receive, passage.send)
        finally:
            fields = {"request_id": passage.id, "method": scope["method"], "path": scope["path"], "status": passage.status}
            _log.info("request", extra={**fields, "ms": round((time.perf_counter() - started) * 1e3, 1)})

    def _refusal(self, scope: MutableMapping[str, Any], headers: dict[bytes, bytes]) -> Response | None:
        """Why a request is turned away before its body is read."""
        try:
            if _CONTROL.search(scope["path"]) or re.search(rb"%(0[0-9a-fA-F]|1[0-9a-fA-F]|7[fF])", scope["query_string"]):
                raise UsageError("the address has a control character in it; leave it out")
            if scope["path"].startswith(_NEED_A_KEY):
                self._keys.caller(headers)
        except AimassError as error:
            return errors.answer(error)
        return None


class _Passage:
    """One request's way in and out."""

    def __init__(
        self, scope: MutableMapping[str, Any], receive: Receive, send: Send, settings: ServiceSettings, leaving: asyncio.Event
    ) -> None:
        self._receive, self._send, self._settings, self._leaving = receive, send, settings, leaving
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        given = self.headers.get(b"x-request-id", b"")
        self.id = given.decode() if _SANE_ID.fullmatch(given) else new_id("req")
        scope.setdefault("state", {})["request_id"] = self.id
        self.status: int | None = None
        self._size_bytes, self._all_read, self._streams = 0, False, False
        self._limit_bytes: int = settings.max_upload if self._is_upload(scope["path"]) else settings.max_body

    def _is_upload(self, path: str) -> bool:
        """Whether the body goes to the store as it arrives; any other is held in memory."""
        return is_form(self.headers) and (path == "/v1/files" or (path.startswith("/v1/registry/") and path.endswith("/versions")))

    async def receive(self) -> Message:
        """The next part of the body, within the limits of size and time; afterwards the news that the client or the service leaves."""
        if self._all_read:
            return await self._receive_end()
        if self._size_bytes == 0 and int(self.headers.get(b"content-length", b"0")) > self._limit_bytes + 65536:
            raise _too_large(self._limit_bytes)
        try:
            async with asyncio.timeout(self._settings.body_timeout):
                message = await self._receive()
        except TimeoutError:
            waited = self._settings.body_timeout
            raise HTTPException(408, f"no more of the body came for {waited:g} s; send it whole, without such pauses") from None
        self._all_read = message["type"] != "http.request" or not message.get("more_body", False)
        self._size_bytes += len(message.get("body", b""))
        if self._size_bytes > self._limit_bytes + 65536:  # a form's own lines are no part of the file
            raise _too_large(self._limit_bytes)
        return message

    async def _receive_end(self) -> Message:
        gone = asyncio.ensure_future(self._receive())
        leaving = asyncio.ensure_future(self._leaving.wait())
        try:
            await asyncio.wait((gone, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not gone.done() and self._streams:
                return {"type": "http.disconnect"}
            return await gone
        finally:
            gone.cancel()
            leaving.cancel()

    async def send(self, message: Message) -> None:
        """A part of the answer, with the request's id; before its end, what the client still sends is taken from it."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message.get("headers", []), (b"x-request-id", self.id.encode())]
            self._streams = any(name == b"content-type" and value.startswith(b"text/event-stream") for name, value in headers)
            if not self._all_read and self._has_body():
                headers.append((b"connection", b"close"))
            message = {**message, "headers": headers}
        elif message["type"] == "http.response.body" and not message.get("more_body", False) and not self._all_read and self._has_body():
            await self._send({**message, "more_body": True})
            await self._drain()
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await self._send(message)

    def _has_body(self) -> bool:
        return self.headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in self.headers

    async def _drain(self) -> None:
        """Read on for a moment: a connection that is closed over unread bytes may take the answer with it."""
        left = _DRAIN_BYTES
        try:
            async with asyncio.timeout(_DRAIN_S):
                while left > 0:
                    message = await self._receive()
                    left -= len(message.get("body", b""))
                    if message["type"] != "http.request" or not message.get("more_body", False):
                        return
        except TimeoutError:
            return


def is_form(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a request brings a form.

    >>> is_form({b"content-type": b"Multipart/Form-Data; boundary=x"})
    True
    """
    return headers.get(b"content-type", b"").lower().startswith(b"multipart/")


def _too_large(limit_bytes: int) -> HTTPException:
    return HTTPException(
        413, f"the request is larger than the {limit_bytes:,} bytes that are taken in; send less, or raise the service's limit"
    )

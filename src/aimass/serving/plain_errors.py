"""Errors as the Open Inference Protocol has them: `{"error": "a sentence"}`, where the rest of the API has an object.

Its clients put the value into a text of their own, which an object would break. The code stands beside it, for programs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[None]]


class PlainErrors:
    """An ASGI app whose errors under `/v2` are plain. Answers that are none pass untouched.

    Args:
        app: what answers.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and scope["path"].startswith("/v2"):
            send = _Plain(send)
        await self._app(scope, receive, send)


class _Plain:
    """Holds an error back until its body is whole, and sends it in the other shape."""

    def __init__(self, send: Send) -> None:
        self._send, self._body = send, b""
        self._start: Message | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] >= 400:
            self._start = message
        elif self._start is None:
            await self._send(message)
        else:
            self._body += message.get("body", b"")
            if not message.get("more_body", False):
                body = plain(self._body)
                headers = [(name, value) for name, value in self._start["headers"] if name.lower() != b"content-length"]
                await self._send({**self._start, "headers": [*headers, (b"content-length", b"%d" % len(body))]})
                await self._send({"type": "http.response.body", "body": body})


def plain(body: bytes) -> bytes:
    """The body of an error of the API in the protocol's shape; any other body as it is.

    >>> plain(b'{"error": {"message": "there is no model", "type": "x", "param": null, "code": "not_found"}}')
    b'{"error":"there is no model","code":"not_found"}'
    """
    try:
        error = msgspec.json.decode(body)["error"]
        return msgspec.json.encode({"error": error["message"], "code": error["code"]})
    except (msgspec.DecodeError, KeyError, TypeError):
        return body

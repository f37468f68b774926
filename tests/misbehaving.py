"""An HTTP server that does as each test says: it answers, delays, turns away, or lets the connection drop."""

import asyncio
import json
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol


@dataclass
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    query: str
    headers: dict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


@dataclass
class Answer:
    """What is sent back. `cut` bytes of the body are sent at most, and then the connection is dropped."""

    body: object = None
    status: int = 200
    headers: dict = field(default_factory=dict)
    cut: int | None = None
    delay_s: float = 0.0
    pieces: list | None = None

    @property
    def content(self):
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body if self.body is not None else {}).encode()


def error(status, code="conflict", message="it is so", **headers):
    """An error as the service words it."""
    body = {"error": {"message": message, "type": "invalid_request_error", "param": "name", "code": code}}
    return Answer(body, status, {"x-request-id": "req-7", **{name.replace("_", "-"): value for name, value in headers.items()}})


class Drop(Exception):
    """The connection ends without an answer."""


class Misbehaving:
    """The ASGI app. `script` holds an answer, a function of what was seen, or `Drop`, for each request in turn; the last one stays."""

    def __init__(self):
        self.seen, self.script = [], [Answer()]

    def will(self, *script):
        self.seen.clear()
        self.script = list(script)
        return self

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        seen = Seen(scope["method"], scope["raw_path"].decode(), scope["query_string"].decode(), headers, body)
        self.seen.append(seen)
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if step is Drop:
            scope["transport_of"]().abort()
            return
        await self._answer(step(seen) if callable(step) else step, scope, send)

    async def _answer(self, answer, scope, send):
        await asyncio.sleep(answer.delay_s)
        pieces = answer.pieces if answer.pieces is not None else [answer.content]
        length = {} if answer.pieces is not None else {"content-length": str(len(answer.content))}
        headers = [(name.encode(), str(value).encode()) for name, value in {**length, **answer.headers}.items()]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        if answer.cut is not None:
            await send({"type": "http.response.body", "body": answer.content[: answer.cut], "more_body": True})
            await asyncio.sleep(0.05)
            scope["transport_of"]().abort()
            return
        for piece in pieces:
            if isinstance(piece, float):
                await asyncio.sleep(piece)
            elif piece is Drop:
                await asyncio.sleep(0.05)
                scope["transport_of"]().abort()
                return
            else:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


class Reachable(H11Protocol):
    """uvicorn's own protocol, which lets the app reach the connection below a request."""

    def handle_events(self):
        super().handle_events()
        if self.scope is not None:
            self.scope["transport_of"] = lambda: self.transport


@contextmanager
def serving(app):
    """Serve an app on a free port of this machine; the value is its address."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", lifespan="off", http=Reachable, loop="asyncio")
    server = uvicorn.Server(config)
    server.capture_signals = _nothing
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.005)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = server.force_exit = True
        thread.join(timeout=30)


@contextmanager
def _nothing():
    yield

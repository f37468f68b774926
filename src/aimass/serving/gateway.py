"""The gateway: a raw ASGI callable that answers predictions itself and hands everything else to the REST app.

The way of a prediction:

    1  match the path
    2  the key, a caller
    3  the name, a target
    4  admit: may the project spend on?
    5  read the body, bounded in bytes and time
    6  the Scheduler Center's answer; the gateway does not look into bodies, the engine does
    7  charge: the usage record is in the log before any byte of the answer is handed over; errors are not charged, and neither is
       an answer whose client is known to be gone
    8  send
    9  note that it was sent, or credit it when the client went before the last byte

What raises on the way becomes an error of the API's shape. A request with an `Idempotency-Key` takes the REST app's way, through
the database.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any, Protocol

from prometheus_client.core import Metric

from aimass.core.errors import AimassError, QuotaExceeded, UsageError
from aimass.core.ids import new_id
from aimass.serving.bodies import Bodies, Receive, json_length
from aimass.serving.counters import Counters
from aimass.serving.link import Answer
from aimass.serving.paths import Paths, Route
from aimass.serving.ports import Caller, Directory, Meter, Target
from aimass.serving.problems import ClientGone, Headers, problem, response_of

Scope = MutableMapping[str, Any]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_BODY_BYTES = 64 << 20
BODY_LIMIT_S = 30.0

_SANE_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}").fullmatch
_PIECE_BYTES = 256 << 10
_JSON: tuple[bytes, bytes] = (b"content-type", b"application/json")
_BINARY: tuple[bytes, bytes] = (b"content-type", b"application/octet-stream")
_log = logging.getLogger("aimass.serving")


class Center(Protocol):
    """What the gateway asks of the Scheduler Center."""

    async def answer(self, target: Target, kind: str, body: bytes, json_length: int = 0, deadline_s: float | None = None) -> Answer:
        """An engine's reply and its body."""
        ...


class Gateway:
    """Predictions, from the first header to the last byte.

    Args:
        rest_app: takes all other requests.
        directory: knows keys and deployments.
        meter: writes the bill.
        center: has requests answered.
        max_body: bytes of one request's body.
        body_limit_s: that a body may take to come.
    """

    def __init__(
        self,
        rest_app: App,
        directory: Directory,
        meter: Meter,
        center: Center,
        *,
        max_body: int = MAX_BODY_BYTES,
        body_limit_s: float = BODY_LIMIT_S,
    ) -> None:
        self._rest, self._directory, self._meter, self._center = rest_app, directory, meter, center
        self._paths, self._bodies, self._counters = Paths(), Bodies(max_body, body_limit_s), Counters()
        self._id_stem, self._id_count = "", 0
        self._answered: list[tuple[int, Receive]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["method"] != "POST" or (route := self._paths.match(scope["path"])) is None:
            await self._rest(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if b"idempotency-key" in headers:
            await self._rest(scope, receive, send)
            return
        began, request_id = time.perf_counter(), self._request_id(headers)
        counts = None
        rows = 0
        try:
            caller = self._directory.caller(headers)
            target = self._directory.target(caller, route.name, route.version)
            counts = self._counters.of(caller.project, target.name)
            reply, body = await self._answer(caller, target, route, headers, receive)
            status = reply.status
            if status < 400:
                rows = reply.rows
                if _is_gone(receive):
                    raise ClientGone("the client went before its answer was there")
                ticket = await self._charge(caller, target, rows, request_id, reply.compute_us)
                try:
                    await self._send(send, 200, [], body, request_id, reply.json_length)
                except BaseException:
                    self._meter.credit(ticket)
                    raise
                self._settle_soon(ticket, receive)
            else:
                await self._send(send, status, [], body, request_id)
        except ClientGone as error:
            status = error.http_status
        except AimassError as error:
            status, more, body = response_of(error)
            await self._send(send, status, more, body, request_id)
        except Exception:  # noqa: BLE001 - the client gets an answer, the log the trace
            _log.exception("request %s failed", request_id)
            status = 500
            message = "the service met an error of its own; its log has it under this x-request-id"
            await self._send(send, status, [], problem(500, message, "internal"), request_id)
        (counts or self._counters.of("", "")).add(status, rows, time.perf_counter() - began)

    async def _answer(self, caller: Caller, target: Target, route: Route, headers: dict[bytes, bytes], receive: Receive) -> Answer:
        """Steps 4 to 6."""
        self._bodies.check(route.kind, headers)
        deadline_s = _deadline_s(headers)
        wait = self._meter.admit(caller.project, 1)
        if wait is not None:
            await wait
        body = await self._bodies.read(receive)
        length = json_length(headers, len(body)) if route.kind == "infer" else 0
        return await self._center.answer(target, route.kind, body, length, deadline_s)

    async def _charge(self, caller: Caller, target: Target, rows: int, request_id: str, compute_us: int) -> int:
        """Step 7. A slice of the budget that does not cover it is topped up once."""
        try:
            return self._record(caller, target, rows, request_id, compute_us)
        except QuotaExceeded:
            await self._meter.reserve(caller.project, rows)
            return self._record(caller, target, rows, request_id, compute_us)

    def _record(self, caller: Caller, target: Target, rows: int, request_id: str, compute_us: int) -> int:
        return self._meter.charge(
            project=caller.project,
            key=caller.key,
            model=target.name,
            version=target.version,
            rows=rows,
            request_id=request_id,
            compute_us=compute_us,
        )

    async def _send(self, send: Send, status: int, more: Headers, body: bytes, request_id: str, json_bytes: int = 0) -> None:
        """Step 8. A long body goes in pieces, so that a client that leaves is noticed."""
        headers = [_BINARY if json_bytes else _JSON, (b"content-length", b"%d" % len(body)), (b"x-request-id", request_id.encode()), *more]
        if json_bytes:
            headers.append((b"inference-header-content-length", b"%d" % json_bytes))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        if len(body) <= _PIECE_BYTES:
            await send({"type": "http.response.body", "body": body})
            return
        for start in range(0, len(body), _PIECE_BYTES):
            piece, last = body[start : start + _PIECE_BYTES], start + _PIECE_BYTES >= len(body)
            await send({"type": "http.response.body", "body": piece, "more_body": not last})

    def _settle_soon(self, ticket: int, receive: Receive) -> None:
        """Step 9, at the turn's end, which hands over what was written in it: one call for all that were answered in the turn."""
        self._answered.append((ticket, receive))
        if len(self._answered) == 1:
            asyncio.get_running_loop().call_soon(self._settle)

    def _settle(self) -> None:
        answered, self._answered = self._answered, []
        for ticket, receive in answered:
            (self._meter.credit if _is_gone(receive) else self._meter.sent)(ticket)

    def _request_id(self, headers: dict[bytes, bytes]) -> str:
        """The client's own id where it is sane, else a new one, cheaply: a counter behind a stem of time and chance."""
        given = headers.get(b"x-request-id")
        if given is not None and _SANE_ID(given):
            return given.decode("ascii")
        if self._id_count % 0x10000 == 0:
            self._id_stem, self._id_count = new_id("req")[:-4], 0
        self._id_count += 1
        return f"{self._id_stem}{self._id_count - 1:04x}"

    def metrics(self) -> Iterator[Metric]:
        """Requests, rows and latencies, for a collector of prometheus_client."""
        return self._counters.metrics()


def _is_gone(receive: Receive) -> bool:
    """Whether the client is known to have left. uvicorn knows it at once; asking by `receive` would cost a task for every request."""
    return bool(getattr(getattr(receive, "__self__", None), "disconnected", False))


def _deadline_s(headers: dict[bytes, bytes]) -> float | None:
    """Within how many seconds the client wants its answer, if it says so."""
    said = headers.get(b"x-deadline-ms")
    if said is None:
        return None
    if not (said.isdigit() and 0 < len(said) < 9 and int(said) > 0):
        error = UsageError(f"x-deadline-ms is {said[:20].decode('latin-1')!r}; it is a whole number of milliseconds, from 1")
        error.param = "x-deadline-ms"
        raise error
    return int(said) / 1000

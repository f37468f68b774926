"""Word of notable events to an address that the run's owner has named.

    POST {"run", "type", "time", "data", "text"}

A thread of its own posts them one after another. Training never waits for it: what does not fit into its queue is left out, and what
cannot be delivered is said once. The address may hold a secret, so that it stands in no event, log or message. Redirects are not
followed: only the owner says where word of a run goes.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from aimass.core.events import Envelope
from aimass.training.events import WebhookFailed
from aimass.training.showing.news import news

if TYPE_CHECKING:
    from aimass.core.events import Event

NOTABLE = frozenset(
    {
        "checkpoint_failed",
        "checkpoint_unreadable",
        "diverged",
        "fit_judged",
        "rolled_back",
        "run_ended",
        "worker_lost",
        "worker_recovered",
        "worker_stalled",
        "worker_stuck",
    }
)
"""The types of events that are posted."""

_WAITING = 64
_TRIES = 3
_PAUSE_S = 0.5
_TIMEOUT_S = 5.0
_FLUSH_S = 5.0


class Webhook:
    """Posts a run's notable events.

    Args:
        url: where to.
        tell: takes the one event that says that something could not be delivered.
    """

    def __init__(self, url: str, tell: Callable[[Event], object]) -> None:
        self._url, self._tell = url, tell
        self._waiting: queue.Queue[Envelope | None] = queue.Queue(_WAITING)
        self._has_failed = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._deliver_all, name="aimass webhook", daemon=True)
        self._thread.start()

    def hear(self, envelope: Envelope) -> None:
        """Take in an event, and return at once."""
        if envelope.type in NOTABLE:
            try:
                self._waiting.put_nowait(envelope)
            except queue.Full:
                self._fail("it is too slow, and events were left out")

    def close(self, timeout_s: float = _FLUSH_S) -> None:
        """Let what waits be delivered for a few seconds, and leave the rest."""
        self._closing.set()
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            return  # it is not getting through to anybody
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self._fail(f"it took more than {timeout_s:g} s at the end, and events were left out")

    def _deliver_all(self) -> None:
        while (envelope := self._waiting.get()) is not None:
            reason = self._deliver(envelope)
            if reason is not None:
                self._fail(reason)

    def _deliver(self, envelope: Envelope) -> str | None:
        """Post one event, again if need be. Returns why it could not be delivered."""
        event = envelope.event()
        text = (news(event) if event is not None else None) or envelope.type.replace("_", " ")
        told = {"run": envelope.run, "type": envelope.type, "time": envelope.time, "data": envelope.data, "text": text}
        body = json.dumps(told, ensure_ascii=False).encode()
        reason: str | None = None
        for attempt in range(_TRIES):
            if attempt:
                time.sleep(_PAUSE_S * 2 ** (attempt - 1))
            reason, again = self._post(body)
            if reason is None or not again:
                return reason
        return reason

    def _post(self, body: bytes) -> tuple[str | None, bool]:
        """One try: why it failed, or None, and whether another may help."""
        parts = urlsplit(self._url)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=_TIMEOUT_S)
        path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._") + (
            f"?{quote(parts.query, safe='/?%:@!$&()*+,;=~-._')}" if parts.query else ""
        )
        headers = {"content-type": "application/json", "user-agent": "aimass"}
        if parts.username is not None:
            headers["authorization"] = _basic(parts.username, parts.password or "")
        try:
            connection.request("POST", path, body, headers)
            status = connection.getresponse().status
        except (OSError, HTTPException) as error:
            return _in_words(error), True
        except ValueError:  # from whatever encodes it, and it may repeat it
            return "its host has a name that no host can have", False
        finally:
            connection.close()
        if 200 <= status < 300:
            return None, False
        if 300 <= status < 400:
            return f"it answers with a redirect (HTTP {status}), which is not followed; name the address that it leads to", False
        return f"it answers with HTTP {status}", status >= 500 or status in (408, 429)

    def _fail(self, reason: str) -> None:
        if not self._has_failed:
            self._has_failed = True
            self._tell(WebhookFailed(reason=reason))


def _basic(username: str, password: str) -> str:
    from base64 import b64encode
    from urllib.parse import unquote

    return "Basic " + b64encode(f"{unquote(username)}:{unquote(password)}".encode()).decode()


def _in_words(error: Exception) -> str:
    """What went wrong, without what the error itself says: it may name the address."""
    if isinstance(error, TimeoutError):
        return f"it did not answer within {_TIMEOUT_S:g} s"
    if isinstance(error, ConnectionRefusedError):
        return "it refuses connections"
    return f"it cannot be reached ({type(error).__name__})"

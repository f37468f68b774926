"""The two ways in which a call is carried out: in the caller's thread, or awaited.

Each sends, waits and reads; what is decided in between (retries, errors, where a stream goes on) is the same code for both.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from contextlib import aclosing
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import httpx

from aimass.client.address import Address
from aimass.client.call import Call, Listing, Request
from aimass.client.download import Arriving
from aimass.client.errors import code_of, error_from, no_answer
from aimass.client.retries import Retries, never_left
from aimass.client.sse import EventReader, Following, Told
from aimass.core.errors import AimassError

if TYPE_CHECKING:
    from aimass.client.pages import Page

R = TypeVar("R")
Steps = Generator[Call[Any], Any, R]
"""Several calls that are one to the caller: it yields calls and is sent their answers."""

_CONNECT_S = 5.0
_MORE_FOR_STREAMS = 6  # who follows a job outlives a restart of the service
_KEEP_S = 3.0  # below the 5 s after which servers commonly close what is idle: nothing is sent into a connection about to be closed


class Wire:
    """What both transports know: the address, the limits, and what becomes of a sending that failed."""

    def __init__(self, address: Address, *, limit_s: float, max_retries: int) -> None:
        self.address, self.limit_s = address, limit_s
        self.retries = Retries(most=max_retries)
        self.patient = Retries(most=max_retries and max_retries + _MORE_FOR_STREAMS)

    def options(self) -> dict[str, Any]:
        """How the HTTP client is made."""
        return {
            "base_url": self.address.url,
            "headers": {"user-agent": f"aimass/{version('aimass')}", **self.address.headers()},
            "timeout": self._timeout(None),
            "verify": self.address.url.startswith("https:"),  # certificates take 40 ms to load
            "limits": httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=_KEEP_S),
            "trust_env": not self.address.is_here,  # a proxy of the environment does not reach this machine's own address
        }

    def sending(self, request: Request, following: Following | None = None) -> dict[str, Any]:
        """A request in httpx's words, but for a form's bytes."""
        form = request.form.headers if request.form else {}
        where = following.headers() if following else {}
        limit_s = following.wait_s(self.limit_s) if following else request.limit_s
        return {
            "method": request.method,
            "url": request.path,
            "params": request.given or None,
            "headers": {**request.headers, **form, **where},
            "timeout": self._timeout(limit_s),
        }

    def _timeout(self, limit_s: float | None) -> httpx.Timeout:
        limit_s = limit_s or self.limit_s
        return httpx.Timeout(limit_s, connect=min(_CONNECT_S, limit_s))

    def pause_after_error(self, request: Request, attempt: int, error: httpx.RequestError) -> float:
        """How long to wait before the next sending, or the end.

        Raises:
            Unavailable: there is no next one.
        """
        return self._pause(self.retries, request, attempt, error)

    def _pause(self, retries: Retries, request: Request, attempt: int, error: httpx.RequestError) -> float:
        pause_s = retries.after_error(request, attempt, error)
        if pause_s is None:
            limit_s = request.limit_s or self.limit_s
            raise no_answer(self.address.url, error, limit_s, is_repeatable=request.is_repeatable) from error
        return pause_s

    def pause_after_answer(self, request: Request, attempt: int, response: httpx.Response) -> float:
        """The same after an answer that is no success.

        Raises:
            AimassError: what the service said.
        """
        pause_s = self.retries.after_answer(request, attempt, response.status_code, code_of(response), response.headers)
        if pause_s is None:
            raise error_from(response)
        return pause_s

    def pause_of_stream(self, request: Request, following: Following, error: httpx.RequestError | None) -> float:
        """How long to wait before a stream that broke, or ended before its end, is asked for again.

        One that is open and silent is only asked for again, for a job may be silent for long; and a connection that was cut without
        a word would be silent for ever.
        """
        was_open, following.is_open = following.is_open, False
        if was_open and isinstance(error, httpx.ReadTimeout):
            following.attempt = 0
            return 0.0
        broke = error or httpx.ReadError("the stream ended before its last event")
        return self._pause(self.patient, request, following.attempt, broke)


def _is_done_already(request: Request, response: httpx.Response, may_be_done: bool) -> bool:
    """Whether what is to be removed is gone because an earlier sending, whose answer was lost, removed it."""
    return may_be_done and request.method == "DELETE" and response.status_code == 404


class Sender(Wire):
    """Carries out calls in the caller's thread. It may be used from several."""

    def __init__(self, address: Address, *, limit_s: float, max_retries: int) -> None:
        super().__init__(address, limit_s=limit_s, max_retries=max_retries)
        self._http = httpx.Client(**self.options())

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def send(self, call: Call[R]) -> R:
        """The answer to a call."""
        request, attempt, may_be_done = call.request, 0, False
        while True:
            try:
                response = self._exchange(call)
            except httpx.RequestError as error:
                pause_s = self.pause_after_error(request, attempt, error)
                may_be_done = may_be_done or not never_left(error)
            else:
                if response.is_success or _is_done_already(request, response, may_be_done):
                    return call.read(response)
                pause_s = self.pause_after_answer(request, attempt, response)
            time.sleep(pause_s)
            attempt += 1

    def _exchange(self, call: Call[Any]) -> httpx.Response:
        request = call.request
        content = request.form.pieces() if request.form else request.content
        with self._http.stream(**self.sending(request), content=content) as response:
            if call.into is None or not response.is_success:
                response.read()
            else:
                with Arriving(call.into, response, call.progress) as file:
                    for piece in response.iter_bytes():
                        file.write(piece)
        return response

    def run(self, steps: Steps[R]) -> R:
        """Carry out several calls, each with the answers before it."""
        try:
            call = next(steps)
            while True:
                try:
                    answer = self.send(call)
                except AimassError as error:
                    call = steps.throw(error)
                else:
                    call = steps.send(answer)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]

    def each(self, listing: Listing[R]) -> Iterator[R]:
        """The entries of a list, asked for page by page as they are needed."""
        from aimass.client.pages import first_page

        page: Page[R] | None = first_page(listing)
        while page is not None:
            found = self.send(page.call)
            yield from found.entries
            page = found.next

    def follow(self, request: Request, after: str | None, limit_s: float | None = None) -> Generator[Told, None, None]:
        """The events of a stream from after `after` to its end, over as many connections as it takes.

        Raises:
            TimeoutError: it has not ended within `limit_s`.
        """
        following = Following(after, limit_s)
        while not following.is_over:
            try:
                with self._http.stream(**self.sending(request, following)) as response:
                    if response.is_success:
                        reader, following.is_open = EventReader(), True
                        for piece in response.iter_raw():
                            yield from following.new(reader, piece)
                            if following.is_over:
                                return
                        pause_s = self.pause_of_stream(request, following, None)
                    else:
                        response.read()
                        pause_s = self.pause_after_answer(request, following.attempt, response)
            except httpx.RequestError as error:
                pause_s = self.pause_of_stream(request, following, error)
            time.sleep(pause_s)
            following.attempt += 1


class AsyncSender(Wire):
    """Carries out calls that are awaited."""

    def __init__(self, address: Address, *, limit_s: float, max_retries: int) -> None:
        super().__init__(address, limit_s=limit_s, max_retries=max_retries)
        self._http = httpx.AsyncClient(**self.options())

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def send(self, call: Call[R]) -> R:
        """The answer to a call."""
        request, attempt, may_be_done = call.request, 0, False
        while True:
            try:
                response = await self._exchange(call)
            except httpx.RequestError as error:
                pause_s = self.pause_after_error(request, attempt, error)
                may_be_done = may_be_done or not never_left(error)
            else:
                if response.is_success or _is_done_already(request, response, may_be_done):
                    return call.read(response)
                pause_s = self.pause_after_answer(request, attempt, response)
            await anyio.sleep(pause_s)
            attempt += 1

    async def _exchange(self, call: Call[Any]) -> httpx.Response:
        request = call.request
        content = request.form.pieces_async() if request.form else request.content
        async with self._http.stream(**self.sending(request), content=content) as response:
            if call.into is None or not response.is_success:
                await response.aread()
            else:
                with Arriving(call.into, response, call.progress) as file:
                    async for piece in response.aiter_bytes():
                        await anyio.to_thread.run_sync(file.write, piece)
        return response

    async def run(self, steps: Steps[R]) -> R:
        """Carry out several calls, each with the answers before it."""
        try:
            call = next(steps)
            while True:
                try:
                    answer = await self.send(call)
                except AimassError as error:
                    call = steps.throw(error)
                else:
                    call = steps.send(answer)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]

    async def each(self, listing: Listing[R]) -> AsyncIterator[R]:
        """The entries of a list, asked for page by page as they are needed."""
        from aimass.client.pages import first_page

        page: Page[R] | None = first_page(listing)
        while page is not None:
            found = await self.send(page.call)
            for entry in found.entries:
                yield entry
            page = found.next

    async def follow(self, request: Request, after: str | None, limit_s: float | None = None) -> AsyncGenerator[Told, None]:
        """The events of a stream from after `after` to its end, over as many connections as it takes.

        Raises:
            TimeoutError: it has not ended within `limit_s`.
        """
        following = Following(after, limit_s)
        while not following.is_over:
            try:
                async with self._http.stream(**self.sending(request, following)) as response:
                    if response.is_success:
                        reader, following.is_open = EventReader(), True
                        async with aclosing(response.aiter_raw()) as pieces:  # type: ignore[type-var]
                            async for piece in pieces:
                                for told in following.new(reader, piece):
                                    yield told
                                if following.is_over:
                                    return
                        pause_s = self.pause_of_stream(request, following, None)
                    else:
                        await response.aread()
                        pause_s = self.pause_after_answer(request, following.attempt, response)
            except httpx.RequestError as error:
                pause_s = self.pause_of_stream(request, following, error)
            await anyio.sleep(pause_s)
            following.attempt += 1

"""A resource is described once; these make its descriptions into methods, plain ones or ones to be awaited.

A description is a method that returns a `Call`, a `Listing` or `Steps`. On a resource of `Client` it becomes a method that returns the
answer, on one of `AsyncClient` a method that returns an awaitable of it: the same words, and types for both.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

from aimass.client.call import Call, Listing

if TYPE_CHECKING:
    from aimass.client.transport import AsyncSender, Sender, Steps

P = ParamSpec("P")
R = TypeVar("R")


class Blocking:
    """A resource whose methods return answers."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender


class Awaiting:
    """A resource whose methods are awaited."""

    def __init__(self, sender: AsyncSender) -> None:
        self._sender = sender


class _Described(Generic[P, R]):
    """What the three kinds share: the description, and how it becomes a method."""

    def __init__(self, describe: Callable[Concatenate[Any, P], Any]) -> None:
        self._describe = describe
        functools.update_wrapper(self, describe)  # type: ignore[arg-type]

    def _method(self, resource: Any, carry_out: Callable[[Any], Any]) -> Any:
        describe = self._describe.__get__(resource)

        @functools.wraps(describe)
        def method(*args: P.args, **kwargs: P.kwargs) -> Any:
            return carry_out(describe(*args, **kwargs))

        return method


class operation(_Described[P, R]):
    """One call."""

    def __init__(self, describe: Callable[Concatenate[Any, P], Call[R]]) -> None:
        super().__init__(describe)

    @overload
    def __get__(self, resource: None, owner: type) -> Self: ...
    @overload
    def __get__(self, resource: Blocking, owner: type) -> Callable[P, R]: ...
    @overload
    def __get__(self, resource: Awaiting, owner: type) -> Callable[P, Awaitable[R]]: ...
    def __get__(self, resource: Blocking | Awaiting | None, owner: type) -> Any:
        return self if resource is None else self._method(resource, resource._sender.send)


class listing(_Described[P, R]):
    """An iterator over a list, which pages by itself."""

    def __init__(self, describe: Callable[Concatenate[Any, P], Listing[R]]) -> None:
        super().__init__(describe)

    @overload
    def __get__(self, resource: None, owner: type) -> Self: ...
    @overload
    def __get__(self, resource: Blocking, owner: type) -> Callable[P, Iterator[R]]: ...
    @overload
    def __get__(self, resource: Awaiting, owner: type) -> Callable[P, AsyncIterator[R]]: ...
    def __get__(self, resource: Blocking | Awaiting | None, owner: type) -> Any:
        return self if resource is None else self._method(resource, resource._sender.each)


class procedure(_Described[P, R]):
    """Several calls, one after the other."""

    def __init__(self, describe: Callable[Concatenate[Any, P], Steps[R]]) -> None:
        super().__init__(describe)

    @overload
    def __get__(self, resource: None, owner: type) -> Self: ...
    @overload
    def __get__(self, resource: Blocking, owner: type) -> Callable[P, R]: ...
    @overload
    def __get__(self, resource: Awaiting, owner: type) -> Callable[P, Awaitable[R]]: ...
    def __get__(self, resource: Blocking | Awaiting | None, owner: type) -> Any:
        return self if resource is None else self._method(resource, resource._sender.run)

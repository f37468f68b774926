"""`aimass.Client` and `aimass.AsyncClient`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from types import TracebackType
from typing import Any, Self

from aimass.client.address import find_address
from aimass.client.answers import Engine, document, entry_of
from aimass.client.call import Call, Listing, Request, encode, get, part
from aimass.client.operation import Awaiting, Blocking, listing, operation
from aimass.client.resources.bills import AsyncBudgets, BillCalls, Budgets
from aimass.client.resources.datasets import AsyncDatasets, Datasets
from aimass.client.resources.deployments import AsyncDeployments, Deployments
from aimass.client.resources.files import AsyncFiles, Files
from aimass.client.resources.jobs import AsyncJobs, Jobs
from aimass.client.resources.keys import AsyncKeys, AsyncProjects, Keys, Projects
from aimass.client.resources.models import AsyncModels, Models
from aimass.client.transport import AsyncSender, Sender

Rows = Sequence[Mapping[str, Any]] | Sequence[Sequence[Any]]
"""Rows as objects, or as lists of values in the order of the model's columns."""

_LIMIT_S = 60.0
_RETRIES = 4


class ServiceCalls(BillCalls):
    """What a client offers without a noun before it."""

    @operation
    def predict(
        self, model: str, rows: Rows, *, version: int | None = None, idempotency_key: str | None = None
    ) -> Call[list[dict[str, Any]]]:
        """A deployed model's answers, in the order of the rows.

        Each request is charged once. So that none is charged twice, it is sent again only where nothing was done; with an
        `idempotency_key` it is sent again whatever happened, and answered and charged once.

        Args:
            model: the deployment's name.
            rows: objects, or lists of values in the order of the model's columns; a pandas DataFrame or an Arrow table too.
            version: by default the one that is deployed.
            idempotency_key: any text that no other request bears.

        Returns:
            an object a row, with `prediction`, and `probability` and `probabilities` where the model has them.
        """
        where = f"/v1/models/{part(model)}" + (f"/versions/{version}" if version is not None else "")
        headers = {"content-type": "application/json"} | ({"idempotency-key": idempotency_key} if idempotency_key else {})
        request = Request(
            method="POST",
            path=f"{where}:predict",
            content=encode({"instances": _plain_rows(rows)}),
            headers=headers,
            is_repeatable=idempotency_key is not None,
        )
        return Call(request=request, read=lambda response: list(document(response).get("predictions", [])))

    @listing
    def served(self, *, limit: int | None = None) -> Listing[str]:
        """The names of the models that answer."""
        return Listing(request=get("/v1/models"), read=lambda raw: str(raw["id"]), limit=limit)

    @operation
    def engines(self) -> Call[list[Engine]]:
        """The processes that answer predictions: state, load, latency, memory, history. It wants an admin key."""
        read = entry_of(Engine)
        return Call(request=get("/v1/engines"), read=lambda response: [read(raw) for raw in document(response)["data"]])


class Client(ServiceCalls, Blocking):
    """A service, from a program. It may be used from several threads.

    Args:
        url: the service; else `AIMASS_URL`, else what `aimass login` wrote.
        key: else `AIMASS_API_KEY`, else the key of that login.
        project: for an admin key, the project to act in.
        timeout_s: the longest wait for an answer to begin or go on; calls that are known to take long wait longer.
        max_retries: how often a request is sent again where that is safe.

    Raises:
        UsageError: no service is known.
        Unauthorized: there is no key for it.

    >>> client = Client("http://127.0.0.1:8321", "am_0_secret")
    >>> client.url
    'http://127.0.0.1:8321'
    >>> client.close()
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        project: str | None = None,
        timeout_s: float = _LIMIT_S,
        max_retries: int = _RETRIES,
    ) -> None:
        address = find_address(url, key, project)
        self.url = address.url
        super().__init__(Sender(address, limit_s=timeout_s, max_retries=max_retries))

    @cached_property
    def files(self) -> Files:
        """Files that were uploaded."""
        return Files(self._sender)

    @cached_property
    def datasets(self) -> Datasets:
        """Files as data to train on."""
        return Datasets(self._sender)

    @cached_property
    def jobs(self) -> Jobs:
        """Training that the service carries out."""
        return Jobs(self._sender)

    @cached_property
    def models(self) -> Models:
        """Models, and their numbered versions."""
        return Models(self._sender)

    @cached_property
    def deployments(self) -> Deployments:
        """Versions under names that answer requests."""
        return Deployments(self._sender)

    @cached_property
    def keys(self) -> Keys:
        """Keys to the service."""
        return Keys(self._sender)

    @cached_property
    def projects(self) -> Projects:
        """Projects, to which everything else belongs."""
        return Projects(self._sender)

    @cached_property
    def budgets(self) -> Budgets:
        """What a project may spend in a period."""
        return Budgets(self._sender)

    def close(self) -> None:
        """Close the connections."""
        self._sender.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self.url!r})"


class AsyncClient(ServiceCalls, Awaiting):
    """A service, from a program that awaits. It has the methods of `Client`; lists are asynchronous iterators.

    Args:
        url: as in `Client`, and so are the others.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        project: str | None = None,
        timeout_s: float = _LIMIT_S,
        max_retries: int = _RETRIES,
    ) -> None:
        address = find_address(url, key, project)
        self.url = address.url
        super().__init__(AsyncSender(address, limit_s=timeout_s, max_retries=max_retries))

    @cached_property
    def files(self) -> AsyncFiles:
        """Files that were uploaded."""
        return AsyncFiles(self._sender)

    @cached_property
    def datasets(self) -> AsyncDatasets:
        """Files as data to train on."""
        return AsyncDatasets(self._sender)

    @cached_property
    def jobs(self) -> AsyncJobs:
        """Training that the service carries out."""
        return AsyncJobs(self._sender)

    @cached_property
    def models(self) -> AsyncModels:
        """Models, and their numbered versions."""
        return AsyncModels(self._sender)

    @cached_property
    def deployments(self) -> AsyncDeployments:
        """Versions under names that answer requests."""
        return AsyncDeployments(self._sender)

    @cached_property
    def keys(self) -> AsyncKeys:
        """Keys to the service."""
        return AsyncKeys(self._sender)

    @cached_property
    def projects(self) -> AsyncProjects:
        """Projects, to which everything else belongs."""
        return AsyncProjects(self._sender)

    @cached_property
    def budgets(self) -> AsyncBudgets:
        """What a project may spend in a period."""
        return AsyncBudgets(self._sender)

    async def close(self) -> None:
        """Close the connections."""
        await self._sender.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncClient({self.url!r})"


def _plain_rows(rows: Any) -> Any:
    if hasattr(rows, "to_pylist"):  # Arrow
        return rows.to_pylist()
    return rows.to_dict("records") if hasattr(rows, "to_dict") else rows  # pandas

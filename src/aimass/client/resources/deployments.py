"""`client.deployments` and `client.engines()`: what answers predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aimass.client.answers import Deployment, answer_of, entry_of, nothing
from aimass.client.call import Call, Listing, create, get, part, remove
from aimass.client.operation import Awaiting, Blocking, listing, operation


class DeploymentCalls:
    """Versions under names that answer requests."""

    @operation
    def create(
        self,
        *,
        model: str,
        version: int | None = None,
        alias: str | None = None,
        name: str | None = None,
        settings: Mapping[str, Any] | None = None,
        wait: bool = True,
    ) -> Call[Deployment]:
        """Deploy a version; a name that is taken moves to it in one step.

        Args:
            model: of the registry.
            version: its number; by default the newest.
            alias: in place of a number, such as `production`.
            name: what requests ask for; by default the model's name.
            settings: `latency_ms`, `max_batch`.
            wait: until an engine has loaded it.
        """
        values = {"model": model, "version": version, "alias": alias, "name": name, "settings": settings}
        return Call(request=create("/v1/deployments", values, wait=None if wait else False), read=answer_of(Deployment))

    @listing
    def list(self, *, limit: int | None = None, after: str | None = None) -> Listing[Deployment]:
        """The deployments, the newest first; `limit` of them at most, those after the id `after`."""
        return Listing(request=get("/v1/deployments", after=after), read=entry_of(Deployment), limit=limit)

    @operation
    def get(self, deployment: str) -> Call[Deployment]:
        """One deployment."""
        return Call(request=get(f"/v1/deployments/{part(deployment)}"), read=answer_of(Deployment))

    @operation
    def delete(self, deployment: str) -> Call[None]:
        """End a deployment. Its version stays."""
        return Call(request=remove(f"/v1/deployments/{part(deployment)}"), read=nothing)


class Deployments(DeploymentCalls, Blocking):
    """Versions under names that answer requests."""


class AsyncDeployments(DeploymentCalls, Awaiting):
    """Versions under names that answer requests; every method is awaited."""

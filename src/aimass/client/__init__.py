"""The way in for programs: `aimass.Client`, and `aimass.AsyncClient` with the same methods to be awaited."""

from aimass.client.client import AsyncClient, Client

__all__ = ["AsyncClient", "Client"]

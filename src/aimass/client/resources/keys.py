"""`client.keys` and `client.projects`: who may do what. Both want an admin key."""

from __future__ import annotations

from aimass.client.answers import Key, Project, answer_of, entry_of, nothing
from aimass.client.call import Call, Listing, create, get, part, remove
from aimass.client.operation import Awaiting, Blocking, listing, operation


class KeyCalls:
    """Keys to the service."""

    @operation
    def create(self, name: str, *, role: str = "member", project: str | None = None) -> Call[Key]:
        """Make a key. `.key` of the answer is shown this once.

        Args:
            name: what it is for.
            role: `inference` may predict, `member` may do everything in its project, `admin` everything.
            project: its name or id; by default that of the key that asks.
        """
        return Call(request=create("/v1/keys", {"name": name, "role": role, "project": project}), read=answer_of(Key))

    @listing
    def list(self, *, limit: int | None = None, after: str | None = None) -> Listing[Key]:
        """The keys, the newest first, without their secrets."""
        return Listing(request=get("/v1/keys", after=after), read=entry_of(Key), limit=limit)

    @operation
    def revoke(self, key: str) -> Call[None]:
        """End a key, by its id. Within a second no service takes it any more."""
        return Call(request=remove(f"/v1/keys/{part(key)}"), read=nothing)


class Keys(KeyCalls, Blocking):
    """Keys to the service."""


class AsyncKeys(KeyCalls, Awaiting):
    """Keys to the service; every method is awaited."""


class ProjectCalls:
    """Projects, to which everything else belongs."""

    @operation
    def create(self, name: str) -> Call[Project]:
        """Make a project."""
        return Call(request=create("/v1/projects", {"name": name}), read=answer_of(Project))

    @listing
    def list(self, *, limit: int | None = None, after: str | None = None) -> Listing[Project]:
        """The projects, the newest first."""
        return Listing(request=get("/v1/projects", after=after), read=entry_of(Project), limit=limit)

    @operation
    def get(self, project: str) -> Call[Project]:
        """One project."""
        return Call(request=get(f"/v1/projects/{part(project)}"), read=answer_of(Project))


class Projects(ProjectCalls, Blocking):
    """Projects, to which everything else belongs."""


class AsyncProjects(ProjectCalls, Awaiting):
    """Projects, to which everything else belongs; every method is awaited."""

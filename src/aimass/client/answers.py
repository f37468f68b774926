"""What the service answers, as frozen values. Times are Unix seconds; `raw` is the answer as it came."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from aimass.core.errors import AimassError

if TYPE_CHECKING:
    import httpx


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The base of every answer. What a newer service says beyond it is in `raw`."""

    raw: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)


A = TypeVar("A", bound=Answer)


@dataclass(frozen=True, kw_only=True)
class File(Answer):
    """A file that was uploaded."""

    id: str
    filename: str
    bytes: int
    purpose: str = ""
    sha256: str = ""
    created_at: float = 0


@dataclass(frozen=True, kw_only=True)
class Dataset(Answer):
    """A file as data: its target, columns and split."""

    id: str
    name: str
    target: str | None = None
    task: str | None = None
    file: str | None = None
    sample: str | None = None
    rows: int = 0
    columns: Any = None
    split: dict[str, int] | None = None
    fingerprint: str | None = None
    created_at: float = 0


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Why something failed."""

    message: str
    code: str | None = None


@dataclass(frozen=True, kw_only=True)
class Made:
    """The version that a job made."""

    model: str
    version: int


@dataclass(frozen=True, kw_only=True)
class JobFacts(Answer):
    """A training job, as it was when the service was asked.

    Args:
        status: `validating_files`, `queued`, `running`, `succeeded`, `failed` or `cancelled`.
        progress: where it stands while it runs.
        metrics: how good the model is, when it has one.
        result: the version that it made.
        error: why it failed.
        epoch: how often it was started.
    """

    id: str
    status: str
    model: str = ""
    dataset: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    cpus: float | None = None
    memory_bytes: int | None = None
    created_at: float = 0
    started_at: float | None = None
    finished_at: float | None = None
    progress: dict[str, Any] | None = None
    metrics: dict[str, Any] | None = None
    result: Made | None = None
    error: Problem | None = None
    run: str | None = None
    epoch: int = 0

    @property
    def has_ended(self) -> bool:
        """Whether nothing more happens in it."""
        return self.status in ("succeeded", "failed", "cancelled")


@dataclass(frozen=True, kw_only=True)
class Event(Answer):
    """Something that happened in a job.

    Args:
        type: as `run.events()` has it (`run_started`, `progress`, `epoch`, ...), or a state of the job.
        message: the same for people; empty where there is nothing to say.
    """

    seq: int
    type: str
    time: float = 0
    data: dict[str, Any] = field(default_factory=dict)
    message: str | None = None


@dataclass(frozen=True, kw_only=True)
class Model(Answer):
    """A model of the registry."""

    name: str
    newest: int | None = None
    aliases: dict[str, int] = field(default_factory=dict)
    created_at: float = 0


@dataclass(frozen=True, kw_only=True)
class VersionFile:
    """A file of a version."""

    sha256: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Version(Answer):
    """A version of a model, which never changes.

    Args:
        files: by their path inside the model's folder.
        card: what it was made from and how good it is.
        lineage: file, data set, job and run, and the version that it began with.
        signature: the columns that it takes, and what it answers.
    """

    id: str
    model: str
    version: int
    bytes: int = 0
    aliases: list[str] = field(default_factory=list)
    files: dict[str, VersionFile] = field(default_factory=dict)
    card: dict[str, Any] = field(default_factory=dict)
    lineage: dict[str, Any] = field(default_factory=dict)
    signature: dict[str, Any] = field(default_factory=dict)
    created_at: float = 0


@dataclass(frozen=True, kw_only=True)
class Deployment(Answer):
    """A version under a name that answers requests."""

    id: str
    name: str
    model: str
    version: int
    status: str = ""
    created_at: float = 0
    updated_at: float = 0


@dataclass(frozen=True, kw_only=True)
class Engine(Answer):
    """A process that answers predictions."""

    id: str
    state: str
    pid: int | None = None
    models: list[dict[str, Any]] = field(default_factory=list)
    load: dict[str, Any] = field(default_factory=dict)
    latency_ms: dict[str, float | None] = field(default_factory=dict)
    requests: int = 0
    memory_bytes: int | None = None
    budget_bytes: int | None = None
    started_at: float | None = None
    history: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Key(Answer):
    """A key, without its secret.

    Args:
        key: the key itself, in the answer that made it and never again.
    """

    id: str
    name: str
    role: str
    project: str = ""
    created_at: float = 0
    revoked_at: float | None = None
    key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class Project(Answer):
    """Where objects belong, and whose bill is written."""

    id: str
    name: str
    created_at: float = 0


def document(response: httpx.Response) -> dict[str, Any]:
    """The JSON object of an answer.

    Raises:
        AimassError: it holds none; somebody else may answer at that address.
    """
    try:
        found = response.json()
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise AimassError(f"{response.request.url.copy_with(query=None)} answered with no JSON object; is an AI Mass service there?")
    return found


def made_of(kind: type[A], raw: dict[str, Any]) -> A:
    """An answer out of its JSON.

    >>> made_of(Project, {"id": "proj-1", "name": "default", "motto": "onwards"})
    Project(id='proj-1', name='default', created_at=0)
    """
    import msgspec

    try:
        return msgspec.convert({**raw, "raw": raw}, kind, strict=False)
    except msgspec.ValidationError as error:
        what = kind.__name__.lower()
        raise AimassError(
            f"the service answered with a {what} that this client cannot read ({error}); install the service's release"
        ) from None


def answer_of(kind: type[A]) -> Callable[[httpx.Response], A]:
    """Reads a response as such an answer."""
    return lambda response: made_of(kind, document(response))


def entry_of(kind: type[A]) -> Callable[[dict[str, Any]], A]:
    """Reads an entry of a list as such an answer."""
    return lambda raw: made_of(kind, raw)


def nothing(_: httpx.Response) -> None:
    """Reads an answer that says no more than that it was done."""

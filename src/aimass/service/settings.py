"""What the service is told: by flags, else by `AIMASS_*` variables, else by `aimass.toml`, else by the defaults that stand here."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ByteSize, Field, field_validator

from aimass.core.config import Config, Seconds
from aimass.core.errors import UsageError
from aimass.core.files import home as default_home
from aimass.store.database import sqlite_url

_FILE = "aimass.toml"
_MEMORY_SHARE = 0.8  # of the machine's memory, for jobs


class ServiceSettings(Config):
    """Every setting of the service.

    Args:
        host: the address to listen on; `0.0.0.0` for every one of this machine.
        port: the port; 0 takes a free one.
        home: the folder where state lives.
        database_url: `sqlite:////path/file.db` or `postgresql://user:password@host/name`; the file `aimass.db` in the home if not given.
        store_url: where bytes are kept: a folder, or `s3://bucket/prefix`; the folder `blobs` in the home if not given.
        engines: how many Prediction Engine processes there may be.
        engine_memory: the bytes of models that one engine may hold.
        cpus: the cores that jobs may use together; the machine's if not given.
        memory: the bytes that jobs may use together; 80% of the machine's if not given.
        max_upload: the most bytes that one file may have.
        max_body: the most bytes that any other request may have.
        body_timeout: how long the next bytes of a request may be awaited.
        shutdown_timeout: how long requests may take to finish when the service ends.
        stop_jobs: whether jobs that run are ended at a checkpoint with the service; by default they go on without it.

    >>> ServiceSettings(engine_memory="2GB").engine_memory
    2000000000
    """

    host: str = Field("127.0.0.1", min_length=1)
    port: int = Field(8321, ge=0, le=65535)
    home: Path = Field(default_factory=default_home)
    database_url: str = ""
    store_url: str = ""
    engines: int = Field(1, ge=1, le=256)
    engine_memory: ByteSize = Field(ByteSize(2_000_000_000), gt=0)
    cpus: float = Field(default_factory=lambda: float(os.cpu_count() or 1), gt=0)
    memory: ByteSize = Field(default_factory=lambda: ByteSize(_machine_memory() * _MEMORY_SHARE), gt=0)
    max_upload: ByteSize = Field(ByteSize(10_000_000_000), gt=0)
    max_body: ByteSize = Field(ByteSize(64_000_000), gt=0)
    body_timeout: Seconds = Field(30.0, gt=0)
    shutdown_timeout: Seconds = Field(10.0, gt=0)
    stop_jobs: bool = False

    @field_validator("home")
    @classmethod
    def _absolute(cls, home: Path) -> Path:
        return home.expanduser().absolute()

    @property
    def database(self) -> str:
        """The URL of the database that is used."""
        return self.database_url or sqlite_url(self.home / "aimass.db")

    @property
    def store(self) -> str:
        """The URL of the store that is used."""
        return self.store_url or str(self.home / "blobs")


def read_settings(flags: Mapping[str, Any] | None = None, *, environment: Mapping[str, str] | None = None) -> ServiceSettings:
    """Put the settings together.

    Args:
        flags: what the command line or the caller says; None means "not said".
        environment: the variables to read; those of this process if not given.

    Raises:
        UsageError: a setting is unknown or off, or `aimass.toml` cannot be read. The message says where it came from.
    """
    variables = os.environ if environment is None else environment
    said = {name: value for name, value in (flags or {}).items() if value is not None}
    by_variable = {
        name: variables[f"AIMASS_{name.upper()}"] for name in ServiceSettings.model_fields if variables.get(f"AIMASS_{name.upper()}")
    }
    for source, values in ((_FILE, _read_file({**by_variable, **said})), ("AIMASS_* variables", by_variable), ("flags", said)):
        try:
            ServiceSettings.parse(values)
        except UsageError as error:
            raise UsageError(f"{error} (from the {source})" if source == "AIMASS_* variables" else f"{error} (from {source})") from None
    return ServiceSettings.parse({**_read_file({**by_variable, **said}), **by_variable, **said})


def _read_file(known: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of `aimass.toml` in this folder, else in the home."""
    home = Path(known.get("home") or default_home()).expanduser()
    path = next((path for path in (Path(_FILE), home / _FILE) if path.is_file()), None)
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise UsageError(f"{path.absolute()} cannot be read ({error}); it holds lines such as port = 8321") from None


def _machine_memory() -> int:
    import psutil

    return int(psutil.virtual_memory().total)

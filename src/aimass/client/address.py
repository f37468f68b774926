"""Which service is meant, and the key to it: from arguments, else the environment, else what `aimass login` wrote."""

from __future__ import annotations

import ipaddress
import json
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aimass.core.errors import DataError, Unauthorized, UsageError
from aimass.core.files import home, write_whole


@dataclass(frozen=True, kw_only=True)
class Address:
    """A service, and who asks.

    Args:
        url: without a slash at its end.
        key: `am_…`; it is in no representation.
        project: the project that an admin key acts in; None for the key's own.
    """

    url: str
    key: str = field(repr=False)
    project: str | None = None

    @property
    def is_here(self) -> bool:
        """Whether it is on this machine, where no proxy stands between."""
        host = urlsplit(self.url).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost" or host.endswith(".localhost")

    def headers(self) -> dict[str, str]:
        """What every request bears."""
        found = {"authorization": f"Bearer {self.key}"}
        return found if self.project is None else {**found, "openai-project": self.project}


def find_address(url: str | None = None, key: str | None = None, project: str | None = None) -> Address:
    """The service to talk to.

    Args:
        url: else `AIMASS_URL`, else the one that `aimass login` wrote.
        key: else `AIMASS_API_KEY`, else the one of the login, if that is for the same service: a key goes nowhere else.
        project: else `AIMASS_PROJECT`.

    Raises:
        UsageError: no service is known, or the address is none.
        Unauthorized: there is no key for it.

    >>> find_address("http://127.0.0.1:8321/", "am_0_secret")
    Address(url='http://127.0.0.1:8321', project=None)
    """
    url, key = url or os.environ.get("AIMASS_URL"), key or os.environ.get("AIMASS_API_KEY")
    project = project or os.environ.get("AIMASS_PROJECT") or None
    kept = None if url and key else read_login()
    if not url and kept is None:
        raise UsageError("no service is known here; start one with `aimass up`, or log in to one with `aimass login URL`")
    url = plain_url(url) if url else kept.url if kept else ""
    if not key and kept is not None and kept.url == url:
        key = kept.key
    if not key:
        raise Unauthorized(f"there is no key for {url}; set AIMASS_API_KEY, or log in with `aimass login {url}`")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise Unauthorized("the key holds characters that no key has; copy it again, it begins with am_")
    return Address(url=url, key=key, project=project)


def plain_url(url: str) -> str:
    """A service's address, in the one way in which it is written.

    Raises:
        UsageError: it is none.

    >>> plain_url("127.0.0.1:8321"), plain_url("https://AI.example.org/mass/")
    ('http://127.0.0.1:8321', 'https://ai.example.org/mass')
    """
    try:
        parts = urlsplit(url.strip() if "://" in url else f"http://{url.strip()}")
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname or " " in parts.netloc:
        raise UsageError(f"{url!r} is no address of a service; write it like http://127.0.0.1:8321")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UsageError("the address of a service holds no user, password, query or fragment; write it like http://127.0.0.1:8321")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}{parts.path.rstrip('/')}"


def login_path(folder: Path | None = None) -> Path:
    """Where the login of a home is kept; by default of this one."""
    return (folder or home()) / "credentials.json"


def save_login(address: Address, folder: Path | None = None, *, is_own: bool = False) -> Path:
    """Keep a login, so that only its owner can read it.

    Args:
        folder: the home; by default this one.
        is_own: whether it leads to the service of that same home, whose address may change with its next start.

    Raises:
        StorageError: it could not be written.
    """
    path = login_path(folder)
    kept = {"url": address.url, "key": address.key, **({"is_own": True} if is_own else {})}
    before = os.umask(0o077)  # the file must at no moment be readable for others
    try:
        write_whole(path, json.dumps(kept, indent=2) + "\n")
    finally:
        os.umask(before)
    return path


def read_login(folder: Path | None = None) -> Address | None:
    """The login that is kept, or None.

    Raises:
        DataError: the file is there and holds none.
    """
    raw = _read(login_path(folder))
    return None if raw is None else Address(url=plain_url(raw["url"]), key=raw["key"])


def keep_own_login(folder: Path, url: str, key: str | None) -> str | None:
    """Let the commands of a home find the service that was started on it. A login to another service is left as it is.

    Args:
        key: the admin key, which is known on the first start alone.

    Returns:
        what to tell about it; None where there is nothing to tell.
    """
    path = login_path(folder)
    raw = _read(path)
    if key is not None and raw is None:
        save_login(Address(url=url, key=key), folder, is_own=True)
        return f"it is also in {path}, which you alone can read, so that the commands of this home are logged in"
    if raw is not None and raw.get("is_own") and raw["url"] != url:
        save_login(Address(url=url, key=key or raw["key"]), folder, is_own=True)
        return f"the commands of this home are logged in at this address now ({path})"
    if raw is not None and not raw.get("is_own"):
        return f"the commands of this home are logged in to {raw['url']}, and stay so; change that with `aimass login {url}`"
    return None


def _read(path: Path) -> dict[str, Any] | None:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if not (isinstance(raw, dict) and isinstance(raw.get("key"), str) and isinstance(raw.get("url"), str)):
            raise ValueError("it has no url and key")
        plain_url(raw["url"])
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            path.chmod(0o600)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, UsageError) as error:
        raise DataError(f"{path} holds no login ({error}); log in again with `aimass login URL`, or remove it") from None
    return raw

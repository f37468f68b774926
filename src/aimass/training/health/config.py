"""Settings of a run's health. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, SerializationInfo, field_serializer, field_validator

from aimass.core.config import Config, Seconds

REVEALED = {"revealed": True}
"""What `model_dump` takes as its context where secrets shall be readable."""


class HealthConfig(Config):
    """How a run watches over itself.

    Args:
        enabled: false switches all of it off; also `health=False` and `health="off"`.
        factor: training has diverged once the loss is over this many times its moving average.
        rollbacks: how often a run that diverged goes back to its last checkpoint, with half the learning rate, before it fails.
        stall: seconds that a worker may do one thing without getting on, until it is named with its stack.
        sample_every: seconds between two samples of each process's CPU, memory, rows and loss.
        webhook: an http or https address that gets a POST for every notable event. It counts as a secret.
    """

    enabled: bool = True
    factor: Annotated[float, Field(gt=1)] = 3.0
    rollbacks: Annotated[int, Field(ge=0, le=100)] = 3
    stall: Annotated[Seconds, Field(gt=0)] = 5.0
    sample_every: Annotated[Seconds, Field(gt=0)] = 5.0
    webhook: SecretStr | None = None

    @field_validator("webhook")
    @classmethod
    def _is_an_address(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        try:
            parts = urlsplit(value.get_secret_value())
            fits = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
        except ValueError:
            fits = False
        if not fits or not value.get_secret_value().isprintable() or " " in value.get_secret_value():
            raise ValueError("a webhook is an http or https address, such as https://example.org/hook")
        return value

    @field_serializer("webhook", when_used="json")
    def _hide(self, value: SecretStr | None, info: SerializationInfo) -> str | None:
        if value is None:
            return None
        return value.get_secret_value() if info.context == REVEALED else str(value)


def parse_health(value: Any) -> Any:
    """Let one word switch all of it on or off.

    >>> parse_health("off"), parse_health(True), parse_health({"stall": 2})
    ({'enabled': False}, {}, {'stall': 2})
    """
    if isinstance(value, bool):
        return {} if value else {"enabled": False}
    if isinstance(value, str):
        word = value.strip().lower()
        if word in ("on", "off", "true", "false"):
            return {} if word in ("on", "true") else {"enabled": False}
        raise ValueError("health is on or off, or its settings, such as {'stall': '10s'}")
    if isinstance(value, Mapping) and "name" in value:  # `health=False` beside a dotted setting
        value = dict(value)
        return {**parse_health(value.pop("name")), **value}
    return value

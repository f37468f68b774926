"""Where a run's events go: into its log, and those that somebody should hear of to the webhook."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from aimass.core.events import Envelope, Event, EventLog
    from aimass.training.health.config import HealthConfig


class Teller:
    """Takes every event of a run, from any of its threads.

    Args:
        log: the run's; it is closed at the end.
        config: says whether there is a webhook.
    """

    def __init__(self, log: EventLog, config: HealthConfig) -> None:
        self._log, self._webhook = log, None
        if config.enabled and config.webhook is not None:
            from aimass.training.health.webhook import Webhook

            self._webhook = Webhook(config.webhook.get_secret_value(), log.append)

    def tell(self, event: Event) -> Envelope:
        """Keep one event, and let the webhook hear of it.

        Raises:
            StorageError: it could not be kept.
        """
        envelope = self._log.append(event)
        if self._webhook is not None:
            self._webhook.hear(envelope)
        return envelope

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self._webhook is not None:
                self._webhook.close()
        finally:
            self._log.close()

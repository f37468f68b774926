"""Models that lie here, for the commands that ask no service."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from aimass.core.errors import NotFound

if TYPE_CHECKING:
    from aimass.models.model import Model


def load_here(name: str) -> Model:
    """The model in a folder, or that of a run.

    Raises:
        NotFound: there is neither; where a service is known, the message says how its models come here.
        AimassError: it is there and cannot be used.
    """
    from aimass.client.address import login_path
    from aimass.training.loading import load

    try:
        return load(name)
    except NotFound as error:
        is_path = Path(name).name != name
        if is_path or Path(name).exists() or not (login_path().exists() or os.environ.get("AIMASS_URL")):
            raise
        raise NotFound(f"{error}. A model of the registry comes here by: aimass models download {name} FOLDER") from None

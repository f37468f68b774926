"""`aimass.load`: a model, from a folder or from the run that trained it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from aimass.core.errors import NotFound

if TYPE_CHECKING:
    from torch import nn

    from aimass.models.model import Model


def load(name: str | Path, *, module: nn.Module | None = None, home: str | Path | None = None) -> Model:
    """Load a model that `Model.save` wrote, or the one that a run left.

    Args:
        name: the model's folder, or a run's id.
        module: the network, where the model is a custom one.
        home: where runs are looked for; by default `AIMASS_HOME`, or `~/.aimass`.

    Raises:
        NotFound: there is neither.
        AimassError: it is there and cannot be used; the message says why.
    """
    from aimass.models.model import Model
    from aimass.training.run import Run

    if Path(name).exists() and not (Path(name) / "run.json").exists():
        return Model.load(Path(name), module=module)
    try:
        run = Run.open(name, None if home is None else Path(home))
    except NotFound as error:
        raise NotFound(f"there is no model folder {str(name)!r}, and {error}") from None
    if not (run.folder / "model").is_dir():
        raise NotFound(f"{run.id} left no model: it is {run.state}; resume it with `aimass train --resume {run.id}`")
    return Model.load(run.folder / "model", module=module)

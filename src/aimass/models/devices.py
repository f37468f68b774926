"""Where a module computes: what the names of devices mean on this machine, and the random state of a device."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from aimass.core.errors import UsageError

_SEED_FACTOR, _NUMBER_FACTOR = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9  # odd and far from round, so that neighbours share nothing


def find_device(name: str | torch.device, slot: int = 0) -> torch.device:
    """The device that a name means to one worker.

    Args:
        name: `"cpu"`; `"auto"`, a GPU where PyTorch sees one and the CPU elsewhere; `"cuda"`, a GPU; `"cuda:1"`, that one.
        slot: the worker's. `"auto"` and `"cuda"` go round the GPUs: worker i computes on number i mod their count.

    Raises:
        UsageError: it is not there.

    >>> find_device("cpu", slot=3)
    device(type='cpu')
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"there is no device {name!r}; give 'auto', 'cpu', 'cuda' or 'cuda:0'") from None
    if device.type != "cuda":
        return device
    if not torch.cuda.is_available():
        raise UsageError(f"the device {str(device)!r} is not here: this PyTorch sees no GPU; leave device out to use the CPU")
    count = torch.cuda.device_count()
    if device.index is None:
        return torch.device("cuda", slot % count)
    if device.index >= count:
        seen = "one GPU, 'cuda:0'" if count == 1 else f"{count} GPUs, 'cuda:0' to 'cuda:{count - 1}'"
        raise UsageError(f"the device {str(device)!r} is not here: this PyTorch sees {seen}; give 'auto' to take what is there")
    return device


def find_devices(name: str, num_workers: int) -> list[str]:
    """The devices of all workers, each once, in the order of their slots.

    >>> find_devices("cpu", num_workers=2)
    ['cpu']
    """
    return list(dict.fromkeys(str(find_device(name, slot)) for slot in range(max(1, num_workers))))


def random_states(device: torch.device) -> dict[str, Tensor]:
    """The random state of this process, and of a GPU, by `cpu` and `cuda`. Byte tensors on the CPU."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_random_states(states: Mapping[str, Tensor], device: torch.device) -> None:
    """Go back to what `random_states` gave, as far as this device has it."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


def seed_draws(device: torch.device, seed: int, number: int) -> None:
    """Let the random numbers of a piece of work depend on the run and the piece alone, whoever does it and however often.

    Args:
        device: where it is computed.
        seed: the run's.
        number: the piece's.
    """
    mixed = (seed * _SEED_FACTOR + number * _NUMBER_FACTOR) % 2**63
    if device.type == "cpu":
        torch.default_generator.manual_seed(mixed)  # 2 µs; torch.manual_seed takes 140
    else:
        torch.manual_seed(mixed)

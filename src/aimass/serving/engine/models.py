"""The models that an engine holds, and what they weigh."""

from __future__ import annotations

import ctypes
import gc
import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from pydantic import Field

from aimass.core.config import Config
from aimass.core.errors import AimassError, StorageError, UsageError
from aimass.core.memory import free_memory_bytes
from aimass.models.language import answer_texts
from aimass.models.model import Model
from aimass.serving.engine.answers import PredictWriter
from aimass.serving.engine.failures import NotLoaded
from aimass.serving.engine.inputs import InferReader
from aimass.serving.engine.outputs import InferWriter
from aimass.serving.engine.pace import Pace
from aimass.serving.engine.predict import PredictReader
from aimass.serving.engine.rows import BulkEncoder

_LEAST_ALLOWANCE_BYTES = 256 << 10
_KEPT_FREE_BYTES = 64 << 20
_MOST_TEXTS = 64
"""How many texts one request may ask to go on with: each takes a pass for every byte of the answer."""


class ServingSettings(Config):
    """How a deployment is answered.

    Args:
        max_batch: how many rows run at once at most; one larger request still runs whole.
        latency_ms: batches are kept so small that a request that waits for one and then runs in the next takes no longer.
        max_rows: how many rows one request may have.
    """

    max_batch: int = Field(default=1024, ge=1, le=1_000_000)
    latency_ms: float = Field(default=50.0, gt=0)
    max_rows: int = Field(default=10_000, ge=1, le=1_000_000)


class LoadedModel:
    """A model, and what was prepared to answer for it quickly.

    Args:
        id: of the model's version.
        name: what the registry calls the model.
        version: its number.
        model: the model itself.
        settings: of its deployment.
    """

    def __init__(self, id: str, name: str, version: int, model: Model, settings: ServingSettings) -> None:
        self.id, self.name, self.version, self.model = id, name, version, model
        self.forward = _forward(model)
        self.size_bytes = 0
        self.requests = 0
        self.bulk = BulkEncoder(model.encoder)
        self.predict_reader = PredictReader(self.bulk)
        self.predict_writer = PredictWriter(model, name, version)
        self.infer_reader = InferReader(self.bulk)
        self.infer_writer = InferWriter(model, name, version)
        self.follow(settings)

    def follow(self, settings: ServingSettings) -> None:
        """Answer by these settings from now on."""
        self.settings = settings
        most = _MOST_TEXTS if self.model.encoder.context else settings.max_rows
        self.predict_reader.max_rows = self.infer_reader.max_rows = min(settings.max_rows, most)
        self.pace = Pace(settings.max_batch, settings.latency_ms / 2000)


class Models:
    """The models of one engine, by the ids of their versions.

    Args:
        budget_bytes: how much they may take together; None for what the machine has.
    """

    def __init__(self, budget_bytes: int | None = None) -> None:
        self._budget_bytes = budget_bytes
        self._loaded: dict[str, LoadedModel] = {}
        self.find = self._loaded.get

    def __iter__(self) -> Iterator[LoadedModel]:
        return iter(list(self._loaded.values()))

    @property
    def size_bytes(self) -> int:
        """What all of them weigh."""
        return sum(loaded.size_bytes for loaded in list(self._loaded.values()))

    def load(self, id: str, folder: Path, name: str, version: int, settings: dict[str, Any]) -> LoadedModel:
        """Read a model, measure it, and hold it. It may take seconds; one runs at a time. One that is there stays, and
        follows the settings.

        Raises:
            NotFound: there is no model.
            UsageError: its network is not known here, or a setting is off.
            DataError: a file of it is damaged.
            StorageError: it does not fit.
        """
        chosen = ServingSettings.parse(settings, prefix="settings.")
        there = self._loaded.get(id)
        if there is not None:
            if there.settings != chosen:
                there.follow(chosen)
            return there
        _refuse_custom(folder)
        self._refuse_too_large(folder)
        before = _resident_bytes()
        loaded = LoadedModel(id, name, version, Model.load(folder), chosen)
        _try(loaded)
        tensors = _tensor_bytes(loaded.model)
        loaded.size_bytes = max(tensors + _LEAST_ALLOWANCE_BYTES, _resident_bytes() - before)
        self._loaded[id] = loaded
        return loaded

    def unload(self, id: str) -> int:
        """Let a model go, and give its memory back to the machine. Returns what it weighed.

        Raises:
            NotLoaded: it is not there.
        """
        loaded = self._loaded.pop(id, None)
        if loaded is None:
            raise NotLoaded(f"this engine does not hold the model {id!r}")
        size_bytes = loaded.size_bytes
        del loaded
        give_memory_back()
        return size_bytes

    def _refuse_too_large(self, folder: Path) -> None:
        size_bytes = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        shown = f"the model needs about {size_bytes / 1e6:.0f} MB"
        if self._budget_bytes is not None and self.size_bytes + size_bytes + _LEAST_ALLOWANCE_BYTES > self._budget_bytes:
            room = f"the engine may hold {self._budget_bytes / 1e6:.0f} MB, of which {self.size_bytes / 1e6:.0f} MB are taken"
            raise StorageError(f"{shown}, and {room}; unload a model, or give engines more memory (engine_memory)")
        free = free_memory_bytes()
        if free is not None and 2 * size_bytes + _KEPT_FREE_BYTES > free:  # twice: the file's tensors and the network's
            raise StorageError(f"{shown}, twice that while it is read, and {free / 1e6:.0f} MB are free; unload a model")


def own_memory_bytes() -> int:
    """What this process takes: its share of pages that it shares with others."""
    import psutil

    process = psutil.Process()
    memory = process.memory_full_info() if sys.platform == "linux" else process.memory_info()
    return int(getattr(memory, "pss", memory.rss))


def give_memory_back() -> None:
    """Return freed memory to the machine, which an allocator else keeps for itself."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def _refuse_custom(folder: Path) -> None:
    try:
        name = json.loads((folder / "model.json").read_text(encoding="utf-8"))["config"]["name"]
    except (OSError, ValueError, KeyError, TypeError):
        return  # Model.load says what is wrong with it
    if name == "custom":
        raise UsageError(
            "the model's network is a module of your own code, which an engine does not have and will not run; "
            "train one of the built-in families (linear, mlp, cnn, transformer), or answer in your own process by "
            "aimass.load(..., module=...)"
        )


def warm() -> None:
    """Do everything once, so that what it imports and keeps is not counted as the first model's, nor waited for by its first request."""
    from aimass.data.columns import NumericColumn
    from aimass.data.encoder import Encoder
    from aimass.models.config import build_module, parse_model
    from aimass.serving.engine.batch import Question, Spent, answer, read
    from aimass.serving.frames import Ask

    column = NumericColumn(name="x", mean=0.0, std=1.0, indicator=True)
    encoder = Encoder(columns=(column,), task="multiclass", target="y", target_kind="categorical", classes=("a", "b", "c"))
    config = parse_model("mlp")
    with TemporaryDirectory() as folder:
        Model(module=build_module(config, 2, (), 3), encoder=encoder, config=config).save(folder)
        loaded = LoadedModel("", "", 0, Model.load(folder), ServingSettings())
    for body in (b'{"instances": [{"x": 1}]}', b'{"instances": [{"x": null}, [1]]}'):
        question = Question(None, Ask(0, "answer", "", "predict"), body, 0)
        read(loaded, question)
        answer(loaded, [question], Spent())


def _try(loaded: LoadedModel) -> None:
    """One row of zeros, so that what the first request would have to wait for is done, and counted."""
    encoder = loaded.model.encoder
    numbers = torch.zeros((1, encoder.num_numbers))
    categories = torch.zeros((1, len(encoder.cardinalities)), dtype=torch.int64) if encoder.cardinalities else None
    try:
        loaded.model.run(numbers, categories)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise AimassError(f"the model was read and cannot answer ({str(error)[:200]}); save it again") from error


def _forward(model: Model) -> Callable[..., torch.Tensor]:
    """What `Model.run` does, less what it finds out anew in every call: the tensors of a loaded model stay where they are."""
    if model.encoder.context:
        return partial(answer_texts, model.module)
    plain = all(tensor.dtype == torch.float32 and tensor.device.type == "cpu" for tensor in model.module.parameters())
    return model.module if plain else model.run


def _tensor_bytes(model: Model) -> int:
    tensors = [*model.module.parameters(), *model.module.buffers()]
    return sum({tensor.data_ptr(): tensor.numel() * tensor.element_size() for tensor in tensors}.values())


def _resident_bytes() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss)

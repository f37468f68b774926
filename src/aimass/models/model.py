"""A trained model: the network, the encoder of its rows, its task and its signature. Saved as JSON and safetensors, never as a pickle."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from aimass.core.errors import DataError, UsageError
from aimass.data.dataset import counted_inputs
from aimass.data.pixels import ImageColumn
from aimass.data.schema import listed
from aimass.data.text import TEXT, checked_prompt, prompt_of, windows_of
from aimass.models.config import CustomConfig, build_module
from aimass.models.folder import fill, read_facts, write_model
from aimass.models.language import ANSWER_BYTES, check_generation, go_on
from aimass.models.manifest import Manifest
from aimass.models.tasks import Task, task_of
from aimass.models.tensors import inputs_of, tensor_of

if TYPE_CHECKING:
    from aimass.data.batch import Encoded
    from aimass.data.columns import FeatureColumn
    from aimass.data.encoder import Encoder
    from aimass.models.family import FamilyConfig

ROWS_AT_ONCE = 4096


class Model:
    """What answers.

    Args:
        module: the network.
        encoder: what turns raw rows into its inputs.
        task: how its outputs become answers; told from the encoder where not given.
        config: the settings of its family.
    """

    def __init__(self, *, module: nn.Module, encoder: Encoder, config: FamilyConfig, task: Task | None = None) -> None:
        self.module = module.eval()
        self.encoder, self.config, self.task = encoder, config, task or task_of(encoder)

    def predict(self, data: Any) -> list[dict[str, Any]]:
        """Answers to rows, in their order.

        Args:
            data: a dict (one row), a list of dicts, the path of a CSV file, a part of a data set, a DataFrame or an Arrow table.

        Returns:
            a dict a row: `prediction`, and for classes `probability` and `probabilities`; of a language model `text`, as the
            likeliest bytes go on with the row's, 64 at most.

        Raises:
            DataError: a row lacks a column, or holds a value that its column cannot.
        """
        if self.encoder.context:
            prompts = self._prompts(data)
            return [{TEXT: self.generate(prompt, max_bytes=ANSWER_BYTES, temperature=0.0)} for prompt in prompts]
        encoded = self._encode(data, need_target=False)
        return self.task.answers(self._outputs(encoded), self.encoder)

    def generate(self, prompt: str = "", max_bytes: int = 200, *, temperature: float = 0.8, top_k: int | None = None, seed: int = 0) -> str:
        """How a language model goes on with a text.

        Args:
            prompt: the text; empty for the beginning of a document.
            max_bytes: how many bytes to add at most; it ends where the model ends the document.
            temperature: how daring it is: 0 always takes the likeliest byte, 1 draws as the model learned.
            top_k: draw among so many of the likeliest bytes alone.
            seed: the same one gives the same text.

        Returns:
            what comes after the prompt. Bytes that are no UTF-8 become U+FFFD.

        Raises:
            UsageError: the model is none of language, or an argument is out of range.
        """
        start = checked_prompt(prompt).encode("utf-8", "surrogateescape")
        return self.generate_bytes(start, max_bytes, temperature=temperature, top_k=top_k, seed=seed).decode("utf-8", "replace")

    def generate_bytes(
        self,
        prompt: bytes = b"",
        max_bytes: int = 200,
        *,
        temperature: float = 0.8,
        top_k: int | None = None,
        seed: int = 0,
        tell: Callable[[bytes], None] | None = None,
    ) -> bytes:
        """What `generate` makes a text of, as it was drawn.

        Args:
            tell: takes each byte as soon as it is there.

        Raises:
            UsageError: the model is none of language, or an argument is out of range.
        """
        if not self.encoder.context:
            raise UsageError(f"{self!r} is no language model, so it cannot go on with a text; train model='transformer' on text")
        check_generation(max_bytes, temperature, top_k)
        return go_on(
            self.module,
            prompt,
            context=self.encoder.context,
            max_bytes=max_bytes,
            temperature=temperature,
            top_k=top_k,
            generator=torch.Generator().manual_seed(seed),
            tell=tell,
        )

    def run(self, numbers: Tensor, categories: Tensor | None = None) -> Tensor:
        """The network's outputs for encoded rows, where its own tensors are and in float32 on the CPU when done. (rows, num_outputs)

        Args:
            numbers: as the encoder gives them. (rows, num_numbers)
            categories: int64 ids, for a network that takes any. (rows, num_categories)
        """
        like = next((tensor for tensor in self.module.parameters() if tensor.is_floating_point()), numbers)
        inputs = [numbers.to(like.device, like.dtype)]
        if categories is not None:
            inputs.append(categories.to(like.device))
        with torch.inference_mode():
            outputs: Tensor = self.module(*inputs).float().cpu()
        return outputs

    def evaluate(self, data: Any) -> dict[str, float]:
        """Metrics on rows whose target is known.

        Args:
            data: a part of a data set, the path of a CSV file, a DataFrame or an Arrow table, with the target column.

        Raises:
            DataError: the target is missing, or there are no rows.
        """
        encoded = self._encode(data, need_target=True)
        if encoded.targets is None or not len(encoded.targets):
            raise DataError("there is no row with a target to evaluate on; give rows with the target column, or a split that is not empty")
        weights, targets, size = None if encoded.weights is None else tensor_of(encoded.weights), tensor_of(encoded.targets), ROWS_AT_ONCE
        size = min(size, self.task.rows_at_once)
        parts = [
            self.task.kept(self.run(**inputs), known)
            for inputs, known in zip(inputs_of(encoded, size), torch.split(targets, size), strict=True)
        ]
        return self.task.metrics(torch.cat(parts), targets, weights)

    def signature(self) -> dict[str, Any]:
        """What goes in and what comes out, as JSON."""
        inputs = [{"name": column.name, "kind": column.kind} | _shape_of(column) for column in self.encoder.columns]
        classes = None if self.encoder.classes is None else list(self.encoder.classes)
        return {"inputs": inputs, "target": self.encoder.target, "task": self.encoder.task, "classes": classes}

    def save(self, folder: str | Path) -> Path:
        """Write the model as a folder, whole or not at all. One that is there is replaced.

        Raises:
            UsageError: `folder` is a file, or a folder that holds something other than a model.
            StorageError: it cannot be written.
        """
        description = {
            "config": self.config.model_dump(mode="json"),
            "encoder": self.encoder.to_json(),
            "task": self.task.name,
            "loss": self.task.loss_name,
            "signature": self.signature(),
            "manifest": Manifest.of(self.module).to_json(),
        }
        return write_model(Path(folder).expanduser(), description, self.module)

    @classmethod
    def load(cls, folder: str | Path, module: nn.Module | None = None) -> Self:
        """Read what `save` wrote.

        Args:
            folder: the model's.
            module: the network, for a model whose module the caller brought; its tensors are overwritten.

        Raises:
            NotFound: there is no model.
            UsageError: the module is missing, or has other tensors.
            DataError: a file of the model is damaged, or newer than this release.
        """
        path = Path(folder).expanduser()
        config, encoder, task = read_facts(path)
        if module is None and isinstance(config, CustomConfig):
            raise UsageError(f"{path} holds the tensors of {config.module}; pass the network too: aimass.load({str(path)!r}, module=...)")
        network = module
        if network is None:
            network = build_module(config, encoder.num_numbers, encoder.cardinalities, task.num_outputs(encoder.classes))
        fill(network, path, advice="save the model again" if module is None else "pass the network that was trained")
        return cls(module=network, encoder=encoder, config=config, task=task)

    def _encode(self, data: Any, *, need_target: bool) -> Encoded:
        from aimass.data import read_rows
        from aimass.data.dataset import Rows

        if isinstance(data, Rows):
            if self.encoder.context and data.encoder.context:
                return windows_of(data.text, self.encoder).encoded
            same = data.encoder is self.encoder or data.encoder.to_json() == self.encoder.to_json()
            return data.encoded if same else self.encoder.encode(data.table, rows=data.ids, places=data.places)
        holds_lists = isinstance(data, Mapping) and any(isinstance(value, list | tuple) for value in data.values())
        if not need_target and isinstance(data, Mapping) and (not holds_lists or self.encoder.has_images):
            return self.encoder.encode_rows([data])
        if not need_target and isinstance(data, Sequence) and not isinstance(data, str):
            return self.encoder.encode_rows(data)
        return read_rows(data, self.encoder, need_target=need_target).encoded

    def _prompts(self, data: Any) -> list[str]:
        """The texts that rows ask to go on with."""
        from aimass.data.dataset import Rows
        from aimass.data.source import open_source

        if isinstance(data, Rows):
            return [bytes(window).decode("utf-8", "replace") for window in data.encoded.categories]
        if isinstance(data, Mapping):
            return [prompt_of(data)]
        if isinstance(data, Sequence) and not isinstance(data, str):
            return [prompt_of(row) for row in data]
        raw = open_source(data)
        if TEXT not in raw.table.column_names:
            raise DataError(
                f"{raw.name} has no column {TEXT!r} with texts to go on with; there are: {listed(raw.table.column_names)}. "
                "A whole file goes on by generate, on the command line `aimass generate MODEL - < FILE`"
            )
        return [prompt_of(row) for row in raw.table.to_pylist()]

    def _outputs(self, encoded: Encoded) -> Tensor:
        parts = [self.run(**inputs) for inputs in inputs_of(encoded, ROWS_AT_ONCE)]
        return torch.cat(parts) if parts else torch.empty(0, self.task.num_outputs(self.encoder.classes))

    def __repr__(self) -> str:
        return f"Model({self.config.name}: {counted_inputs(self.encoder)} -> {self.encoder.task} {self.encoder.target!r})"


def _shape_of(column: FeatureColumn) -> dict[str, Any]:
    """Channels, height and width of a column of images."""
    return {"shape": list(column.shape)} if isinstance(column, ImageColumn) else {}

"""The task of a language model: which byte comes next. And how a text goes on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aimass.core.errors import UsageError
from aimass.data.text import END, NUM_BYTES
from aimass.models.losses import PRIMARY
from aimass.models.tasks import Task

if TYPE_CHECKING:
    from aimass.data.encoder import Encoder

_LARGEST_EXPONENT = 700.0
ANSWER_BYTES = 64
"""How far `Model.predict` goes on with a text."""


class Language(Task):
    """The next byte at each of T places, by 256 logits: the mean cross entropy in nats. Perplexity is e to its power, for a byte.

    What is kept of a row's outputs, (rows, 2), until all rows are measured, is its mean loss and its share of right bytes: the logits
    themselves would take 1 KB for each byte of text. Rows have no weights.

    >>> Language().loss(torch.zeros(2, 3, 256), torch.zeros(2, 3, dtype=torch.uint8))
    tensor(5.5452)
    """

    name = "language"
    primary = PRIMARY[name]
    rows_at_once = 64

    def num_outputs(self, classes: Sequence[Any] | None) -> int:
        return NUM_BYTES

    def losses(self, outputs: Tensor, targets: Tensor, reduction: str = "none") -> Tensor:
        logits = outputs.reshape(-1, NUM_BYTES)
        each = F.cross_entropy(
            logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits,
            targets.reshape(-1).long(),
            reduction="mean" if reduction == "mean" else "none",
        )
        return each if reduction == "mean" else each.reshape(targets.shape).mean(dim=1)

    def kept(self, outputs: Tensor, targets: Tensor) -> Tensor:
        right = (outputs.argmax(dim=2) == targets).float().mean(dim=1)
        return torch.stack([self.losses(outputs, targets).float(), right], dim=1)

    def loss(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        return outputs.double()[:, 0].mean() if outputs.ndim == 2 else super().loss(outputs, targets, weights)

    def answers(self, outputs: Tensor, encoder: Encoder) -> list[dict[str, Any]]:
        raise UsageError("a language model answers by going on with a text; call generate, or predict with rows that have a text")

    def _quick(self, outputs: Tensor, targets: Tensor, weights: Tensor | None) -> float:
        return self.loss(outputs, targets).item() / math.log(2)

    def _metrics(self, outputs: Tensor, targets: Tensor, weights: Any) -> dict[str, float]:
        kept = (outputs if outputs.ndim == 2 else self.kept(outputs, targets)).double()
        loss, right = kept.mean(dim=0).tolist()
        return {"bits_per_byte": loss / math.log(2), "perplexity": math.exp(min(loss, _LARGEST_EXPONENT)), "accuracy": right}


def check_generation(max_bytes: int, temperature: float, top_k: int | None) -> None:
    """Refuse what cannot steer a text.

    Raises:
        UsageError: one of them is out of range.
    """
    if not 1 <= max_bytes <= 1_000_000:
        raise UsageError(f"max_bytes={max_bytes}: give how many bytes to add, from 1 to 1,000,000")
    if not (math.isfinite(temperature) and temperature >= 0):
        raise UsageError(f"temperature={temperature}: give a number from 0 up; 0 always takes the likeliest byte")
    if top_k is not None and top_k < 1:
        raise UsageError(f"top_k={top_k}: give how many of the likeliest bytes may come next, from 1 up, or leave it out")


def go_on(
    module: nn.Module,
    prompt: bytes,
    *,
    context: int,
    max_bytes: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    generator: torch.Generator | None = None,
    tell: Callable[[bytes], None] | None = None,
) -> bytes:
    """The bytes that a network puts after others, until it ends the document.

    P(next = b) ∝ exp(z_b / temperature), over the `top_k` largest z. Each byte is drawn anew from the last `context` bytes.

    Args:
        module: gives logits (1, T, 256) of bytes (1, T); or has `follow`, which gives those of the next byte alone.
        prompt: what to go on with; nothing stands for the end of another document.
        context: the most bytes that the module sees.
        max_bytes: how many to add at most.
        temperature: 0 takes the likeliest.
        top_k: of how many of the likeliest; None for all.
        generator: the random numbers.
        tell: takes each byte as soon as it is drawn.
    """
    follow: Callable[[int], Any] = getattr(module, "follow", partial(_Anew, module))
    follower = follow(context)
    text = bytearray(prompt or END)
    first = len(text)
    with torch.inference_mode(), _one_thread():
        while len(text) - first < max_bytes:
            symbol = _draw(follower.logits(text).double().cpu(), temperature, top_k, generator)
            if symbol == END[0]:
                break
            text.append(symbol)
            if tell is not None:
                tell(bytes(text[-1:]))
    return bytes(text[first:])


class _Anew:
    """Follows a text with a module that keeps nothing: all of the window goes through it for each byte."""

    def __init__(self, module: nn.Module, context: int) -> None:
        self._module, self._context, self._device = module, context, next(module.parameters()).device

    def logits(self, text: bytearray) -> Tensor:
        window = torch.frombuffer(text[-self._context :], dtype=torch.uint8)[None].to(self._device)
        logits: Tensor = self._module(torch.empty(1, 0, device=self._device), window)[0, -1]
        return logits


def answer_texts(module: nn.Module, numbers: Tensor, symbols: Tensor) -> Tensor:
    """What `Model.predict` answers, for rows of a batch: the likeliest bytes after each text, at most 64.

    Args:
        module: gives logits of bytes.
        numbers: of which text has none. (rows, 0)
        symbols: the last bytes of each text, with zero bytes before it. (rows, context)

    Returns:
        the bytes as numbers, −1 after the last. float32 (rows, 64)
    """
    answers = torch.full((len(symbols), ANSWER_BYTES), -1.0)
    for answer, row in zip(answers, symbols.to(torch.uint8), strict=True):
        prompt = bytes(row.tolist()).lstrip(END)
        added = go_on(module, prompt, context=symbols.shape[1], max_bytes=ANSWER_BYTES, temperature=0.0)
        answer[: len(added)] = torch.tensor(list(added), dtype=torch.float32)
    return answers


def text_of(answer: Tensor) -> str:
    """The text in one row of what `answer_texts` gave.

    >>> text_of(torch.tensor([104.0, 105.0, -1.0]))
    'hi'
    """
    return bytes(int(symbol) for symbol in answer.tolist() if symbol >= 0).decode("utf-8", "replace")


@contextmanager
def _one_thread() -> Iterator[None]:
    """A single row is too little work for several threads, which on a busy machine would mostly wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _draw(logits: Tensor, temperature: float, top_k: int | None, generator: torch.Generator | None) -> int:
    """One byte of logits (256,)."""
    if not temperature:
        return int(logits.argmax())
    if top_k is not None and top_k < len(logits):
        logits = torch.where(logits >= logits.topk(top_k).values[-1], logits, -torch.inf)
    return int(torch.multinomial(torch.softmax(logits / temperature, dim=0), 1, generator=generator))

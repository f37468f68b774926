"""Bytes a second of a transformer that goes on with a text: with what its blocks found at earlier places, and from the whole window anew.

    python generation.py [--quick] [--json]

Both draw the same bytes from the same network, which has not learned anything, in turns and with one thread; what differs is that one of
them cannot be followed byte by byte. Timed by the CPU's time, in which other work on the machine counts for nothing. "Filling" begins
with four bytes and ends when the context is full; "sliding" begins with a full context, whose bytes change places with every byte.
"""

from __future__ import annotations

import os
import time
from functools import partial

from _measure import ONE_THREAD, arguments, interleave, median, show

os.environ.update(ONE_THREAD)  # read when torch and numpy are imported

import torch
from torch import Tensor, nn

from aimass.data.text import END
from aimass.models.language import go_on
from aimass.models.transformers import TransformerNetwork

SIZES = ((4, 4, 128, 128), (6, 8, 256, 512))  # layers, heads, width, context
_PROMPT, _SLIDING_BYTES = b"once", 16


class Endless(TransformerNetwork):
    """A network that never ends a document, so that each run is as long as it should be."""

    def __init__(self, layers: int, heads: int, width: int, context: int) -> None:
        super().__init__(layers=layers, heads=heads, width=width, context=context, tied=False)
        self.head.register_forward_hook(_without_end)


class Anew(nn.Module):
    """The same, of which nothing is kept from byte to byte."""

    def __init__(self, network: TransformerNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, numbers: Tensor, symbols: Tensor) -> Tensor:
        """Logits of all places."""
        logits: Tensor = self.network(numbers, symbols)
        return logits


def _without_end(_: nn.Module, __: object, logits: Tensor) -> Tensor:
    logits[..., END[0]] = -torch.inf
    return logits


def rate(module: nn.Module, context: int, prompt: bytes, num_bytes: int) -> tuple[float, bytes]:
    """Bytes a second of the CPU's time, and which they were."""
    generator = torch.Generator().manual_seed(1)
    start = time.process_time()
    found = go_on(module, prompt, context=context, max_bytes=num_bytes, generator=generator)
    return num_bytes / (time.process_time() - start), found


def main() -> None:
    """Time each size, and print a table."""
    options = arguments(__doc__.splitlines()[0]).parse_args()
    rounds, sizes = (1, SIZES[:1]) if options.quick else (3, SIZES)
    figures, rows = [], []
    for layers, heads, width, context in sizes:
        torch.manual_seed(0)
        network = Endless(layers, heads, width, context).eval()
        anew = Anew(network)
        cases = {"filling": (_PROMPT, context - len(_PROMPT)), "sliding": (_PROMPT * (context // len(_PROMPT)), _SLIDING_BYTES)}
        for name, (prompt, num_bytes) in cases.items():
            contestants = {
                "kept": partial(rate, network, context, prompt, num_bytes),
                "anew": partial(rate, anew, context, prompt, num_bytes),
            }
            found = interleave(contestants, rounds)
            if len({drawn for samples in found.values() for _, drawn in samples}) > 1:
                raise RuntimeError(f"{name}: the two drew other bytes")
            rates = {kind: median([one for one, _ in samples]) for kind, samples in found.items()}
            figures.append({"layers": layers, "heads": heads, "width": width, "context": context, "case": name, **rates})
            rows.append(
                {
                    "layers, width, context": f"{layers}, {width}, {context}",
                    "": name,
                    "kept, bytes/s": f"{rates['kept']:,.0f}",
                    "anew, bytes/s": f"{rates['anew']:,.0f}",
                    "ratio": f"{rates['kept'] / rates['anew']:.1f}",
                }
            )
    show("generation", [f"medians of {rounds}; both drew the same bytes"], rows, {"cases": figures}, as_json=options.json)


if __name__ == "__main__":
    main()

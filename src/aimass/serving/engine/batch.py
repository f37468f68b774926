"""Answering the requests of one batch. Whatever is wrong with one of them, or with its answer, stays with it."""

from __future__ import annotations

import sys
import time
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from aimass.core.errors import AimassError, TooLarge, unknown_name
from aimass.models.model import ROWS_AT_ONCE
from aimass.serving.engine.answers import Decisions, decide
from aimass.serving.engine.failures import ModelOutput, failure_of
from aimass.serving.engine.inputs import Wanted
from aimass.serving.frames import MAX_FRAME_BYTES
from aimass.serving.problems import problem

if TYPE_CHECKING:
    from aimass.serving.engine.models import LoadedModel
    from aimass.serving.engine.rows import Arrays
    from aimass.serving.frames import Ask

MOST_BODY_BYTES = MAX_FRAME_BYTES - 4096  # beside which a header has room


@dataclass(slots=True, eq=False)
class Question:
    """A request on its way through an engine.

    Args:
        asker: where the reply goes.
        ask: the header.
        body: the request.
        since_ns: when it came.
        num_rows: how many rows it has, once it is read.
        values: its rows, for the bulk encoder; None where `arrays` has them, or it failed.
        arrays: its rows, encoded.
        wanted: what an `infer` asks for.
        status: of the reply.
        reply: its body.
        json_length: how many bytes of that are JSON, where binary data follow.
    """

    asker: Any
    ask: Ask
    body: bytes
    since_ns: int
    num_rows: int = 0
    values: list[tuple[Any, ...]] | None = None
    arrays: Arrays | None = None
    wanted: Wanted | None = None
    status: int = 200
    reply: bytes = b""
    json_length: int = 0

    def fail(self, error: Exception) -> None:
        """Let the reply be an error, and the question have no rows."""
        if isinstance(error, AimassError):
            self.status, self.reply = failure_of(error)
        else:
            traceback.print_exception(error, file=sys.stderr)
            self.status, self.reply = 500, problem(500, "the engine failed on this request; its log has the trace", "internal")
        self.num_rows, self.values, self.arrays = 0, None, None


@dataclass(slots=True)
class Spent:
    """Where an engine's time went.

    Args:
        batches: how many there were.
        rows: how many rows they had.
        bytes: how many bytes those rows came in.
        model_s: processor seconds in the networks themselves.
    """

    batches: int = 0
    rows: int = 0
    bytes: int = 0
    model_s: float = 0.0


def read(loaded: LoadedModel, question: Question) -> None:
    """Turn a request's body into rows."""
    ask = question.ask
    try:
        if ask.kind == "predict":
            found = loaded.predict_reader.read(question.body)
        elif ask.kind == "infer":
            found, question.wanted = loaded.infer_reader.read(question.body, ask.json_length)
        else:
            raise unknown_name("kind of request", ask.kind, ("predict", "infer"))
    except Exception as error:  # noqa: BLE001 - the request alone fails, and says why
        question.fail(error)
        return
    if isinstance(found, list):
        question.values, question.num_rows = found, len(found)
    else:
        question.arrays, question.num_rows = found, len(found[0])


def answer(loaded: LoadedModel, questions: list[Question], spent: Spent) -> None:
    """Give each question that was read its reply."""
    going = _encode(loaded, questions)
    if not going:
        return
    try:
        _write(loaded, going, decide(loaded.model, _run(loaded, going, spent)))
    except Exception as error:  # noqa: BLE001 - each request is tried alone, and says why it fails
        if len(going) == 1:
            going[0].fail(error)
            return
        for question in going:
            answer(loaded, [question], spent)
        return


def _encode(loaded: LoadedModel, questions: list[Question]) -> list[Question]:
    """Encode all rows that wait for it at once. Returns the questions that have rows, as their arrays stand one after another."""
    quick = [question for question in questions if question.values is not None]
    if quick:
        rows = quick[0].values if len(quick) == 1 else [row for question in quick for row in question.values or ()]
        assert rows is not None
        arrays = loaded.bulk.encode(rows)
        if arrays is not None:
            others = [question for question in questions if question.arrays is not None]
            quick[0].arrays = arrays
            return quick + others
        for question in quick:
            _encode_carefully(loaded, question)
    return [question for question in questions if question.arrays is not None]


def _encode_carefully(loaded: LoadedModel, question: Question) -> None:
    try:
        question.arrays, question.values = loaded.predict_reader.read_carefully(question.body), None
    except Exception as error:  # noqa: BLE001 - the request alone fails, and says why
        question.fail(error)


def _run(loaded: LoadedModel, questions: list[Question], spent: Spent) -> torch.Tensor:
    """The network's outputs for all rows. float32 (num_rows, num_outputs)"""
    parts = [question.arrays for question in questions if question.arrays is not None]
    numbers, categories = parts[0]
    if len(parts) > 1:
        numbers = np.concatenate([part[0] for part in parts])
        categories = np.concatenate([part[1] for part in parts])
    values = torch.from_numpy(numbers)
    ids = torch.from_numpy(categories) if categories.shape[1] else None
    began = time.thread_time()
    with torch.inference_mode():
        if len(values) <= ROWS_AT_ONCE:
            outputs = loaded.forward(values) if ids is None else loaded.forward(values, ids)
        else:
            places = [slice(start, start + ROWS_AT_ONCE) for start in range(0, len(values), ROWS_AT_ONCE)]
            outputs = torch.cat(
                [loaded.forward(*(each[place] for each in ((values,) if ids is None else (values, ids)))) for place in places]
            )
    spent.model_s += time.thread_time() - began
    return outputs


def _write(loaded: LoadedModel, questions: list[Question], decisions: Decisions) -> None:
    answers: list[Any] | None = None
    start = 0
    for question in questions:
        end = start + question.num_rows
        if decisions.finite is not None and not decisions.finite[start:end].all():
            question.fail(
                ModelOutput(
                    "the model's output is not finite for these rows, so it is no answer; train it again, or deploy another version"
                )
            )
        elif question.wanted is None:
            if answers is None:
                answers = loaded.predict_writer.answers(decisions)
            question.reply = loaded.predict_writer.body(answers[start:end])
        else:
            question.reply, question.json_length = loaded.infer_writer.body(decisions.of(start, end), question.wanted)
        if len(question.reply) > MOST_BODY_BYTES:
            size = f"the answers take {len(question.reply) / 1e6:.0f} MB, and {MOST_BODY_BYTES / 1e6:.0f} MB are the most"
            question.fail(TooLarge(f"{size}; send fewer rows at a time"))
        start = end

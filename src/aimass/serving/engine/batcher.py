"""Which questions run together.

All that were read in one tick of the loop are one batch for each model: alone, a request runs at once, and while a batch runs,
the next one gathers in the socket. A batch has as many rows as the model's pace allows; models take turns.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from aimass.serving.engine.batch import Question, Spent, answer, read
from aimass.serving.engine.failures import NotLoaded, failure_of
from aimass.serving.frames import Ask, Reply, frame

if TYPE_CHECKING:
    from aimass.serving.engine.models import LoadedModel, Models


class Asker(Protocol):
    """Where replies go: they are collected, and sent by `flush`."""

    gone: bool

    def put(self, data: bytes) -> None:
        """Keep a reply's frame for the next `flush`."""

    def flush(self) -> None:
        """Send what was put."""


class Batcher:
    """The queues of an engine.

    Args:
        models: those that answer.
        emptied: called when no question waits any more.
    """

    def __init__(self, models: Models, emptied: Callable[[], None]) -> None:
        self._models, self._emptied = models, emptied
        self._queues: dict[str, deque[Question]] = {}
        self._loop = asyncio.get_running_loop()
        self._is_due = False
        self.spent = Spent()
        self.waiting_bytes = 0

    @property
    def is_empty(self) -> bool:
        """Whether no question waits."""
        return not self._queues

    def put(self, asker: Asker, ask: Ask, body: bytes) -> None:
        """Take a question; it is answered in the next tick, or a later one."""
        queue = self._queues.get(ask.model)
        if queue is None:
            queue = self._queues[ask.model] = deque()
        queue.append(Question(asker, ask, body, time.perf_counter_ns()))
        self.waiting_bytes += len(body)

    def run(self) -> None:
        """Answer what was put, one batch a model; what is left over runs in the next tick, after the socket was read again."""
        if self._is_due:
            return
        for model in list(self._queues):
            self._run_one(model)
        if not self._queues:
            self._emptied()
        else:
            self._is_due = True
            self._loop.call_soon(self._go_on)

    def queued_rows(self) -> int:
        """About how many rows wait: as many bytes as wait, by what a row has had until now."""
        spent = self.spent
        by_bytes = self.waiting_bytes * spent.rows // spent.bytes if spent.bytes else 0
        return max(by_bytes, sum(map(len, self._queues.values())))

    def finish(self, model: str) -> None:
        """Answer what waits for one model now, as before it goes."""
        while model in self._queues:
            self._run_one(model)

    def _go_on(self) -> None:
        self._is_due = False
        self.run()

    def _run_one(self, model: str) -> None:
        """One batch of a model, from its bodies to the replies on their way."""
        queue = self._queues[model]
        loaded = self._models.find(model)
        began = time.perf_counter_ns()
        questions = self._read(loaded, queue, 1 if loaded is None else loaded.pace.rows)
        more_waited = bool(queue)
        if not more_waited:
            del self._queues[model]
        rows = sum(question.num_rows for question in questions)
        if loaded is not None and rows:
            answer(loaded, questions, self.spent)
        took_ns = time.perf_counter_ns() - began
        if loaded is not None and rows:
            loaded.pace.note(rows, took_ns / 1e9, more_waited)
            loaded.requests += len(questions)
        self.spent.batches += 1
        self.spent.rows += rows
        _reply(questions, rows, began, took_ns)

    def _read(self, loaded: LoadedModel | None, queue: deque[Question], most_rows: int) -> list[Question]:
        """Questions from the queue, read, with no more rows than that unless the first has more."""
        taken: list[Question] = []
        rows = 0
        while queue and rows < most_rows:
            question = queue.popleft()
            self.waiting_bytes -= len(question.body)
            if question.asker.gone:
                continue
            if loaded is None:
                question.status, question.reply = failure_of(
                    NotLoaded(f"this engine does not hold the model {question.ask.model!r}; try again")
                )
            else:
                self.spent.bytes += len(question.body)
                read(loaded, question)
                rows += question.num_rows
            taken.append(question)
        return taken


def _reply(questions: list[Question], rows: int, began_ns: int, took_ns: int) -> None:
    askers: dict[Any, None] = {}
    for question in questions:
        own = question.num_rows
        share_us = took_ns * own // (rows * 1000) if own else 0
        waited_us = (began_ns - question.since_ns) // 1000
        reply = Reply(question.ask.id, question.status, own, share_us, question.json_length, rows, waited_us)
        question.asker.put(frame(reply, question.reply))
        askers[question.asker] = None
    for asker in askers:
        asker.flush()

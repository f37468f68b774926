"""The rounds of all-reduce, between threads whose gradients are the means of their rows' numbers."""

import threading

import numpy as np
import pytest
import torch
from torch import nn
from training.groups import make_workers, together

import aimass
from aimass.models.learner import Learner
from aimass.models.tasks import build_task
from aimass.optim.config import ClipConfig
from aimass.parameters.counts import ROWS, STEPS
from aimass.parameters.layout import GENERATION, SLOT_REFUSED, STOP
from aimass.parameters.replicas import CLOCK, DEADLINE_NS, DONE
from aimass.training.leases.plan import LeasePlan
from aimass.training.leases.replicas import ReplicaTable
from aimass.training.leases.rows import TrainingRows
from aimass.training.replicas.exchange import Exchange
from aimass.training.workers.worker import Worker


class MeanOfRows(Learner):
    """Its gradient is the mean of the rows' numbers in every parameter, and NaN where a bad row is among them."""

    bad = frozenset()

    def gradient(self, batch):
        rows = batch["rows"].tolist()
        self.gradient_vector.fill_(float("nan") if self.bad.intersection(rows) else float(np.mean(rows)) / 100)
        return 1.0, self.gradient_vector


@pytest.fixture(scope="module")
def rows():
    return TrainingRows.of(aimass.data.load("wine").train.encoded)


def open_workers(rows, count, plan, accumulate=1, clip=None, bad=()):
    """Workers with replicas of ten parameters, which begin at 0."""
    made = []
    for server in make_workers(count, optimizer="sgd"):
        learner = MeanOfRows(nn.Linear(9, 1), build_task("regression"))
        learner.bind(server.p, server.gradient)
        server.p.zero_()
        learner.bad = frozenset(bad)
        table = ReplicaTable(server, plan, 60.0, accumulate)
        made.append(Worker(learner=learner, server=server, leases=table, rows=rows, clip=clip or ClipConfig(), slot=server.slot))
    made[0].leases.release_all()
    made[0].leases.open(10**6)
    return made


def work(worker, after_round=lambda worker: None):
    with Exchange(worker) as exchange:
        for part in exchange.parts():
            found = exchange.compute(part)
            if exchange.sum(part, found):
                exchange.commit(part, found)
            after_round(worker)


def train(workers):
    together(*[lambda worker=worker: work(worker) for worker in workers])


def expected_p(rows, workers, accumulate=1, clip=None, bad=()):
    """What one process gets on the rows of each round put together, without the batches of the refused parts."""
    table, p, count = workers[0].leases, 0.0, len(workers)
    done = 0
    while done < table.plan.total_batches:
        end = min(done + count * accumulate, (done // table.plan.batches_per_epoch + 1) * table.plan.batches_per_epoch, 17)
        per = -(-(end - done) // count)
        parts = [range(first, min(first + per, end)) for first in range(done, end, per)]
        ids = [rows.take(torch.from_numpy(np.concatenate([table.rows(number) for number in part])))["rows"].tolist() for part in parts]
        good = [row for part in ids if not set(bad).intersection(part) for row in part]
        if good:
            gradient = np.mean(good) / 100
            norm = abs(gradient) * 10**0.5
            p -= 0.1 * (gradient if clip is None or norm <= clip else gradient * clip / norm)
        done = end
    return p


PLAN = LeasePlan(num_rows=124, batch_size=20, batches_per_lease=2, seed=4, total_batches=17)  # 7 batches an epoch, the last one of 4 rows


@pytest.mark.parametrize(("count", "accumulate", "clip"), [(1, 1, None), (2, 1, None), (2, 3, None), (3, 2, 1.5)])
def test_replicas_meet_the_mean_of_each_rounds_rows_and_all_is_counted(rows, count, accumulate, clip):
    workers = open_workers(rows, count, PLAN, accumulate, ClipConfig(norm=clip))
    train(workers)
    expected = expected_p(rows, workers, accumulate, clip)
    for worker in workers:
        torch.testing.assert_close(worker.server.p, torch.full((10,), expected), atol=1e-5, rtol=1e-5)
        assert torch.equal(worker.server.p, workers[0].server.p)
        assert worker.server.done == 17
    words, counts = workers[0].server.words, [worker.server.counted(worker.slot) for worker in workers]
    assert sum(words[at + STEPS] for at in counts) == 17
    assert sum(words[at + ROWS] for at in counts) == 2 * 124 + 3 * 20


def test_a_loss_is_counted_before_the_round_that_it_is_of_is_done(rows):
    workers, seen = open_workers(rows, 2, PLAN), []

    def note(worker, report):
        def noted(**found):
            seen.append(worker.server.done_of(worker.slot))
            report(**found)

        worker.report = noted

    for worker in workers:
        note(worker, worker.report)
    train(workers)
    assert 17 not in seen
    words, slot = workers[1].server.words, workers[1].server.layout.slot(1)
    assert workers[0].server.present() == [17, 17]
    workers[0].leases.settle()
    words[slot + DONE] = 15
    threading.Timer(0.1, words.__setitem__, (slot + DONE, 17)).start()
    workers[0].leases.settle()
    assert workers[0].server.present() == [17, 17]


def test_each_batch_of_a_part_has_the_whole_time(rows):
    workers, deadlines = open_workers(rows, 2, PLAN, accumulate=3), ([], [])

    def note(worker, gradient):
        def noted(batch):
            deadlines[worker.slot].append(worker.server.words[worker.server.layout.slot(worker.slot) + DEADLINE_NS])
            return gradient(batch)

        worker.learner.gradient = noted

    for worker in workers:
        note(worker, worker.learner.gradient)
    train(workers)
    assert sum(map(len, deadlines)) == 17
    assert all(sorted(set(found)) == found for found in deadlines)


def test_what_is_not_finite_from_one_worker_counts_for_nothing_and_is_counted_for_it(rows):
    bad = [int(rows.take(torch.tensor([0]))["rows"])]
    workers = open_workers(rows, 2, PLAN, bad=bad)
    train(workers)
    expected = expected_p(rows, workers, bad=bad)
    assert expected != pytest.approx(expected_p(rows, workers), abs=1e-4)
    for worker in workers:
        torch.testing.assert_close(worker.server.p, torch.full((10,), expected), atol=1e-5, rtol=1e-5)
    refused = [worker.server.words[worker.server.layout.slot(worker.slot) + SLOT_REFUSED] for worker in workers]
    assert sum(refused) == sum(0 in workers[0].leases.rows(number) for number in range(17)) > 0


def test_a_round_that_all_refuse_changes_nothing_and_the_run_goes_on(rows):
    everything = rows.take(torch.arange(124))["rows"].tolist()
    workers = open_workers(rows, 2, PLAN, bad=everything)
    train(workers)
    for worker in workers:
        assert not worker.server.p.any()
        assert worker.server.words[worker.server.layout.slot(worker.slot) + CLOCK] == 0
        assert worker.server.done == 17


def test_all_leave_after_the_same_round_when_the_run_is_stopped(rows):
    workers = open_workers(rows, 3, PLAN)

    def stop_soon(worker):
        if worker.slot == 1 and worker.server.done >= 6:
            worker.server.words[STOP] = 1

    together(*[lambda worker=worker: work(worker, stop_soon) for worker in workers])
    done = {worker.server.done for worker in workers}
    assert len(done) == 1
    assert 6 <= done.pop() < 17


def test_a_part_comes_again_where_its_round_broke(rows):
    workers = open_workers(rows, 2, PLAN)
    broken = []

    def lose(worker):
        if worker.slot == 0 and worker.server.done >= 5 and not broken:
            broken.append(worker.server.done)
            worker.server.words[GENERATION] += 1  # as the driver does when it buries a worker

    together(*[lambda worker=worker: work(worker, lose) for worker in workers])
    assert broken
    torch.testing.assert_close(workers[1].server.p, torch.full((10,), expected_p(rows, workers)), atol=1e-5, rtol=1e-5)

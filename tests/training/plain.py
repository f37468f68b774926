"""What runs are compared with: a plain PyTorch loop over the same rows."""

import copy

import numpy as np
import torch
from torch.nn import functional as F

import aimass
from aimass.training.opening import open_learner, plan_leases
from aimass.training.settling import settle


def train_plainly(data, settings, reference, leases_at_once=None, clip=lambda parameters: None):
    """The parameters, by name, after one step of `reference` on each batch of a run, or on each so many leases put together.

    Args:
        data: for a multiclass task.
        settings: the run's.
        reference: makes an optimizer for parameters.
        leases_at_once: how many leases of an epoch make a round; the last round of an epoch may have fewer.
        clip: changes the parameters' gradients before each step.
    """
    config, _ = settle(settings)
    torch.manual_seed(config.seed)
    module = copy.deepcopy(open_learner(config, data, aimass.models.tasks.build_task("multiclass"), None).module)
    for parameter in module.parameters():
        parameter.data, parameter.grad = parameter.data.clone(), None
    plan = plan_leases(config, len(data.train))
    numbers, targets = torch.from_numpy(data.train.encoded.numbers), torch.from_numpy(data.train.encoded.targets)
    trained = reference(module.parameters())
    for rows in _batches(plan, leases_at_once):
        trained.zero_grad()
        F.cross_entropy(module(numbers[rows]), targets[rows]).backward()
        clip(list(module.parameters()))
        trained.step()
    return dict(module.named_parameters())


def two_leases_at_once(plan, per_batch):
    """Before each exchange of a run of two workers the batches of each, where each takes a lease of an epoch."""
    epochs = range(0, plan.num_leases, plan.leases_per_epoch)
    for start in (lease for epoch in epochs for lease in range(epoch, epoch + plan.leases_per_epoch, 2)):
        end = start - start % plan.leases_per_epoch + plan.leases_per_epoch
        yield [torch.from_numpy(plan.rows(lease)).split(per_batch) for lease in range(start, min(start + 2, end))]


def average_plainly(data, settings, exchanges, rate=0.05, momentum=0.9, reset=False):
    """The parameters, by name, after workers took steps with momentum from the same p and the same velocity, and met again.

    Args:
        data: for a multiclass task.
        settings: the run's.
        exchanges: of its plan, before each exchange the batches of each worker; p and velocity are averaged by their rows.
        rate, momentum: of the steps.
        reset: whether the velocity is nought again after each exchange.
    """
    config, _ = settle(settings)
    module = open_learner(config, data, aimass.models.tasks.build_task("multiclass"), None).module
    parameters = list(module.parameters())
    p = torch.nn.utils.parameters_to_vector(parameters).detach().clone()
    velocity = torch.zeros_like(p)
    numbers, targets = torch.from_numpy(data.train.encoded.numbers), torch.from_numpy(data.train.encoded.targets)
    for workers in exchanges(plan_leases(config, len(data.train))):
        found = []
        for batches in workers:
            w, v = p.clone(), velocity.clone()
            for rows in batches:
                torch.nn.utils.vector_to_parameters(w, parameters)
                gradient = torch.autograd.grad(F.cross_entropy(module(numbers[rows]), targets[rows]), parameters)
                v = momentum * v + torch.cat([g.reshape(-1) for g in gradient])
                w = w - rate * v
            found.append((sum(map(len, batches)), w, v))
        total = sum(weight for weight, _, _ in found)
        p = sum(weight * w for weight, w, _ in found) / total
        velocity = torch.zeros_like(p) if reset else sum(weight * v for weight, _, v in found) / total
    torch.nn.utils.vector_to_parameters(p, parameters)
    return dict(module.named_parameters())


def _batches(plan, leases_at_once):
    lease = 0
    while lease < plan.num_leases:
        left = plan.leases_per_epoch - lease % plan.leases_per_epoch
        together = range(lease, min(lease + min(leases_at_once or 1, left), plan.num_leases))
        rows = torch.cat([torch.from_numpy(plan.rows(number)) for number in together])
        yield from rows.split(plan.batch_size) if leases_at_once is None else [rows]
        lease = together.stop


def assert_same(model, parameters, tolerance=1e-6):
    """That a model has these parameters."""
    ours = dict(model.module.named_parameters())
    for name, expected in parameters.items():
        torch.testing.assert_close(ours[name], expected, atol=tolerance, rtol=tolerance)


def weighed_rows():
    """150 rows of three classes, of which one may count fifty times as much as another, and some count for nothing."""
    draws = np.random.default_rng(0)
    columns = {f"x{number}": draws.normal(size=150).tolist() for number in range(4)}
    columns |= {
        "kind": draws.choice(["a", "b", "c"], 150).tolist(),
        "weight": (draws.uniform(0.1, 5, 150) * (draws.random(150) < 0.9)).tolist(),
    }
    return aimass.data.load(columns, "kind", weight="weight", task="multiclass")

"""The flat view of a module, against autograd and torch.optim on the module itself."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from aimass.core.errors import UsageError
from aimass.data.batch import Encoded
from aimass.models.learner import Learner
from aimass.models.networks import LinearNetwork, MLPNetwork
from aimass.models.tasks import build_task
from aimass.optim.config import OptimizerConfig
from aimass.optim.update import build_update

ROWS, NUMBERS, CLASSES = 24, 5, 3


class Tied(nn.Module):
    """One weight under two names, used in both directions."""

    def __init__(self):
        super().__init__()
        self.inward = nn.Linear(NUMBERS, NUMBERS)
        self.outward = nn.Linear(NUMBERS, NUMBERS, bias=False)
        self.outward.weight = self.inward.weight
        self.head = nn.Linear(NUMBERS, CLASSES)

    def forward(self, numbers):
        return self.head(torch.tanh(self.outward(torch.tanh(self.inward(numbers)))))


class WithUnused(nn.Module):
    def __init__(self):
        super().__init__()
        self.unused = nn.Linear(7, 7)
        self.head = nn.Linear(NUMBERS, CLASSES)

    def forward(self, numbers):
        return self.head(numbers)


def mlp(**settings):
    torch.manual_seed(1)
    return MLPNetwork(NUMBERS, [], CLASSES, hidden=(8, 6), activation="tanh", **settings)


def some_batch(seed=0, weights=False, rows=ROWS):
    generator = torch.Generator().manual_seed(seed)
    return {
        "inputs": {"numbers": torch.randn(rows, NUMBERS, generator=generator)},
        "targets": torch.randint(0, CLASSES, (rows,), generator=generator),
        "rows": torch.arange(rows),
        "weights": torch.rand(rows, generator=generator) if weights else None,
    }


def learner_of(module, **options):
    return Learner(module, build_task("multiclass"), **options)


def autograd(module, batch):
    """Loss and gradients of an unbound module by name."""
    module = deepcopy(module).train()
    module.zero_grad()
    loss = F.cross_entropy(module(batch["inputs"]["numbers"].to(next(module.parameters()).dtype)).float(), batch["targets"])
    loss.backward()
    grads = {name: p.grad if p.grad is not None else torch.zeros_like(p) for name, p in module.named_parameters() if p.requires_grad}
    return loss.item(), grads


# ------------------------------------------------------------------------------------------------------------ gradients


@pytest.mark.parametrize("make", [mlp, Tied, WithUnused, lambda: mlp(layer_norm=True)], ids=["mlp", "tied", "unused", "norm"])
def test_the_flat_gradient_is_autograds(make):
    module, batch = make(), some_batch()
    expected_loss, expected = autograd(module, batch)
    learner = learner_of(module)
    learner.gradient_vector.fill_(123.0)
    for _ in range(2):
        loss, gradient = learner.gradient(batch)
        assert loss == pytest.approx(expected_loss, rel=1e-6)
        named = learner.named(gradient)
        assert named.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(named[name], value)


def test_nothing_is_copied_on_the_cpu():
    learner = learner_of(mlp())
    start, end = learner.parameters.data_ptr(), learner.parameters.data_ptr() + 4 * learner.manifest.num_parameters
    assert all(start <= tensor.data_ptr() < end for tensor in learner.module.parameters())
    learner.gradient(some_batch())
    start = learner.gradient_vector.data_ptr()
    assert all(start <= tensor.grad.data_ptr() < start + 4 * learner.manifest.num_parameters for tensor in learner.module.parameters())


def test_both_names_of_tied_weights_stay_tied():
    learner = learner_of(Tied())
    learner.parameters.fill_(0.25)
    assert torch.equal(learner.module.outward.weight, torch.full((NUMBERS, NUMBERS), 0.25))
    assert learner.module.outward.weight is learner.module.inward.weight
    assert "outward.weight" not in learner.named(learner.parameters)


def test_parameters_that_share_memory_add_up_their_gradients():
    module = Tied()
    expected = autograd(module, some_batch())[1]["inward.weight"]
    module.outward.weight = nn.Parameter(module.inward.weight.data)
    learner = learner_of(module)
    torch.testing.assert_close(learner.named(learner.gradient(some_batch())[1])["inward.weight"], expected)


def test_frozen_parameters_do_not_move():
    module = mlp()
    module.layers[0].requires_grad_(False)
    before = module.layers[0].weight.clone()
    learner = learner_of(module)
    learner.gradient(some_batch())
    learner.parameters.zero_()
    assert torch.equal(module.layers[0].weight, before)
    assert module.layers[0].weight.grad is None


def test_weights_of_rows_count():
    module, batch = mlp(), some_batch(weights=True)
    batch["weights"][:4] = 0
    each = F.cross_entropy(module(batch["inputs"]["numbers"]), batch["targets"], reduction="none")
    expected = (each * batch["weights"]).sum() / batch["weights"].sum()
    gradients = torch.autograd.grad(expected, list(module.parameters()))
    names = [name for name, _ in module.named_parameters()]
    learner = learner_of(module)
    loss, gradient = learner.gradient(batch)
    assert loss == pytest.approx(expected.item())
    for name, value in zip(names, gradients, strict=True):
        torch.testing.assert_close(learner.named(gradient)[name], value)


def test_categories_reach_the_module():
    module = LinearNetwork(NUMBERS, (3, 4), CLASSES)
    batch = some_batch()
    batch["inputs"]["categories"] = torch.tensor([[1, 3]]).expand(ROWS, 2)
    learner = learner_of(module)
    gradient = learner.named(learner.gradient(batch)[1])["categories"]
    assert torch.nonzero(gradient.abs().sum(dim=1)).flatten().tolist() == [1, 6]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.bfloat16, 2e-2)])
def test_other_precisions_hold_a_cast_copy(dtype, tolerance):
    reference, batch = mlp(), some_batch()
    expected_loss, expected = autograd(reference, batch)
    module = deepcopy(reference).to(dtype)
    learner = learner_of(module)
    assert learner.parameters.dtype == torch.float32
    learner.gradient(some_batch(seed=7))
    loss, gradient = learner.gradient(batch)
    assert gradient.dtype == torch.float32
    assert loss == pytest.approx(expected_loss, abs=tolerance)
    for name, value in learner.named(gradient).items():
        torch.testing.assert_close(value, expected[name], atol=tolerance, rtol=tolerance)
    assert {tensor.dtype for tensor in learner.module.parameters()} == {dtype}
    learner.parameters.zero_()
    assert learner.gradient(batch)[0] == pytest.approx(np.log(CLASSES), abs=1e-3)
    assert torch.equal(learner.outputs(batch["inputs"]).float(), torch.zeros(ROWS, CLASSES))


def test_a_module_of_two_precisions():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = nn.Linear(NUMBERS, 4), nn.Linear(4, CLASSES).double()

        def forward(self, numbers):
            return self.head(torch.tanh(self.body(numbers)).double())

    batch, module = some_batch(), Mixed()
    _, expected = autograd(module, batch)
    learner = learner_of(module)
    for name, value in learner.named(learner.gradient(batch)[1]).items():
        torch.testing.assert_close(value, expected[name].float())
    assert module.head.weight.dtype == torch.float64


# -------------------------------------------------------------------------------------------------------------- training


@pytest.mark.parametrize(
    ("settings", "optimizer_class", "keywords"),
    [
        ({"name": "sgd", "lr": 0.1}, torch.optim.SGD, {"lr": 0.1}),
        ({"name": "sgd", "lr": 0.1, "weight_decay": 0.1}, torch.optim.SGD, {"lr": 0.1, "weight_decay": 0.1}),
        ({"name": "momentum", "lr": 0.1}, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
        ({"name": "adam", "lr": 0.01}, torch.optim.Adam, {"lr": 0.01}),
        ({"name": "adamw", "lr": 0.01, "weight_decay": 0.1}, torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.1}),
    ],
    ids=["sgd", "sgd_decay", "momentum", "adam", "adamw"],
)
@pytest.mark.parametrize("make", [mlp, Tied], ids=["mlp", "tied"])
def test_twenty_steps_equal_torch(settings, optimizer_class, keywords, make):
    config = OptimizerConfig(decay_bias=True, **settings)
    module = make()
    peer = deepcopy(module)
    learner, update = learner_of(module), build_update(config)
    states = [torch.zeros_like(learner.parameters) for _ in update.states]
    optimizer = optimizer_class(peer.parameters(), **keywords)
    for step in range(1, 21):
        batch = some_batch(seed=step)
        gradient = learner.gradient(batch)[1]
        for group in learner.manifest.groups:
            part = slice(group.start, group.stop)
            decay = config.weight_decay_of(group.name)
            update.apply(learner.parameters[part], gradient[part], [s[part] for s in states], step, config.learning_rate, decay)
        optimizer.zero_grad()
        F.cross_entropy(peer(batch["inputs"]["numbers"]), batch["targets"]).backward()
        optimizer.step()
    for name, tensor in peer.named_parameters():
        torch.testing.assert_close(learner.named(learner.parameters)[name], tensor.detach(), rtol=1e-6, atol=1e-6)


# --------------------------------------------------------------------------------------------------------------- binding


def test_given_vectors_are_used():
    size = learner_of(mlp()).manifest.num_parameters
    p, g = torch.empty(size), torch.empty(size)
    learner = learner_of(mlp(), parameters=p, gradient=g)
    assert learner.gradient(some_batch())[1] is g
    torch.testing.assert_close(p, learner_of(mlp()).parameters)


def test_binding_again_keeps_the_modules_values():
    learner = learner_of(mlp())
    before = learner.parameters.clone()
    p, g = torch.zeros_like(before), torch.zeros_like(before)
    learner.bind(p, g)
    assert torch.equal(p, before)
    p.mul_(2)
    assert torch.equal(learner.module.layers[0].weight, learner.named(2 * before)["layers.0.weight"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_binding_without_copying_takes_the_vectors_values(dtype):
    learner = learner_of(mlp().to(dtype))
    p = torch.full_like(learner.parameters, 0.5)
    learner.bind(p, torch.zeros_like(p), copy_module=False)
    assert torch.equal(learner.module.layers[0].weight, torch.full((8, NUMBERS), 0.5, dtype=dtype))


def test_vectors_that_do_not_fit_are_refused():
    learner = learner_of(mlp())
    size = learner.manifest.num_parameters
    for wrong in (torch.zeros(size + 1), torch.zeros(size, dtype=torch.float64), torch.zeros(2 * size)[::2]):
        with pytest.raises(UsageError, match=f"parameters must be a contiguous float32 vector of {size} elements"):
            learner.bind(wrong, learner.gradient_vector)


def test_a_module_with_nothing_to_train():
    with pytest.raises(UsageError, match="no trainable parameter; set requires_grad=True"):
        learner_of(mlp().requires_grad_(False))


def test_devices_that_are_not_there():
    with pytest.raises(UsageError, match="no device 'gpu'; give 'auto', 'cpu', 'cuda'"):
        learner_of(mlp(), device="gpu")
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="'cuda' is not here"):
            learner_of(mlp(), device="cuda")


# ----------------------------------------------------------------------------------------------------- names and buffers


def test_named_tensors_can_be_put_back():
    one, other = learner_of(mlp()), learner_of(mlp().double())
    one.parameters.normal_()
    other.load_named(one.named(one.parameters))
    assert torch.equal(one.parameters, other.parameters)
    torch.testing.assert_close(other.module.layers[0].weight.float(), one.module.layers[0].weight)


def test_named_tensors_that_do_not_fit():
    learner = learner_of(mlp())
    tensors = {name: value.clone() for name, value in learner.named(learner.parameters).items()}
    before = learner.parameters.clone()
    with pytest.raises(UsageError, match=r"'layers.0.weight' has shape \(2, 2\) and the module needs \(8, 5\)"):
        learner.load_named({**tensors, "layers.2.weight": torch.zeros(6, 8), "layers.0.weight": torch.zeros(2, 2)})
    del tensors["layers.0.weight"]
    with pytest.raises(UsageError, match=r"'layers.0.weight' is missing; there are: layers.0.bias"):
        learner.load_named(tensors)
    assert torch.equal(learner.parameters, before)


def test_buffers_of_a_batch_norm():
    module = nn.Sequential(nn.Linear(NUMBERS, 4), nn.BatchNorm1d(4), nn.Linear(4, CLASSES))
    learner = learner_of(module)
    fresh, counts = learner.float_buffers(), learner.integer_buffers()
    learner.gradient(some_batch())
    assert not torch.equal(learner.float_buffers(), fresh)
    assert learner.integer_buffers() == {"1.num_batches_tracked": torch.tensor(1)}
    learner.set_float_buffers(fresh)
    learner.set_integer_buffers(counts)
    assert torch.equal(module[1].running_var, torch.ones(4))
    learner.outputs(some_batch()["inputs"])
    assert torch.equal(learner.float_buffers(), fresh)


# ------------------------------------------------------------------------------------------------------------ evaluation


def test_outputs_are_without_dropout_and_leave_each_modes_of_a_part_alone():
    module = mlp(dropout=0.5)
    module.layers[0].eval()
    learner = learner_of(module)
    inputs = some_batch()["inputs"]
    assert torch.equal(learner.outputs(inputs), learner.outputs(inputs))
    assert not learner.outputs(inputs).requires_grad
    assert (module.training, module.layers[0].training, module.layers[2].training) == (True, False, True)


def test_a_module_in_evaluation_mode_is_switched_to_training():
    assert learner_of(mlp(dropout=0.5).eval()).module.layers[2].training


@pytest.mark.parametrize("weighted", [False, True])
def test_evaluation_in_parts_is_evaluation_of_the_whole(weighted):
    batch = some_batch(weights=weighted, rows=50)
    encoded = Encoded(
        numbers=batch["inputs"]["numbers"].numpy(),
        categories=np.empty((50, 0), dtype=np.int64),
        targets=batch["targets"].numpy(),
        rows=np.arange(50),
        weights=batch["weights"].numpy() if weighted else None,
    )
    learner = learner_of(mlp())
    found = learner.evaluate(encoded, batch_size=7)
    outputs = learner.outputs(batch["inputs"])
    right = (outputs.argmax(1) == batch["targets"]).float()
    w = batch["weights"] if weighted else torch.ones(50)
    assert found["accuracy"] == pytest.approx(((right * w).sum() / w.sum()).item(), abs=1e-6)
    each = F.cross_entropy(outputs, batch["targets"], reduction="none")
    assert found["loss"] == pytest.approx(((each * w).sum() / w.sum()).item(), rel=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_on_a_gpu_the_vectors_stay_on_the_host(dtype):
    reference, batch = mlp(), some_batch()
    _, expected = autograd(reference, batch)
    learner = learner_of(deepcopy(reference).to(dtype), device="cuda")
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    for name, value in learner.named(learner.gradient(batch)[1]).items():
        assert value.device.type == "cpu"
        torch.testing.assert_close(value, expected[name], atol=tolerance, rtol=tolerance)
    learner.parameters.zero_()
    assert torch.equal(learner.outputs(batch["inputs"]).float(), torch.zeros(ROWS, CLASSES))

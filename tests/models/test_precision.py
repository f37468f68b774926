"""bf16 against plain PyTorch: autocast's gradients, and p that goes on moving where bfloat16 would stand still."""

from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from aimass.core.errors import UsageError
from aimass.models import precision
from aimass.models.learner import Learner
from aimass.models.networks import MLPNetwork
from aimass.models.precision import choose_precision
from aimass.models.tasks import build_task
from aimass.optim.config import OptimizerConfig
from aimass.optim.update import build_update

ROWS, NUMBERS, CLASSES = 48, 20, 5
ROUNDING = 2.0**-8  # of bfloat16, relative


def mlp(**settings):
    torch.manual_seed(1)
    return MLPNetwork(NUMBERS, [], CLASSES, hidden=(64, 32), activation="tanh", **settings)


def some_batch(scale=1.0):
    generator = torch.Generator().manual_seed(0)
    return {
        "inputs": {"numbers": scale * torch.randn(ROWS, NUMBERS, generator=generator)},
        "targets": torch.randint(0, CLASSES, (ROWS,), generator=generator),
        "rows": torch.arange(ROWS),
        "weights": None,
    }


def learner_of(module, **options):
    return Learner(module, build_task("multiclass"), **options)


def relative(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


def test_gradients_are_those_of_an_autocast_loop():
    module, batch = mlp(), some_batch()
    peer = deepcopy(module)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = F.cross_entropy(peer(batch["inputs"]["numbers"]).float(), batch["targets"])
    loss.backward()
    learner = learner_of(module, precision="bf16")
    for _ in range(2):
        found, gradient = learner.gradient(batch)
        assert found == pytest.approx(loss.item(), rel=1e-6)
        for name, value in peer.named_parameters():
            torch.testing.assert_close(learner.named(gradient)[name], value.grad, rtol=1e-6, atol=1e-8)
    full = learner_of(mlp()).gradient(batch)[1]
    assert 1e-6 < relative(gradient, full) < 8 * ROUNDING


def test_everything_that_is_kept_is_float32():
    learner = learner_of(mlp(layer_norm=True), precision="bf16")
    learner.gradient(some_batch())
    assert learner.parameters.dtype == learner.gradient_vector.dtype == torch.float32
    assert {tensor.dtype for tensor in learner.module.state_dict().values()} == {torch.float32}
    assert {tensor.grad.dtype for tensor in learner.module.parameters()} == {torch.float32}
    assert next(learner.module.parameters()).data_ptr() == learner.parameters.data_ptr()


@pytest.mark.parametrize(
    "norm", [nn.LayerNorm(NUMBERS), nn.GroupNorm(4, NUMBERS), nn.BatchNorm1d(NUMBERS)], ids=lambda norm: type(norm).__name__
)
def test_norms_compute_in_float32(norm):
    module = nn.Sequential(nn.Linear(NUMBERS, NUMBERS), deepcopy(norm), nn.Linear(NUMBERS, CLASSES))
    seen = {}
    module[0].register_forward_hook(lambda _, inputs, outputs: seen.update(given=outputs.detach()))
    module[1].register_forward_hook(lambda _, inputs, outputs: seen.update(normed=outputs.detach()))
    learner = learner_of(module, precision="bf16")
    learner.gradient(some_batch())
    assert seen["given"].dtype == torch.bfloat16
    assert torch.equal(seen["normed"], deepcopy(norm)(seen["given"].float()))
    if isinstance(norm, nn.BatchNorm1d):
        expected = deepcopy(norm)
        expected(seen["given"].float())
        assert torch.equal(learner.float_buffers(), torch.cat([expected.running_mean, expected.running_var]))


def test_steps_that_bfloat16_cannot_see_add_up():
    """A loss of mean(x·w) has the gradient mean(x), whatever w is: after n steps p = p₀ − n·lr·mean(x)."""

    class MeanOutput(type(build_task("regression"))):
        def losses(self, outputs, targets, reduction="none"):
            return outputs.float().mean()

    module = nn.Linear(8, 1, bias=False)
    with torch.no_grad():
        module.weight.fill_(1.0)
    batch = {"inputs": {"numbers": torch.ones(4, 8)}, "targets": torch.zeros(4), "rows": torch.arange(4), "weights": None}
    learner, update = Learner(module, MeanOutput(), precision="bf16"), build_update(OptimizerConfig(name="sgd", lr=1e-4))
    half = torch.ones(8, dtype=torch.bfloat16)
    for step in range(1, 101):
        gradient = learner.gradient(batch)[1]
        assert torch.equal(gradient, torch.ones(8))
        update.apply(learner.parameters, gradient, [], step, 1e-4, 0.0)
        half -= 1e-4 * gradient.bfloat16()
    assert torch.equal(half, torch.ones(8, dtype=torch.bfloat16))
    torch.testing.assert_close(learner.parameters, torch.full((8,), 1 - 100 * 1e-4), rtol=0, atol=1e-5)


def test_evaluation_is_the_saved_models():
    batch = some_batch()
    outputs = learner_of(mlp(), precision="bf16").outputs(batch["inputs"])
    assert torch.equal(outputs, learner_of(mlp()).outputs(batch["inputs"]))


def test_a_module_that_settled_is_as_it_was():
    learner = learner_of(mlp(layer_norm=True), precision="bf16")
    module, batch = learner.module, some_batch()
    p = learner.parameters
    learner.settle()
    expected = learner_of(mlp(layer_norm=True)).gradient(batch)[1]
    assert torch.equal(learner.gradient(batch)[1], expected)
    assert not any(part._forward_pre_hooks for part in module.modules())
    start, end = p.data_ptr(), p.data_ptr() + 4 * len(p)
    assert not any(start <= tensor.data_ptr() < end for tensor in module.parameters())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_module_of_another_type_cannot_be_asked_for_bf16(dtype):
    learner = learner_of(mlp().to(dtype))
    assert not learner.can_bf16
    name = str(dtype).removeprefix("torch.")
    with pytest.raises(UsageError, match=f"needs a float32 module, and this one holds {name}"):
        learner.compute_in("bf16")


# --------------------------------------------------------------------------------------------------------------- choosing


class Timed(nn.Module):
    """What a processor with or without bfloat16 is like: a clock that the module moves by itself."""

    now = 0.0
    cost_s = None  # by whether bf16 is on

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(NUMBERS, CLASSES)

    def forward(self, numbers):
        Timed.now += self.cost_s[torch.is_autocast_enabled("cpu")]
        return self.head(numbers)


@pytest.mark.parametrize(("bf16_s", "chosen"), [(0.5, "bf16"), (0.91, "float32"), (0.9, "bf16"), (2.0, "float32")])
def test_bf16_is_chosen_where_it_is_a_tenth_faster(bf16_s, chosen, monkeypatch):
    monkeypatch.setattr(precision, "perf_counter", lambda: Timed.now)
    monkeypatch.setattr(Timed, "cost_s", {False: 1.0, True: bf16_s})
    found, times = choose_precision(learner_of(Timed()), some_batch())
    assert found == chosen
    assert times == pytest.approx({"float32": 1.0, "bf16": bf16_s})


def test_choosing_leaves_the_learner_as_it_is():
    torch.manual_seed(3)
    module = nn.Sequential(nn.Linear(NUMBERS, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, CLASSES))
    learner = learner_of(module)
    learner.gradient_vector.fill_(2.0)
    before = learner.parameters.clone(), learner.float_buffers(), torch.get_rng_state()
    _, times = choose_precision(learner, some_batch())
    assert all(seconds is not None and seconds > 0 for seconds in times.values())
    after = learner.parameters, learner.float_buffers(), torch.get_rng_state()
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert torch.equal(learner.gradient_vector, torch.full_like(learner.gradient_vector, 2.0))
    assert module[1].num_batches_tracked == 0


class WithoutBf16(nn.Module):
    """It writes into a float32 tensor, which takes no other type."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(NUMBERS, CLASSES)

    def forward(self, numbers):
        outputs = numbers.new_zeros(len(numbers), CLASSES)
        return outputs.index_copy_(0, torch.arange(len(numbers)), self.head(numbers))


class Overflowing(nn.Module):
    """Finite in float32 only: two numbers that bfloat16 rounds to one."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(NUMBERS, CLASSES)

    def forward(self, numbers):
        outputs = self.head(numbers)
        return outputs / (outputs.new_tensor(1.001) - outputs.new_tensor(1.0))


@pytest.mark.parametrize("module", [WithoutBf16, Overflowing])
def test_what_cannot_compute_in_bf16_computes_in_float32(module):
    chosen, times = choose_precision(learner_of(module()), some_batch())
    assert chosen == "float32"
    assert times["bf16"] is None
    assert times["float32"] is not None


# ------------------------------------------------------------------------------------------------------------------- GPU


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("make", [mlp, lambda: mlp(layer_norm=True)], ids=["plain", "norm"])
def test_on_a_gpu_bf16_gives_gradients_to_its_tolerance(make):
    batch = some_batch()
    expected = learner_of(make()).gradient(batch)[1].clone()
    learner = learner_of(make(), device="cuda", precision="bf16")
    gradient = learner.gradient(batch)[1]
    assert gradient.device.type == "cpu"
    assert {tensor.dtype for tensor in learner.module.parameters()} == {torch.float32}
    assert relative(gradient, expected) < 16 * ROUNDING


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_a_choice_is_measured():
    chosen, times = choose_precision(learner_of(mlp(), device="cuda"), some_batch())
    assert chosen in times
    assert all(seconds for seconds in times.values())

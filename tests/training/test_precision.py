"""Runs in bf16, and on other devices, against runs in float32 on the CPU."""

import pytest
import torch

import aimass
from aimass.core.errors import AimassError
from aimass.training.strategy import STRATEGIES

WIDE = {"name": "mlp", "hidden": [512, 512]}


@pytest.fixture(scope="module")
def digits():
    return aimass.data.load("digits")


def event_of(run, kind):
    found = [event.data for event in run.events() if event.type == kind]
    return found[-1] if found else None


def parameters_of(run):
    return torch.cat([tensor.flatten() for tensor in run.model.module.parameters()])


DIVIDED = ("pipeline", "sharded")
AGREEING = ("single", "allreduce", "parameter_server")  # two runs have the same bits
LEARNING = [("single", 0)] + [(name, 2) for name in STRATEGIES.names() if name not in ("single", *DIVIDED)]


@pytest.mark.parametrize(("strategy", "workers"), LEARNING)
def test_digits_are_learnt_in_bf16(strategy, workers, digits):
    settings = {"strategy": strategy, "workers": workers, "epochs": 5, "lr": 0.001}
    half = aimass.train(digits, precision="bf16", **settings).wait()
    assert half.model.evaluate(digits.train)["accuracy"] > 0.9
    assert event_of(half, "run_started")["precision"] == "bf16"
    if strategy in AGREEING:
        full = aimass.train(digits, **settings).wait()
        assert not torch.equal(parameters_of(half), parameters_of(full))
    assert {tensor.dtype for tensor in half.model.module.state_dict().values()} == {torch.float32}
    validated = half.model.evaluate(digits.validation)
    assert half.metrics()["validation"]["loss"] == pytest.approx(validated["loss"], rel=1e-6)
    assert half.metrics()["gradients_refused"] == 0


@pytest.mark.parametrize(("strategy", "batch_size"), [("pipeline", 32), ("sharded", 16)])
def test_a_divided_model_computes_in_bf16_as_one_process_does(strategy, batch_size):
    wine = aimass.data.load("wine")
    settings = {"model": {"name": "mlp", "hidden": [16]}, "optimizer": {"name": "sgd", "lr": 0.05}, "epochs": 2}
    run = aimass.train(wine, **settings, strategy=strategy, workers=2, batch_size=batch_size, precision="bf16").wait()
    half, full = (aimass.train(wine, **settings, batch_size=32, precision=precision).wait() for precision in ("bf16", "float32"))
    torch.testing.assert_close(parameters_of(run), parameters_of(half), rtol=1e-2, atol=1e-3)
    assert not torch.allclose(parameters_of(run), parameters_of(full), rtol=0, atol=1e-5)  # float32 would agree to 1e-6
    assert event_of(run, "run_started")["precision"] == "bf16"
    assert {tensor.dtype for tensor in run.model.module.state_dict().values()} == {torch.float32}
    assert run.metrics()["gradients_refused"] == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="here auto is a GPU")
def test_without_a_gpu_auto_is_the_cpu_to_the_bit(digits, tmp_path):
    runs = [aimass.train(digits, device=device, epochs=1).wait() for device in ("auto", "cpu")]
    assert torch.equal(*(parameters_of(run) for run in runs))
    assert event_of(runs[0], "run_started")["devices"] == ["cpu"]
    with pytest.raises(AimassError, match="'cuda' is not here: this PyTorch sees no GPU"):
        aimass.train(digits, device="cuda", home=tmp_path)
    with pytest.raises(AimassError, match="needs a GPU for each of the 2 workers"):
        aimass.train(digits, strategy={"name": "allreduce", "backend": "nccl"}, workers=2, home=tmp_path)
    assert not list(tmp_path.iterdir())  # refused before there was a run


@pytest.mark.parametrize("workers", [0, 1])
def test_what_was_chosen_is_told_and_kept(workers, digits, monkeypatch):
    from aimass.training import opening

    measured = []

    def choose(learner, batch):
        measured.append(len(batch["rows"]))
        return "bf16", {"float32": 2.0, "bf16": 1.0}

    monkeypatch.setattr(opening, "choose_precision", choose)
    run = aimass.train(digits, precision="auto", max_steps=40, workers=workers, model=WIDE).wait()
    assert event_of(run, "precision_chosen") == {"precision": "bf16", "float32_s": 2.0, "bf16_s": 1.0}
    assert event_of(run, "run_started")["precision"] == "bf16"
    longer = run.resume(max_steps=60).wait()
    assert event_of(longer, "run_started")["precision"] == "bf16"
    assert longer.config.precision == "auto"
    same = aimass.train(digits, precision="bf16", max_steps=40, workers=workers, model=WIDE).wait().resume(max_steps=60).wait()
    assert torch.equal(parameters_of(longer), parameters_of(same))
    changed = longer.resume(max_steps=61, precision="float32").wait()
    assert event_of(changed, "run_started")["precision"] == "float32"
    assert measured == [32]


def test_choosing_float32_changes_nothing(digits, monkeypatch):
    from aimass.models import precision

    monkeypatch.setattr(precision, "WORTH_IT", float("inf"))
    model = {"name": "mlp", "hidden": [32], "dropout": 0.3}
    runs = [aimass.train(digits, precision=precision, epochs=1, model=model).wait() for precision in ("auto", "float32")]
    assert event_of(runs[0], "precision_chosen")["precision"] == "float32"
    assert torch.equal(*(parameters_of(run) for run in runs))


def test_nan_is_refused_in_bf16_too(digits):
    class Breaking(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.head = torch.nn.Linear(64, 10)
            self.steps = 0

        def forward(self, numbers):
            self.steps += self.training
            return self.head(numbers) * (float("nan") if self.steps % 5 == 0 and self.training else 1.0)

    run = aimass.train(digits, model=Breaking(), precision="bf16", epochs=1).wait()
    assert run.metrics()["gradients_refused"] == run.metrics()["steps"] // 5
    assert parameters_of(run).isfinite().all()


def test_a_module_that_is_not_float32_is_left_as_it_is(digits):
    module = torch.nn.Linear(64, 10, dtype=torch.float64)
    with pytest.raises(AimassError, match="precision='bf16' needs a float32 module, and this one holds float64"):
        aimass.train(digits, model=module, precision="bf16").wait()
    run = aimass.train(digits, model=module, precision="auto", epochs=1).wait()
    assert event_of(run, "precision_chosen") is None
    assert run.model.module.weight.dtype == torch.float64


NEEDS_GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda:0", marks=NEEDS_GPU)])
def test_a_run_that_was_cut_in_two_draws_the_same_dropout(device, digits):
    settings = {"device": device, "model": {"name": "mlp", "hidden": [64], "dropout": 0.5}, "precision": "bf16"}
    whole = aimass.train(digits, max_steps=90, **settings).wait()
    halves = aimass.train(digits, max_steps=40, **settings).wait().resume(max_steps=90).wait()
    exactly = {"rtol": 0, "atol": 0} if device == "cpu" else {"rtol": 1e-2, "atol": 1e-3}
    torch.testing.assert_close(parameters_of(halves), parameters_of(whole), **exactly)


# ------------------------------------------------------------------------------------------------------------------- GPU


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("precision", ["float32", "bf16", "auto"])
def test_digits_are_learnt_on_a_gpu(workers, precision, digits):
    run = aimass.train(digits, device="auto", precision=precision, workers=workers, epochs=12, lr=0.003).wait()
    assert event_of(run, "run_started")["devices"][0] == "cuda:0"
    assert run.metrics()["validation"]["accuracy"] > 0.93
    assert {tensor.device.type for tensor in run.model.module.state_dict().values()} == {"cpu"}
    assert {tensor.dtype for tensor in run.model.module.state_dict().values()} == {torch.float32}
    assert run.model.evaluate(digits.validation)["loss"] == pytest.approx(run.metrics()["validation"]["loss"], rel=1e-3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_takes_the_steps_that_the_cpu_takes(digits):
    settings = {"epochs": 1, "optimizer": "sgd", "lr": 0.05}
    there, here = (aimass.train(digits, device=device, **settings).wait() for device in ("cuda:0", "cpu"))
    torch.testing.assert_close(parameters_of(there), parameters_of(here), rtol=1e-3, atol=1e-4)

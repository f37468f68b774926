import pytest
import torch

from aimass.core.errors import UsageError
from aimass.models import devices
from aimass.models.devices import find_device, find_devices, random_states, set_random_states


def gpus(monkeypatch, count):
    """A machine with so many GPUs, as far as names go: nothing is computed on them."""
    monkeypatch.setattr(devices.torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(devices.torch.cuda, "device_count", lambda: count)


def test_without_a_gpu_auto_is_the_cpu(monkeypatch):
    gpus(monkeypatch, 0)
    assert find_device("auto", slot=3) == find_device("cpu") == torch.device("cpu")
    assert find_devices("auto", 4) == ["cpu"]
    with pytest.raises(UsageError, match="'cuda' is not here: this PyTorch sees no GPU"):
        find_device("cuda")


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_workers_go_round_the_gpus(name, monkeypatch):
    gpus(monkeypatch, 2)
    assert [str(find_device(name, slot)) for slot in range(5)] == ["cuda:0", "cuda:1", "cuda:0", "cuda:1", "cuda:0"]
    assert find_devices(name, 0) == ["cuda:0"]
    assert find_devices(name, 5) == ["cuda:0", "cuda:1"]
    assert find_devices("cuda:1", 5) == ["cuda:1"]
    assert find_devices("cpu", 5) == ["cpu"]


def test_a_gpu_that_is_not_there(monkeypatch):
    gpus(monkeypatch, 2)
    with pytest.raises(UsageError, match="'cuda:2' is not here: this PyTorch sees 2 GPUs, 'cuda:0' to 'cuda:1'"):
        find_device("cuda:2")


def test_chance_can_be_put_back():
    cpu = torch.device("cpu")
    states = random_states(cpu)
    first = torch.rand(4)
    set_random_states(states, cpu)
    assert torch.equal(torch.rand(4), first)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_chance_of_a_gpu_can_be_put_back():
    gpu = find_device("auto")
    states = random_states(gpu)
    assert all(state.device.type == "cpu" for state in states.values())
    first = torch.rand(4, device=gpu)
    set_random_states(states, gpu)
    assert torch.equal(torch.rand(4, device=gpu), first)

import pytest
import torch
from torch import nn

from aimass.core.errors import UsageError
from aimass.models.networks import LinearNetwork
from aimass.models.transfer.config import AdapterConfig
from aimass.models.transfer.lora import LoRALinear, add_adapters, merge_adapters


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3))


def test_it_begins_with_the_old_answers_and_merges_into_the_new_ones():
    module, inputs = network(), torch.randn(4, 5)
    before = module(inputs)
    assert add_adapters(module, AdapterConfig(rank=2, alpha=6.0), fresh=()) == ["0", "2"]
    assert torch.equal(module(inputs), before)
    with torch.no_grad():
        for layer in (module[0], module[2]):
            layer.lora_b.normal_()
    formula = module[0].linear.weight + 3.0 * module[0].lora_b @ module[0].lora_a
    adapted = module(inputs)
    assert not torch.allclose(adapted, before)
    merged = merge_adapters(module)
    assert [type(layer) for layer in merged] == [nn.Linear, nn.ReLU, nn.Linear]
    torch.testing.assert_close(merged[0].weight, formula)
    torch.testing.assert_close(merged(inputs), adapted)
    assert all(parameter.requires_grad for parameter in merged.parameters())


def test_what_is_fresh_learns_whole_and_the_rest_is_frozen():
    module = network()
    assert add_adapters(module, AdapterConfig(rank=1), fresh=["2.weight", "2.bias"]) == ["0"]
    learns = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    assert learns == {"0.lora_a", "0.lora_b", "2.weight", "2.bias"}


def test_its_gradient_is_that_of_the_formula():
    torch.manual_seed(0)
    linear, inputs = nn.Linear(4, 3), torch.randn(6, 4)
    layer = LoRALinear(linear, rank=2, alpha=4.0)
    with torch.no_grad():
        layer.lora_b.normal_()
    layer(inputs).square().sum().backward()
    a, b = (values.detach().clone().requires_grad_() for values in (layer.lora_a, layer.lora_b))
    (inputs @ (linear.weight.detach() + 2.0 * b @ a).T + linear.bias.detach()).square().sum().backward()
    torch.testing.assert_close(layer.lora_a.grad, a.grad)
    torch.testing.assert_close(layer.lora_b.grad, b.grad)
    assert linear.weight.grad is None


@pytest.mark.parametrize(
    ("module", "modules", "why"),
    [
        (LinearNetwork(4, (), 2), ("*",), "layers of class torch.nn.Linear inside a network, and a LinearNetwork holds its weights itself"),
        (nn.Linear(4, 2), ("*",), "of this Linear every such layer is new, shares its weights with another, or is the network itself"),
        (network(), ("features.*",), "none of them fits adapter.modules=features.\\*; there are: 0, 2"),
    ],
)
def test_without_a_layer_it_is_refused(module, modules, why):
    with pytest.raises(UsageError, match=why):
        add_adapters(module, AdapterConfig(modules=modules), fresh=())


def test_tied_layers_have_none():
    module = network()
    module.append(nn.Linear(7, 3))
    module[3].weight = module[2].weight
    assert add_adapters(module, AdapterConfig(), fresh=()) == ["0"]

"""What holds for every family."""

import pytest
import torch

from aimass.models.family import FAMILIES, Family, FamilyConfig
from aimass.models.learner import Learner
from aimass.models.tasks import build_task

SHAPES = {
    "rows": [(5, (), 1), (5, (), 3), (3, (4, 2), 3), (0, (4, 2), 1)],
    "images": [(36, (), 1), (36, (), 3)],
    "text": [(0, (256,) * 12, 256)],
}
SETTINGS = {"rows": {}, "images": {"image": (1, 6, 6)}, "text": {"layers": 2, "heads": 2, "width": 16, "context": 12}}
CASES = [(FAMILIES.load(name), shape) for name in FAMILIES.names() for shape in SHAPES[FAMILIES.load(name).takes]]
THREE_CLASSES = [(family, shape) for family, shape in CASES if shape[-1] == 3]


@pytest.fixture(params=FAMILIES.names())
def family(request):
    return FAMILIES.load(request.param)


@pytest.fixture
def config(family):
    return config_of(family)


def config_of(family):
    own = {"task": "multiclass"} if "task" in family.config.model_fields else {}  # what the data would say
    return family.config(**SETTINGS[family.takes], **own)


def inputs_of(num_numbers, cardinalities, rows=7):
    inputs = {"numbers": torch.randn(rows, num_numbers)}
    if cardinalities:
        inputs["categories"] = torch.stack([torch.randint(0, size, (rows,)) for size in cardinalities], dim=1)
    return inputs


def test_is_a_family_whose_settings_name_it(family, config):
    assert isinstance(family, Family)
    assert isinstance(config, FamilyConfig)
    assert FAMILIES.load(config.name) is family
    assert type(config).parse(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(("family", "shape"), CASES)
def test_gives_outputs_of_the_right_shape(family, shape):
    num_numbers, cardinalities, num_outputs = shape
    module = family.build(config_of(family), num_numbers, cardinalities, num_outputs)
    outputs = module(*inputs_of(num_numbers, cardinalities).values())
    assert outputs.shape == ((7, 12, num_outputs) if family.takes == "text" else (7, num_outputs))
    assert outputs.dtype == torch.float32


@pytest.mark.parametrize(("family", "shape"), THREE_CLASSES)
def test_learns(family, shape):
    num_numbers, cardinalities, num_outputs = shape
    torch.manual_seed(0)
    learner = Learner(family.build(config_of(family), num_numbers, cardinalities, num_outputs), build_task("multiclass"))
    inputs = inputs_of(num_numbers, cardinalities, rows=12)
    targets = (inputs["numbers"][:, 0] > 0).long() + (inputs["categories"][:, 0] > 1).long() if cardinalities else torch.arange(12) % 3
    batch = {"inputs": inputs, "targets": targets, "rows": torch.arange(12), "weights": None}
    first = learner.gradient(batch)[0]
    for _ in range(200):
        learner.parameters.add_(learner.gradient(batch)[1], alpha=-0.1)
    assert learner.gradient(batch)[0] < 0.8 * first


@pytest.mark.parametrize(("family", "shape"), CASES)
def test_each_row_is_answered_alone(family, shape):
    num_numbers, cardinalities, num_outputs = shape
    torch.manual_seed(0)
    module = family.build(config_of(family), num_numbers, cardinalities, num_outputs).double().eval()
    inputs = inputs_of(num_numbers, cardinalities)
    inputs["numbers"] = inputs["numbers"].double()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    alone = torch.cat([module(*(values[row : row + 1] for values in inputs.values())) for row in range(7)])
    torch.testing.assert_close(module(*inputs.values()), alone)


@pytest.mark.parametrize(("family", "shape"), CASES)
def test_has_no_batch_statistics(family, shape):
    module = family.build(config_of(family), *shape)
    assert module.state_dict().keys() == dict(module.named_parameters(remove_duplicate=False)).keys()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize(("family", "shape"), THREE_CLASSES)
def test_works_in_other_precisions(family, shape, dtype):
    learner = Learner(family.build(config_of(family), *shape).to(dtype), build_task("multiclass"))
    batch = {"inputs": inputs_of(*shape[:2]), "targets": torch.arange(7) % 3, "rows": torch.arange(7), "weights": None}
    assert bool(torch.isfinite(learner.gradient(batch)[1]).all())


@pytest.mark.parametrize(("family", "shape"), CASES)
def test_its_pieces_do_one_after_the_other_what_it_does(family, shape):
    torch.manual_seed(0)
    module = family.build(config_of(family), *shape)
    inputs = inputs_of(*shape[:2])
    first, *others = module.pieces()
    outputs = first(*inputs.values())
    for piece in others:
        outputs = piece(outputs)
    torch.testing.assert_close(outputs, module(*inputs.values()))

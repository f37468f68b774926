"""The convolutional network: its settings, its layers against plain PyTorch, and that it reads digits."""

import pytest
import torch
from torch import nn

import aimass
from aimass.cli.settings import table
from aimass.core.errors import UsageError
from aimass.models.config import build_module, parse_model
from aimass.models.convolutions import ConvolutionalNetwork


def test_settings_are_read_as_people_write_them():
    config = parse_model({"name": "convnet", "channels": "8,16", "kernel": "5", "hidden": 32, "image": "28x20"})
    assert (config.name, config.channels, config.kernel, config.hidden, config.image) == ("cnn", (8, 16), 5, (32,), (1, 28, 20))
    assert parse_model({"name": "cnn", "image": [3, 4, 5]}).image == (3, 4, 5)
    assert parse_model({"name": "cnn", "image": table()["model.image"].read("28x20")}).image == (1, 28, 20)  # as on a command line


@pytest.mark.parametrize(
    "wrong", [{"kernel": 4}, {"channels": ()}, {"channels": (0,)}, {"image": "0x8"}, {"image": "wide"}, {"dropout": 1}]
)
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(UsageError):
        parse_model({"name": "cnn", **wrong})


def test_it_is_the_layers_that_it_says():
    torch.manual_seed(0)
    network = ConvolutionalNetwork((2, 8, 6), 3, channels=(8, 12), kernel=5, hidden=(7,), activation="gelu", dropout=0.5)
    torch.manual_seed(0)
    plain = nn.Sequential(
        *(nn.Conv2d(2, 8, 5, padding=2, bias=False), nn.GroupNorm(8, 8), nn.GELU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 12, 5, padding=2, bias=False), nn.GroupNorm(4, 12), nn.GELU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(12 * 2 * 1, 7), nn.GELU(), nn.Dropout(0.5), nn.Linear(7, 3)),
    )
    numbers = torch.randn(5, 96)
    torch.testing.assert_close(network.eval()(numbers), plain.eval()(numbers.reshape(5, 2, 8, 6)))


def test_large_images_do_not_make_large_layers():
    assert ConvolutionalNetwork((1, 64, 40), 3).head[0].in_features == 32 * 7 * 7
    assert ConvolutionalNetwork((1, 3, 64), 3).head[0].in_features == 32 * 1 * 7


def test_images_of_digits_are_read_and_come_back_from_a_folder(tmp_path):
    run = aimass.train("digits", model={"name": "cnn", "channels": (8, 16), "hidden": 32}, epochs=8, optimizer="adam", lr=0.003).wait()
    assert run.config.model.image == (1, 8, 8)
    assert run.model.evaluate(run.data.test)["accuracy"] > 0.95  # logistic regression has 0.96, after many epochs
    again = aimass.load(run.model.save(tmp_path / "model"))
    assert again.encoder.image == (1, 8, 8)
    assert again.predict(run.data.test) == run.model.predict(run.data.test)


def test_it_refuses_what_is_no_image_before_anything_starts(tmp_path):
    with pytest.raises(UsageError, match=r"nothing says that these 4 numbers a row are one; use model='mlp'"):
        aimass.train("iris", model="cnn", home=tmp_path)
    with pytest.raises(UsageError, match=r"images of 1 × 5 × 5 pixels have 25 numbers, and a row of the data has 64"):
        aimass.train("digits", model={"name": "cnn", "image": "5x5"}, home=tmp_path)
    rows = {"x": [0.5, 1.5] * 10, "plan": ["gold", "free"] * 10, "y": [0, 1] * 10}
    with pytest.raises(UsageError, match="a cnn takes images alone, and the data have 1 categorical columns"):
        aimass.train(aimass.data.load(rows, "y"), model={"name": "cnn", "image": "1x1"}, home=tmp_path)
    with pytest.raises(UsageError, match="a cnn needs to know the shape of its images"):
        build_module(parse_model("cnn"), 64, (), 10)
    assert list(tmp_path.iterdir()) == []


def test_pixels_of_which_nobody_told_are_an_image_when_it_is_said(tmp_path):
    rows = {f"p{number}": [float((number + row) % 3) for row in range(20)] for number in range(6)} | {"y": [0, 1] * 10}
    run = aimass.train(rows, "y", model={"name": "cnn", "image": "2x3"}, epochs=1, home=tmp_path).wait()
    assert run.config.model.image == (1, 2, 3)

"""The language model: its network against PyTorch's own layers, that it sees nothing ahead, that it learns, and that it goes on."""

import math
import random

import pyarrow as pa
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import aimass
from aimass.core.errors import DataError, UsageError
from aimass.models.config import build_module, parse_model
from aimass.models.language import Language, go_on
from aimass.models.learner import Learner
from aimass.models.transformers import TransformerNetwork

SMALL = {"name": "transformer", "layers": 1, "heads": 2, "width": 32, "context": 24}
CHANCE = random.Random(0)
TEXT = "".join(f"the {name} says {word}. " for name, word in CHANCE.choices([("cat", "meow"), ("dog", "bark")], k=400))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return TransformerNetwork(layers=2, heads=2, width=8, context=12)


def symbols(rows, length):
    return torch.randint(0, 256, (rows, length), dtype=torch.uint8)


def test_it_is_pytorchs_encoder_layers_with_a_causal_mask(network):
    layer = nn.TransformerEncoderLayer(8, 2, 32, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
    plain = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    for ours, theirs in zip(network.blocks, plain.layers, strict=True):
        theirs.self_attn.in_proj_weight.data, theirs.self_attn.in_proj_bias.data = (
            ours.query_key_value.weight.data,
            ours.query_key_value.bias.data,
        )
        theirs.self_attn.out_proj, theirs.norm1, theirs.norm2 = ours.attended, ours.attention_norm, ours.forward_norm
        theirs.linear1, theirs.linear2 = ours.widen, ours.narrow
    given = symbols(3, 12)
    embedded = network.embedding.byte.weight[given.long()] + network.embedding.place.weight
    seen = plain(embedded, mask=nn.Transformer.generate_square_subsequent_mask(12), is_causal=True)
    expected = F.linear(network.head.norm(seen), network.embedding.byte.weight)
    torch.testing.assert_close(network(torch.empty(3, 0), given), expected)


def test_no_place_sees_one_behind_it(network):
    given, empty = symbols(2, 12), torch.empty(2, 0)
    changed = given.clone()
    changed[:, 7:] += 1
    torch.testing.assert_close(network(empty, changed)[:, :7], network(empty, given)[:, :7])
    torch.testing.assert_close(network(empty, given[:, :5]), network(empty, given)[:, :5])


def test_tied_weights_are_one_parameter():
    tied, apart = (build_module(parse_model({**SMALL, "tied": tied}), 0, (256,) * 24, 256) for tied in (True, False))
    learners = [Learner(module, Language()) for module in (tied, apart)]
    assert learners[1].manifest.num_parameters - learners[0].manifest.num_parameters == 256 * 32
    assert learners[0].manifest.aliases == {"head.next.weight": "embedding.byte.weight"}


def test_the_loss_is_the_mean_over_bytes_and_its_other_names():
    task, outputs, targets = Language(), torch.randn(3, 5, 256), symbols(3, 5)
    loss = F.cross_entropy(outputs.flatten(0, 1), targets.flatten().long())
    torch.testing.assert_close(task.loss(outputs, targets), loss)
    torch.testing.assert_close(task.losses(outputs, targets).mean(), loss)
    kept = torch.cat([task.kept(outputs[:1], targets[:1]), task.kept(outputs[1:], targets[1:])])
    for given in (outputs, kept):
        found = task.metrics(given, targets)
        assert found["bits_per_byte"] == pytest.approx(loss.item() / math.log(2))
        assert found["perplexity"] == pytest.approx(loss.exp().item(), rel=1e-5)
        assert found["accuracy"] == pytest.approx((outputs.argmax(2) == targets).float().mean().item())
        assert task.quick(given, targets) == pytest.approx({"loss": loss.item(), "bits_per_byte": loss.item() / math.log(2)})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    data = aimass.data.load({"text": [TEXT]}, task="language")
    home = tmp_path_factory.mktemp("home")
    return aimass.train(data, model=SMALL, optimizer="adamw", lr=0.005, batch_size=8, epochs=10, home=home).wait()


def test_it_learns_a_text_and_goes_on_with_it(trained):
    model = trained.model
    found = model.evaluate(trained.data.test)
    assert found["bits_per_byte"] < 1.0  # 3.5 by the frequencies of the bytes alone
    assert found["accuracy"] > 0.8
    assert model.generate("the cat says ", 6, temperature=0) == "meow. "
    answers = model.predict([{"text": "the cat says "}, {"text": "the dog says "}, {"text": ""}])
    assert [answer["text"][:4] for answer in answers[:2]] == ["meow", "bark"]


def test_it_comes_back_from_a_folder(trained, tmp_path):
    again = aimass.load(trained.model.save(tmp_path / "model"))
    assert again.module.head.next.weight is again.module.embedding.byte.weight
    assert again.evaluate(trained.data.test) == trained.model.evaluate(trained.data.test)
    assert again.generate("the ", 20, seed=5) == trained.model.generate("the ", 20, seed=5)
    assert again.signature()["inputs"] == [{"name": "text", "kind": "text"}]


def test_a_seed_and_a_temperature_and_the_likeliest_steer_it(trained):
    model = trained.model
    assert model.generate("the ", 30, temperature=2.0, seed=1) != model.generate("the ", 30, temperature=2.0, seed=2)
    assert model.generate("the ", 30, top_k=1, temperature=5.0) == model.generate("the ", 30, temperature=0)


class Fixed(nn.Module):
    """Gives the same logits at every place."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, numbers, given):
        return self.logits.expand(*given.shape, 256)


class Forgetful(nn.Module):
    """A network of which nothing is kept from byte to byte."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, numbers, given):
        return self.network(numbers, given)


@pytest.mark.parametrize("prompt", [b"", b"the cat says ", b"the dog says bark. the cat says "], ids=len)
@pytest.mark.parametrize("draw", [{"temperature": 0.0}, {"temperature": 1.5}, {"temperature": 1.2, "top_k": 5}], ids=str)
def test_what_is_kept_from_byte_to_byte_changes_no_byte(prompt, draw, trained):
    """Neither before the window of 24 bytes is full, nor when it slides."""
    module, lengths = trained.model.module, []
    hook = module.blocks[0].register_forward_hook(lambda _, given, __: lengths.append(given[0].shape[1]))
    kept, anew = (
        go_on(network, prompt, context=24, max_bytes=60, generator=torch.Generator().manual_seed(4), **draw)
        for network in (module, Forgetful(module))
    )
    hook.remove()
    assert kept == anew
    assert len(kept) > 10
    first, drawn = max(len(prompt), 1), min(len(kept) + 1, 60)  # the end of a document is drawn, and not given
    assert lengths[:drawn] == [min(first, 24), *[1 if first + more <= 24 else 24 for more in range(1, drawn)]]


def test_it_follows_a_text_with_the_logits_of_the_whole(network):
    text = bytes(symbols(1, 20)[0].tolist())
    follower = network.follow(12)
    with torch.inference_mode():
        for stop in range(3, 20):
            window = torch.frombuffer(bytearray(text[max(0, stop - 12) : stop]), dtype=torch.uint8)[None]
            torch.testing.assert_close(follower.logits(bytearray(text[:stop])), network(torch.empty(1, 0), window)[0, -1])


def test_bytes_are_drawn_by_their_chances():
    logits = torch.full((256,), -torch.inf)
    logits[[97, 98, 99]] = torch.tensor([0.5, 0.3, 0.2]).log()
    draw = {"context": 4, "max_bytes": 2000, "generator": torch.Generator().manual_seed(0)}
    drawn = go_on(Fixed(logits), b"", **draw)
    assert [drawn.count(symbol) / 2000 for symbol in b"abc"] == pytest.approx([0.5, 0.3, 0.2], abs=0.05)
    halves = go_on(Fixed(logits), b"", top_k=2, temperature=0.5, **draw)
    assert [halves.count(symbol) / 2000 for symbol in b"abc"] == pytest.approx([25 / 34, 9 / 34, 0], abs=0.05)
    logits[0] = 10.0
    assert go_on(Fixed(logits), b"x", temperature=0.0, **draw) == b""  # the end of the document


def test_what_cannot_be_is_refused_before_anything_starts(trained, tmp_path):
    refused = {
        "the model 'transformer' learns text, and the data have the target 'target' to predict; set model to mlp": ("iris", "transformer"),
        "the model 'mlp' is not for text; set model to 'transformer', which learns it": (trained.data, "mlp"),
        "the model 'cnn' is not for text": (trained.data, "cnn"),
        "votes for classes, and text has neither; train model='transformer' by another": (trained.data, "ensemble"),
        "width=32 cannot be cut into 3 heads": (trained.data, {**SMALL, "heads": 3}),
        "the module fails on": (trained.data, nn.Linear(3, 3)),
    }
    for message, (data, model) in refused.items():
        with pytest.raises(UsageError, match=message):
            aimass.train(data, model=model, home=tmp_path).wait()
    with pytest.raises(DataError, match="a window takes 50,001"):
        aimass.train(trained.data, model={**SMALL, "context": 50_000}, home=tmp_path)
    for wrong in ({"max_bytes": 0}, {"temperature": -1}, {"top_k": 0}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            trained.model.generate("the", **wrong)
    with pytest.raises(DataError, match=r"the table has no column 'text' with texts to go on with; there are: words\. A whole file"):
        trained.model.predict(pa.table({"words": ["the"]}))
    with pytest.raises(DataError, match="holds no text to go on with"):
        trained.model.predict({"words": "the"})


def test_another_model_does_not_go_on_with_a_text():
    model = aimass.train("iris", epochs=1).wait().model
    with pytest.raises(UsageError, match="is no language model, so it cannot go on with a text"):
        model.generate("the")

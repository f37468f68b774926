import pytest
import torch
from torch import nn

from aimass.core.errors import NotFound, TrainingError
from aimass.models.manifest import Manifest
from aimass.parameters.base import Snapshot
from aimass.training.checkpoints.checkpoint import Best, Checkpoint, Checkpoints

MANIFEST = Manifest.of(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)))


def checkpoint(clock, **state):
    size = MANIFEST.num_parameters
    return Checkpoint(
        snapshot=Snapshot(
            parameters=torch.arange(size).float() + clock,
            states={"exp_avg": torch.full((size,), 1.0), "exp_avg_sq": torch.full((size,), 2.0)},
            clock=clock,
            cells=[[4, 2, -1, 3, 0], [-1, 0, -1, 0, 0]],
            next_lease=5,
        ),
        floats=torch.tensor([0.5, 1.5]),
        integers={"1.num_batches_tracked": torch.tensor(7)},
        state=state,
        random={"cpu": torch.get_rng_state()},
    )


def test_what_is_written_is_read_back_to_the_bit(tmp_path):
    made = checkpoint(12, history=[{"epoch": 1}])
    kept = Checkpoints(tmp_path, keep=2)
    found = kept.read(kept.write(made, MANIFEST), MANIFEST)
    assert torch.equal(found.snapshot.parameters, made.snapshot.parameters)
    assert {name: state.tolist() for name, state in found.snapshot.states.items()} == {
        name: state.tolist() for name, state in made.snapshot.states.items()
    }
    assert (found.snapshot.clock, found.snapshot.cells, found.snapshot.next_lease) == (12, made.snapshot.cells, 5)
    assert torch.equal(found.floats, made.floats)
    assert found.integers["1.num_batches_tracked"].item() == 7
    assert found.state == {"history": [{"epoch": 1}]}
    assert torch.equal(found.random["cpu"], made.random["cpu"])


def test_the_last_ones_stay_in_the_order_of_their_steps_and_the_best_beside_them(tmp_path):
    kept = Checkpoints(tmp_path, keep=2)
    assert kept.read_best(MANIFEST) is None
    for clock in (9, 10, 100, 1000):
        kept.write(checkpoint(clock), MANIFEST)
    assert kept.names() == ["step-000000000100", "step-000000001000"]
    parameters = torch.arange(MANIFEST.num_parameters).float()
    kept.write_best(Best(parameters=parameters, floats=torch.ones(2), integers={}, epoch={"epoch": 3}), MANIFEST)
    best = kept.read_best(MANIFEST)
    assert torch.equal(best.parameters, parameters)
    assert best.epoch == {"epoch": 3}
    assert len(kept.names()) == 2


def test_the_newest_that_can_be_read_is_taken_and_the_others_are_named(tmp_path):
    kept = Checkpoints(tmp_path, keep=5)
    with pytest.raises(NotFound, match="no checkpoint to go on from"):
        kept.read_newest(MANIFEST)
    for clock in (1, 2, 3):
        kept.write(checkpoint(clock), MANIFEST)
    (tmp_path / kept.names()[2] / "state.json").write_text("{")
    (tmp_path / kept.names()[1] / "optimizer.safetensors").unlink()
    found, unreadable = kept.read_newest(MANIFEST)
    assert found.snapshot.clock == 1
    assert [name for name, _ in unreadable] == kept.names()[:0:-1]


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    kept = Checkpoints(tmp_path, keep=1)
    name = kept.write(checkpoint(1), MANIFEST)
    for other in (nn.Linear(3, 2), nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2)), nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(3))):
        manifest = Manifest.of(other)
        with pytest.raises(TrainingError, match="cannot be read"):
            kept.read(name, manifest)

"""What a run keeps, and what it can go back to."""

import torch

import aimass
from aimass.models.tasks import task_of
from aimass.training import opening
from aimass.training.config import TrainConfig
from aimass.training.saving import Saver


def opened(config, data):
    torch.manual_seed(config.seed)
    learner = opening.open_learner(config, data, task_of(data.encoder), None)
    plan = opening.plan_leases(config, len(data.train))
    return learner, opening.open_server(config, learner, plan.total_batches)


def test_the_start_of_a_run_can_be_gone_back_to_without_a_checkpoint(tmp_path):
    config, data = TrainConfig.parse({"optimizer": {"name": "adagrad", "initial_accumulator": 0.5}, "seed": 3}), aimass.data.load("wine")
    learner, server = opened(config, data)
    generator, parameters, states = torch.get_rng_state(), server.p.clone(), [state.clone() for state in server.states]
    saver = Saver(config, tmp_path, learner, lambda event: None)
    assert saver.last() is None
    for clock in range(3):
        server.push(torch.rand_like(parameters), clock)
    assert not torch.equal(server.p, parameters)

    torch.manual_seed(config.seed)
    saver.restore(opening.first_state(config, data, None), server)
    assert torch.equal(server.p, parameters)
    assert [state.tolist() for state in server.states] == [state.tolist() for state in states]
    assert server.clock == 0
    assert torch.equal(torch.get_rng_state(), generator)

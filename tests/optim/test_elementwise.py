"""What the classes of torch share: sparse gradients, states that are saved, rates that change, a closure."""

from __future__ import annotations

import pytest
import torch

from aimass.core.errors import UsageError
from aimass.optim import AdagradDA, Ftrl, ProximalSGD

CASES = [
    (Ftrl, {"l1": 0.01, "l2": 0.1}),
    (Ftrl, {"keep_start": True}),
    (AdagradDA, {"l1": 0.01, "l2": 0.1}),
    (AdagradDA, {"keep_start": True}),
    (ProximalSGD, {"l1": 0.01, "lr": 0.1}),
    (ProximalSGD, {"group": 0.05, "lr": 0.1}),
]


@pytest.mark.parametrize(("kind", "settings"), CASES)
def test_a_sparse_gradient_changes_the_rows_that_it_names(kind: type, settings: dict) -> None:
    """Those as a dense step would, and no other: neither its values nor its states."""
    torch.manual_seed(0)
    first = torch.randn(9, 5)
    sparse, dense = torch.nn.Parameter(first.clone()), torch.nn.Parameter(first.clone())
    rows_only, all_rows = kind([sparse], **settings), kind([dense], **settings)
    for step in range(4):
        values = torch.randn(4, 5)
        indices = torch.tensor([[1, 4, 1, 7]])  # one twice: its gradients are added up
        sparse.grad = torch.sparse_coo_tensor(indices, values, (9, 5), check_invariants=True)
        before = {name: value.clone() for name, value in rows_only.state[sparse].items() if name != "step"} if step else {}
        rows_only.step()
        dense.grad = sparse.grad.to_dense()
        all_rows.step()
        assert torch.equal(sparse[[1, 4, 7]], dense[[1, 4, 7]])
        others = [0, 2, 3, 5, 6, 8]
        assert torch.equal(sparse[others], first[others])
        for name, value in before.items():
            assert torch.equal(rows_only.state[sparse][name][others], value[others])
    sparse.grad = torch.sparse_coo_tensor(torch.empty(1, 0, dtype=torch.long), torch.empty(0, 5), (9, 5), check_invariants=True)
    rows_only.step()


def test_an_embedding_learns_by_sparse_gradients() -> None:
    torch.manual_seed(0)
    embedding = torch.nn.Embedding(100, 1, sparse=True)
    torch.nn.init.zeros_(embedding.weight)
    optimizer = Ftrl(embedding.parameters(), lr=0.5)
    wanted = torch.linspace(-1, 1, 100)
    for step in range(300):
        rows = torch.arange(step % 10, 100, 10)
        optimizer.zero_grad()
        (embedding(rows)[:, 0] - wanted[rows]).square().sum().backward()
        assert embedding.weight.grad.is_sparse
        optimizer.step()
    torch.testing.assert_close(embedding.weight.data[:, 0], wanted, rtol=0, atol=0.02)


def test_more_than_rows_cannot_be_sparse() -> None:
    p = torch.nn.Parameter(torch.ones(3, 3))
    optimizer = Ftrl([p])
    p.grad = torch.eye(3).to_sparse()
    with pytest.raises(UsageError, match="is sparse in 2 dimensions; give one that is sparse in its rows alone"):
        optimizer.step()


@pytest.mark.parametrize(("kind", "settings"), CASES)
def test_a_state_that_was_saved_goes_on(kind: type, settings: dict) -> None:
    def steps(optimizer: torch.optim.Optimizer, p: torch.Tensor, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for _ in range(5):
            p.grad = torch.randn(3, 4, generator=generator)
            optimizer.step()

    whole, half = torch.nn.Parameter(torch.ones(3, 4)), torch.nn.Parameter(torch.ones(3, 4))
    one, other = kind([whole], **settings), kind([half], **settings)
    steps(one, whole, 1)
    steps(other, half, 1)
    after = torch.nn.Parameter(half.data.clone())
    again = kind([after], **settings)
    again.load_state_dict(other.state_dict())
    steps(one, whole, 2)
    steps(again, after, 2)
    assert torch.equal(whole, after)


def test_it_works_as_torch_has_it() -> None:
    """Groups with settings of their own, a scheduler, a closure, tensors that are not contiguous or have no gradient."""
    weight, bias, unused = (torch.nn.Parameter(torch.ones(shape)) for shape in ((4, 3), (4,), (2,)))
    turned = torch.nn.Parameter(torch.ones(3, 4).t())
    optimizer = ProximalSGD([{"params": [weight, turned], "l1": 10.0}, {"params": [bias, unused]}], lr=0.5)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.1)

    def closure() -> float:
        optimizer.zero_grad()
        loss = (weight + turned).sum() + bias.sum()
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) == 28.0
    assert (weight == 0).all()
    assert (turned == 0).all()
    assert (bias == 0.5).all()
    assert (unused == 1).all()
    scheduler.step()
    optimizer.step(closure)
    assert torch.allclose(bias, torch.tensor(0.45))
    with pytest.raises(UsageError, match="lr"):
        ProximalSGD([bias], lr=-1.0)

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from aimass.training.leases.plan import LeasePlan, epoch_order

plans = st.builds(
    LeasePlan,
    num_rows=st.integers(1, 200),
    batch_size=st.integers(1, 50),
    batches_per_lease=st.integers(1, 9),
    seed=st.integers(0, 3),
    total_batches=st.integers(1, 60),
)


@given(plans)
def test_a_plan_holds_every_batch_of_every_epoch_once(plan):
    batches = [plan.num_batches(lease) for lease in range(plan.num_leases)]
    assert sum(batches) == plan.total_batches
    assert min(batches) > 0
    assert [plan.first_batch(lease) for lease in range(plan.num_leases)] == np.cumsum([0, *batches[:-1]]).tolist()
    for epoch in range(plan.total_batches // plan.batches_per_epoch):
        first = epoch * plan.leases_per_epoch
        rows = np.concatenate([plan.rows(lease) for lease in range(first, first + plan.leases_per_epoch)])
        assert sorted(rows) == list(range(plan.num_rows))


def test_epochs_have_different_orders_and_the_seed_decides_them():
    assert not np.array_equal(epoch_order(100, 0, 0), epoch_order(100, 0, 1))
    assert not np.array_equal(epoch_order(100, 0, 0), epoch_order(100, 1, 0))
    assert np.array_equal(epoch_order(100, 5, 2), epoch_order(100, 5, 2))


def test_more_rows_than_a_permutation_holds_are_shuffled_in_blocks():
    order = epoch_order((1 << 20) + 3, 0, 0)
    assert len(order) == (1 << 20) + 3
    assert np.array_equal(np.sort(order), np.arange(len(order)))

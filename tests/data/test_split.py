import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedShuffleSplit

from aimass.core.errors import UsageError
from aimass.data.split import check_fractions, split_rows, split_sizes

USUAL = (0.8, 0.1, 0.1)


@pytest.mark.parametrize("split", [(0.5, 0.5), (0.8, 0.1, 0.2), (1.2, -0.1, -0.1), (0.0, 0.5, 0.5), "abc", None, (float("nan"), 0, 0), 3])
def test_shares_that_make_no_whole_are_refused(split):
    with pytest.raises(UsageError, match="three shares"):
        check_fractions(split)


def test_a_share_may_be_zero():
    assert split_sizes(100, check_fractions((0.9, 0.1, 0))) == (90, 10, 0)


@pytest.mark.parametrize(
    ("num_rows", "sizes"), [(2, (2, 0, 0)), (4, (4, 0, 0)), (5, (3, 1, 1)), (10, (8, 1, 1)), (15, (11, 2, 2)), (1797, (1437, 180, 180))]
)
def test_sizes(num_rows, sizes):
    assert split_sizes(num_rows, USUAL) == sizes


def test_training_gets_a_row_for_each_class_before_the_others_get_any():
    assert split_sizes(10, (0.2, 0.4, 0.4), num_classes=5) == (5, 3, 2)
    assert split_sizes(5, (0.2, 0.4, 0.4), num_classes=5) == (5, 0, 0)


@given(
    st.lists(st.integers(0, 6), min_size=2, max_size=200),
    st.sampled_from([USUAL, (0.5, 0.25, 0.25), (0.34, 0.33, 0.33)]),
    st.integers(0, 9),
)
def test_every_row_goes_to_one_split_and_every_class_to_training(labels, fractions, seed):
    classes = np.unique(labels, return_inverse=True)[1].astype(np.int64)
    parts = split_rows(len(classes), fractions, seed, classes)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(classes)))
    assert tuple(map(len, parts)) == split_sizes(len(classes), fractions, int(classes.max()) + 1)
    assert set(classes[parts[0]]) == set(classes)
    assert all(np.array_equal(part, np.sort(part)) for part in parts)


@pytest.mark.parametrize("seed", range(5))
def test_each_split_gets_its_share_of_each_class_as_with_scikit_learn(seed):
    classes = np.repeat(np.arange(4), [700, 210, 63, 27]).astype(np.int64)
    train, validation, test = split_rows(len(classes), USUAL, seed, classes)
    theirs, _ = next(StratifiedShuffleSplit(n_splits=1, train_size=800, random_state=seed).split(classes, classes))
    assert np.abs(np.bincount(classes[train]) - np.bincount(classes[theirs])).max() <= 1
    for part, share in ((validation, 0.1), (test, 0.1)):
        assert np.abs(np.bincount(classes[part], minlength=4) - share * np.bincount(classes)).max() <= 1.5


def test_small_classes_reach_every_split_over_the_seeds():
    classes = np.array([0] * 96 + [1] * 4, dtype=np.int64)
    found = [sum((classes[part] == 1).any() for part in (split_rows(100, USUAL, seed, classes)[1:])) for seed in range(100)]
    assert sum(found) > 0


def test_without_classes_the_split_is_the_permutation_of_the_seed():
    train, validation, test = split_rows(50, USUAL, 3)
    order = np.random.Generator(np.random.PCG64(3)).permutation(50)
    assert set(train) == set(order[:40])
    assert set(validation) == set(order[40:45])
    assert set(test) == set(order[45:])


def test_the_same_seed_splits_alike_and_another_does_not():
    classes = (np.arange(100) % 3).astype(np.int64)
    first, again, other = (split_rows(100, USUAL, seed, classes) for seed in (1, 1, 2))
    assert all(np.array_equal(left, right) for left, right in zip(first, again, strict=True))
    assert not np.array_equal(first[1], other[1])


def test_the_split_is_the_same_on_every_platform():
    classes = np.array([0, 1, 0, 1, 2, 0, 1, 2, 0, 1, 0, 1], dtype=np.int64)
    parts = split_rows(12, (0.5, 0.25, 0.25), 7, classes)
    assert [part.tolist() for part in parts] == [[0, 1, 3, 4, 6, 10], [7, 8, 9], [2, 5, 11]]


def test_a_negative_seed_is_refused():
    with pytest.raises(UsageError, match="seed=-1"):
        split_rows(10, USUAL, -1)

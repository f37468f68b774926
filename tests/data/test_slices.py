"""Random slices of rows."""

import numpy as np
import pytest

from aimass.data.slices import slices_of

ROWS = np.arange(20_000)


def test_rows_are_cut_into_slices_of_about_the_same_size_each_row_in_one():
    held = slices_of(ROWS, 3, 7)
    assert (held.sum(axis=0) == 1).all()
    np.testing.assert_allclose(held.mean(axis=1), 1 / 7, atol=0.012)  # four standard deviations


@pytest.mark.parametrize("share", [0.2, 0.8])
def test_slices_of_a_share_are_drawn_apart(share):
    held = slices_of(ROWS, 3, 4, share)
    np.testing.assert_allclose(held.mean(axis=1), share, atol=0.015)
    for one in range(4):
        for other in range(one):
            assert (held[one] & held[other]).mean() == pytest.approx(share * share, abs=0.015)


def test_a_row_is_in_the_same_slices_whatever_comes_with_it_and_in_others_by_another_seed():
    some = np.array([19, 3, 11])
    assert (slices_of(some, 5, 6, 0.5) == slices_of(ROWS, 5, 6, 0.5)[:, some]).all()
    assert (slices_of(ROWS, 5, 6) != slices_of(ROWS, 6, 6)).any()


def test_the_whole_share_is_all_rows():
    assert slices_of(ROWS, 0, 2, 1.0).all()

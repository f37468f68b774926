"""Each figure against scikit-learn, over rows, ties and weights of every kind."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn import metrics as sk

from aimass.models import metrics

WEIGHTS = st.sampled_from([0.0, 0.25, 1.0, 3.0])


@st.composite
def rows(draw, answers, given_answers):
    count = draw(st.integers(1, 12))
    column = lambda values: np.array(draw(st.lists(values, min_size=count, max_size=count)))  # noqa: E731
    truth, found = column(answers), column(given_answers)
    weights = column(WEIGHTS).astype(np.float32) if draw(st.booleans()) else None
    assume(weights is None or weights.sum() > 0)
    return truth, found, weights


CLASSES = st.integers(0, 3)
NUMBERS = st.floats(-1e3, 1e3)


@given(rows(CLASSES, CLASSES))
def test_of_classes(drawn):
    truth, decisions, weights = drawn
    assert metrics.accuracy(*drawn) == pytest.approx(sk.accuracy_score(truth, decisions, sample_weight=weights))
    macro = sk.f1_score(truth, decisions, sample_weight=weights, average="macro", zero_division=0.0)
    assert metrics.macro_f1(*drawn) == pytest.approx(macro)


@given(rows(st.integers(0, 1), st.integers(0, 1)))
def test_of_two_classes(drawn):
    truth, decisions, weights = drawn
    assert metrics.f1(*drawn) == pytest.approx(sk.f1_score(truth, decisions, sample_weight=weights, zero_division=0.0))


@given(rows(st.integers(0, 1), st.sampled_from([-2.0, 0.0, 0.5, 0.5000001, 7.0])))
def test_of_scores(drawn):
    truth, scores, weights = drawn
    counted = truth if weights is None else truth[weights > 0]
    assume(0 < counted.sum() < len(counted))
    assert metrics.roc_auc(*drawn) == pytest.approx(sk.roc_auc_score(truth, scores, sample_weight=weights))


@given(rows(NUMBERS, NUMBERS))
def test_of_numbers(drawn):
    truth, predictions, weights = drawn
    assert metrics.rmse(*drawn) == pytest.approx(sk.mean_squared_error(truth, predictions, sample_weight=weights) ** 0.5)
    assert metrics.mae(*drawn) == pytest.approx(sk.mean_absolute_error(truth, predictions, sample_weight=weights))
    assume(len(truth) > 1 and np.average((truth - np.average(truth, weights=weights)) ** 2, weights=weights) > 1e-9)
    assert metrics.r2(*drawn) == pytest.approx(sk.r2_score(truth, predictions, sample_weight=weights))


@pytest.mark.parametrize(("predictions", "known"), [([2.0, 2.0], 1.0), ([2.0, 3.0], 0.0)])
def test_answers_without_spread(predictions, known):
    truth = np.array([2.0, 2.0])
    assert metrics.r2(truth, np.array(predictions)) == sk.r2_score(truth, predictions) == known


def test_a_run_does_without_scikit_learn():
    code = "import sys, aimass; aimass.train('iris', epochs=1).wait().metrics(); sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120, check=False).returncode == 0

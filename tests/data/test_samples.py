import numpy as np
import pytest
from sklearn import datasets

from aimass.data import load
from aimass.data.samples import SAMPLES, TEXTS, read_sample


@pytest.mark.parametrize("name", [name for name in SAMPLES if name not in TEXTS])
def test_every_sample_holds_what_scikit_learn_ships(name):
    bunch = getattr(datasets, f"load_{name}")()
    raw = read_sample(name)
    values = np.column_stack([raw.table[column].to_numpy() for column in raw.table.column_names[:-1]])
    if name == "diabetes":  # which is scaled as it is read
        assert np.allclose(values, bunch.data, rtol=1e-12, atol=1e-15)
    else:
        assert np.array_equal(values, bunch.data)
    assert raw.table.column_names[:-1] == list(bunch.feature_names)
    assert raw.table.column_names[-1] == raw.target == "target"


@pytest.mark.parametrize(
    ("name", "task", "classes"),
    [
        ("iris", "multiclass", ("setosa", "versicolor", "virginica")),
        ("wine", "multiclass", ("class_0", "class_1", "class_2")),
        ("breast_cancer", "binary", ("benign", "malignant")),
        ("digits", "multiclass", tuple(range(10))),
        ("diabetes", "regression", None),
    ],
)
def test_classes_go_by_their_names(name, task, classes):
    data = load(name)
    assert (data.task, data.encoder.classes) == (task, classes)
    if name != "diabetes":
        bunch = getattr(datasets, f"load_{name}")()
        row = int(data.train.ids[0])
        named = bunch.target_names[bunch.target[row]]
        assert data.encoder.decode_class(int(data.train.encoded.targets[0])) == named


def test_the_pixels_of_digits():
    features = load("digits").encoder.features
    assert (features[0], features[-1], len(features)) == ("pixel_0_0", "pixel_7_7", 64)


def test_the_text_that_ships_with_python():
    from pydoc_data.topics import topics

    [documents] = read_sample("python_docs").table.to_pydict().values()
    assert documents == [topics[name] for name in sorted(topics)]
    assert sum(map(len, documents)) > 300_000

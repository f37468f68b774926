import subprocess
import sys

from aimass.serving.oip import metadata

SIGNATURE = {
    "inputs": [{"name": "age", "kind": "numeric"}, {"name": "plan", "kind": "categorical"}, {"name": "member", "kind": "boolean"}],
    "target": "churn",
    "task": "binary",
    "classes": ["no", "yes"],
}


def test_metadata_tells_names_types_and_shapes():
    found = metadata("churn", [1, 2], SIGNATURE)
    assert (found["name"], found["versions"], found["platform"]) == ("churn", ["1", "2"], "aimass")
    assert [(each["name"], each["datatype"], each["shape"]) for each in found["inputs"]] == [
        ("age", "FP64", [-1]),
        ("plan", "BYTES", [-1]),
        ("member", "BOOL", [-1]),
    ]
    assert [(each["name"], each["datatype"], each["shape"]) for each in found["outputs"]] == [
        ("prediction", "BYTES", [-1]),
        ("probability", "FP64", [-1]),
        ("probabilities", "FP64", [-1, 2]),
    ]
    assert found["outputs"][2]["parameters"] == {"classes": ["no", "yes"]}


def test_classes_of_several_types_are_given_as_text():
    assert metadata("m", [], {"inputs": [], "classes": [1, "a"]})["outputs"][0]["datatype"] == "BYTES"
    assert metadata("m", [], {"inputs": [], "classes": [1.5, 2]})["outputs"][0]["datatype"] == "FP64"


def test_neither_the_frames_nor_the_metadata_import_torch():
    code = "import sys, aimass.serving.oip, aimass.serving.frames; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0

"""Folders that are saved models, made without training any."""

import json

import numpy as np
from safetensors.numpy import save_file

SIGNATURE = {"inputs": [{"name": "age", "kind": "number"}], "target": "churn", "task": "binary", "classes": ["no", "yes"]}


def save_model(folder, value=1.0, **changes):
    """Write a folder with a `model.json` and a `model.safetensors`; `changes` go into the first."""
    folder.mkdir()
    (folder / "model.json").write_text(json.dumps({"format": 1, "signature": SIGNATURE, **changes}))
    save_file({"weight": np.full((3, 2), value, np.float32)}, folder / "model.safetensors")
    return folder

"""The same model behind LitServe: its own worker process, its own batching.

python _serve_litserve.py FOLDER PORT KEY MAX_BATCH
"""

from __future__ import annotations

import os
import sys
from typing import Any

import litserve
import torch
from _measure import die_with_parent
from _serve_fastapi import Classifier


class Digits(litserve.LitAPI):
    """What LitServe wants to know of a model."""

    folder = ""

    def setup(self, device: str) -> None:
        """In the worker."""
        torch.set_num_threads(1)
        self.classifier = Classifier(os.environ["AIMASS_BENCH_FOLDER"])

    def decode_request(self, request):  # type: ignore[no-untyped-def]  # LitServe reads the annotation, and knows few
        """Of one request, its rows."""
        return request["instances"]

    def predict(self, rows: Any) -> Any:
        """Of one request, or of a batch of them."""
        if not rows or isinstance(rows[0], dict):
            return self.classifier.answer(rows)
        flat = self.classifier.answer([row for each in rows for row in each])
        answers, at = [], 0
        for each in rows:
            answers.append(flat[at : at + len(each)])
            at += len(each)
        return answers

    def encode_response(self, output: Any) -> dict[str, Any]:
        """As ours has it."""
        return {"predictions": output, "model": "digits", "version": 1}


if __name__ == "__main__":
    die_with_parent()
    folder, port, key, max_batch = sys.argv[1:]
    os.environ["AIMASS_BENCH_FOLDER"], os.environ["LIT_SERVER_API_KEY"] = folder, key
    api = Digits(max_batch_size=int(max_batch), batch_timeout=0.001 if int(max_batch) > 1 else 0.0, api_path="/v1/models/digits:predict")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, timeout=60)
    server.run(port=int(port), host="127.0.0.1", generate_client_file=False, log_level="error", access_log=False)

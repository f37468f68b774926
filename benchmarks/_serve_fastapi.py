"""A model behind FastAPI as people write it: pydantic checks the body, a dependency the key, torch answers. One process.

    python _serve_fastapi.py FOLDER PORT KEY

At its best: the endpoint is `async`, which spares a thread's switch for each request, and uvicorn runs on uvloop and httptools.
"""

from __future__ import annotations

import hashlib
import hmac
import sys
from typing import Annotated, Any

import torch
import uvicorn
from _measure import die_with_parent
from fastapi import Depends, FastAPI, Header, HTTPException
from pydantic import BaseModel

from aimass.models.model import Model


class Body(BaseModel):
    """What is asked."""

    instances: list[dict[str, float]]


class Classifier:
    """The network with its standardisation, as tensors."""

    def __init__(self, folder: str) -> None:
        model = Model.load(folder)
        self.module, columns = model.module, model.encoder.columns
        self.names = [column.name for column in columns]
        self.mean = torch.tensor([column.mean for column in columns])
        self.std = torch.tensor([column.std or 1.0 for column in columns])
        self.classes = model.encoder.classes
        self.nothing = torch.empty((1, 0), dtype=torch.int64)

    @torch.inference_mode()
    def answer(self, rows: list[dict[str, float]]) -> list[dict[str, Any]]:
        """A prediction and the probabilities of a row each."""
        numbers = (torch.tensor([[row[name] for name in self.names] for row in rows]) - self.mean) / self.std
        shares = torch.softmax(self.module(numbers, self.nothing.expand(len(rows), 0)), dim=1)
        best = shares.argmax(dim=1).tolist()
        return [
            {
                "prediction": self.classes[place],
                "probability": row[place],
                "probabilities": {str(name): share for name, share in zip(self.classes, row, strict=True)},
            }
            for place, row in zip(best, shares.tolist(), strict=True)
        ]


def build(folder: str, key: str) -> FastAPI:
    """The app."""
    classifier, digest = Classifier(folder), hashlib.sha256(key.encode()).digest()
    app = FastAPI()

    def checked(authorization: Annotated[str, Header()]) -> None:
        if not hmac.compare_digest(hashlib.sha256(authorization.removeprefix("Bearer ").encode()).digest(), digest):
            raise HTTPException(401, "the key is unknown")

    @app.post("/v1/models/digits:predict", dependencies=[Depends(checked)])
    async def predict(body: Body) -> dict[str, Any]:
        return {"predictions": classifier.answer(body.instances), "model": "digits", "version": 1}

    return app


if __name__ == "__main__":
    die_with_parent()
    torch.set_num_threads(1)
    uvicorn.run(
        build(sys.argv[1], sys.argv[3]), port=int(sys.argv[2]), access_log=False, log_level="error", loop="uvloop", http="httptools"
    )

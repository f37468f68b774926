"""`client.datasets`: files as data to train on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aimass.client.answers import Dataset, answer_of, entry_of, nothing
from aimass.client.call import Call, Listing, create, get, part, remove
from aimass.client.operation import Awaiting, Blocking, listing, operation


class DatasetCalls:
    """Data sets: a file with a target, columns and a split."""

    @operation
    def create(
        self,
        *,
        file: str | None = None,
        sample: str | None = None,
        target: str | None = None,
        name: str | None = None,
        schema: Mapping[str, str] | None = None,
        missing: Sequence[str] | None = None,
        split: Sequence[float] | None = None,
        seed: int | None = None,
        task: str | None = None,
        stratify: bool | None = None,
        weight: str | None = None,
    ) -> Call[Dataset]:
        """Make a data set of a file, or of a sample.

        Args:
            file: a file's id.
            sample: `digits`, `iris`, `wine`, `breast_cancer` or `diabetes`, in place of a file.
            target: the column to predict.
            name: by default the file's.
            schema: a column's kind where it is not the one that its values suggest.
            missing: spellings of "missing" beyond the usual ones.
            split: shares of training, validation and test.
            seed: decides which row goes where.
            task: `binary`, `multiclass` or `regression`; told from the target by default.
            stratify: give each part of the split its share of each class.
            weight: a column of how much each row counts.

        Raises:
            DataError: the file cannot be read, or not be trained on.
        """
        values: dict[str, Any] = {
            "file": file,
            "sample": sample,
            "target": target,
            "name": name,
            "schema": schema,
            "missing": missing,
            "split": split,
        }
        values |= {"seed": seed, "task": task, "stratify": stratify, "weight": weight}
        return Call(request=create("/v1/datasets", values), read=answer_of(Dataset))

    @listing
    def list(self, *, limit: int | None = None, after: str | None = None) -> Listing[Dataset]:
        """The data sets, the newest first; `limit` of them at most, those after the id `after`."""
        return Listing(request=get("/v1/datasets", after=after), read=entry_of(Dataset), limit=limit)

    @operation
    def get(self, dataset: str) -> Call[Dataset]:
        """One data set."""
        return Call(request=get(f"/v1/datasets/{part(dataset)}"), read=answer_of(Dataset))

    @operation
    def delete(self, dataset: str) -> Call[None]:
        """Take a data set away. Its file, and models that were trained on it, stay."""
        return Call(request=remove(f"/v1/datasets/{part(dataset)}"), read=nothing)


class Datasets(DatasetCalls, Blocking):
    """Files as data to train on."""


class AsyncDatasets(DatasetCalls, Awaiting):
    """Files as data to train on; every method is awaited."""

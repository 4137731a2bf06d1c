"""The receipt of a shard: what its task publishes last and returns. Names, sizes and figures, never vectors."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Annotated, Any, Final, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError, model_validator

from dask_annoy.errors import CorruptIndexError
from dask_annoy.storage import (
    IndexFolder,
    ShardEntry,
    parse_receipt_name,
    receipt_name,
    receipts_folder,
    shard_folder,
)
from dask_annoy.storage.document import Document

__all__ = ["RecallTrace", "ShardReceipt", "read_receipts", "write_receipt"]

_MAX_RECEIPT_BYTES: Final = 64 * 2**20
_DISTANCE: Final = np.dtype("<f4")
_BUDGET: Final = np.dtype("<i8")


class RecallTrace(Document):
    """What a shard knows of the sampled rows: their exact neighbours in it, and the budget that finds each.

    Arrays of shape (rows, k), little-endian, in base64: a row's neighbours by distance. Budget -1 stands for none.
    """

    rows: Annotated[int, Field(ge=0, le=10**6)]
    k: Annotated[int, Field(ge=1, le=10**4)]
    distances: str
    budgets: str

    @model_validator(mode="after")
    def _check(self) -> Self:
        self.distance_array()
        self.budget_array()
        return self

    @classmethod
    def of(cls, distances: npt.NDArray[np.float32], budgets: npt.NDArray[np.int64]) -> Self:
        """Pack the arrays."""
        rows, k = distances.shape
        return cls(rows=rows, k=k, distances=_pack(distances, _DISTANCE), budgets=_pack(budgets, _BUDGET))

    def distance_array(self) -> npt.NDArray[np.float32]:
        """Distances of the exact neighbours, nearest first, padded with infinity (-infinity for dot)."""
        return _unpack(self.distances, _DISTANCE, (self.rows, self.k))

    def budget_array(self) -> npt.NDArray[np.int64]:
        """The least search budget with which a search of this shard finds each neighbour."""
        return _unpack(self.budgets, _BUDGET, (self.rows, self.k))


class ShardReceipt(Document):
    """Says that the shard of a slot is complete."""

    build_id: str
    attempt: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    entry: ShardEntry
    trace: RecallTrace


def write_receipt(folder: IndexFolder, receipt: ShardReceipt) -> None:
    """Publish a receipt; the shard's files must all be in place."""
    name = receipt_name(receipt.build_id, receipt.entry.slot, receipt.attempt)
    folder.write_bytes(name, receipt.model_dump_json(indent=1).encode())


def read_receipts(folder: IndexFolder, build_id: str) -> dict[int, ShardReceipt]:
    """The receipts of a build by slot: one of each slot whose files are all there with their sizes.

    Attempts at one slot made the same bytes, so any will do; the first by name is taken, for the same answer on
    every reading. Damaged receipts are passed over: their slot counts as missing and is built again.
    """
    found: dict[int, ShardReceipt] = {}
    for slot, name in _receipt_names(folder, build_id):
        if slot in found:
            continue
        try:
            receipt = ShardReceipt.model_validate_json(folder.read_bytes(name, max_bytes=_MAX_RECEIPT_BYTES))
        except (ValidationError, CorruptIndexError, FileNotFoundError):
            continue
        if receipt.build_id == build_id and receipt.entry.slot == slot and _is_complete(folder, receipt.entry):
            found[slot] = receipt
    return found


def _receipt_names(folder: IndexFolder, build_id: str) -> Iterator[tuple[int, str]]:
    parent = receipts_folder(build_id)
    for name in folder.list(parent):
        parsed = parse_receipt_name(name)
        if parsed is not None:
            yield parsed[0], f"{parent}/{name}"


def _is_complete(folder: IndexFolder, entry: ShardEntry) -> bool:
    parent = shard_folder(entry.uuid)
    try:
        return all(folder.size(f"{parent}/{file.name}") == file.bytes for file in entry.files)
    except FileNotFoundError:
        return False


def _pack(array: npt.NDArray[Any], dtype: np.dtype[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(array, dtype).tobytes()).decode("ascii")


def _unpack(text: str, dtype: np.dtype[Any], shape: tuple[int, int]) -> npt.NDArray[Any]:
    payload = base64.b64decode(text, validate=True)
    if len(payload) != shape[0] * shape[1] * dtype.itemsize:
        raise ValueError(f"{len(payload)} bytes do not fill an array of shape {shape}")
    return np.frombuffer(payload, dtype).reshape(shape)

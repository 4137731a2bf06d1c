"""The receipt of a shard: what its task publishes last and returns. Names, sizes and figures, never vectors."""

from __future__ import annotations

import base64
from collections.abc import Collection, Sequence
from typing import Annotated, Any, Final, Self, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from dask_annoy.errors import CorruptIndexError
from dask_annoy.storage import (
    IndexFolder,
    ShardEntry,
    parse_receipt_name,
    receipt_name,
    receipts_folder,
    shard_folder,
    shared_cache,
)
from dask_annoy.storage.document import Document, parse_sealed, sealed

__all__ = [
    "CopyReceipt",
    "RecallTrace",
    "ShardReceipt",
    "list_receipts",
    "read_copy_receipt",
    "read_receipts",
    "sound_receipt",
    "write_copy_receipt",
    "write_receipt",
]

_MAX_RECEIPT_BYTES: Final = 64 * 2**20
_DISTANCE: Final = np.dtype("<f4")
_BUDGET: Final = np.dtype("<i8")
_MOST_BUDGET: Final = 2**62


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
        if np.isnan(self.distance_array()).any():
            raise ValueError("a distance is no number")
        budgets = self.budget_array()
        if ((budgets < -1) | (budgets > _MOST_BUDGET)).any():
            raise ValueError(f"a budget is not in the range -1 to {_MOST_BUDGET}")
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


class CopyReceipt(Document):
    """Says that the copy of a shard is complete: what it is an entry of, and under which uuid."""

    copy_id: str
    entry: ShardEntry


AnyReceipt = TypeVar("AnyReceipt", ShardReceipt, CopyReceipt)


def write_copy_receipt(folder: IndexFolder, receipt: CopyReceipt) -> None:
    """Publish the receipt of a copy; the shard's files and deletion set must all be in place."""
    name = receipt_name(receipt.copy_id, receipt.entry.slot, receipt.entry.uuid)
    folder.write_bytes(name, sealed(receipt))


def read_copy_receipt(folder: IndexFolder, name: str) -> CopyReceipt | None:
    """Read a receipt that `list_receipts` has found; None if it is damaged, or gone."""
    return _read(CopyReceipt, folder, name)


def write_receipt(folder: IndexFolder, receipt: ShardReceipt) -> None:
    """Publish a receipt; the shard's files must all be in place."""
    name = receipt_name(receipt.build_id, receipt.entry.slot, receipt.attempt)
    folder.write_bytes(name, sealed(receipt))


def list_receipts(folder: IndexFolder, build_id: str) -> dict[int, tuple[str, ...]]:
    """The names of the receipts of a build by slot; nothing is read yet."""
    parent = receipts_folder(build_id)
    found: dict[int, tuple[str, ...]] = {}
    for name in folder.list(parent):
        parsed = parse_receipt_name(name)
        if parsed is not None:
            found[parsed[0]] = (*found.get(parsed[0], ()), f"{parent}/{name}")
    return found


def read_receipts(folder: IndexFolder, build_id: str) -> dict[int, ShardReceipt]:
    """The receipts of a build by slot: the `sound_receipt` of each slot that has one."""
    names = list_receipts(folder, build_id)
    found = {slot: sound_receipt(folder, build_id, slot, names[slot]) for slot in names}
    return {slot: receipt for slot, receipt in found.items() if receipt is not None}


def sound_receipt(
    folder: IndexFolder, build_id: str, slot: int, names: Sequence[str], without: Collection[str] = ()
) -> ShardReceipt | None:
    """The first of some receipts of a slot whose files are all there, with their sizes and checksums.

    Attempts at one slot made the same bytes, so any will do; the first by name is taken, for the same answer on every
    reading. A receipt that is damaged, of another slot or build, or whose files are, counts for nothing. Files of
    remote folders are read once: they stay in this process's cache, where queries find them.

    Parameters
    ----------
    folder : IndexFolder
    build_id : str
    slot : int
    names : sequence of str
        As `list_receipts` gives them.
    without : collection of str
        Uuids of shards that are not to be taken.
    """
    for name in sorted(names):
        receipt = _read(ShardReceipt, folder, name)
        if receipt is None:
            continue
        entry = receipt.entry
        if receipt.build_id != build_id or entry.slot != slot or entry.uuid in without:
            continue
        if _is_complete(folder, entry) and _is_sound(folder, entry):
            return receipt
    return None


def _read(kind: type[AnyReceipt], folder: IndexFolder, name: str) -> AnyReceipt | None:
    """A receipt; None if it is damaged, or gone."""
    try:
        payload = folder.read_bytes(name, max_bytes=_MAX_RECEIPT_BYTES)
        return parse_sealed(kind, payload, where=folder.where(name), what="receipt", max_bytes=_MAX_RECEIPT_BYTES)
    except (CorruptIndexError, FileNotFoundError):
        return None


def _is_complete(folder: IndexFolder, entry: ShardEntry) -> bool:
    """Whether the files have their sizes: looked at first, so that nothing of a shard with a hole is downloaded."""
    parent = shard_folder(entry.uuid)
    try:
        return all(folder.size(f"{parent}/{file.name}") == file.bytes for file in entry.files)
    except FileNotFoundError:
        return False


def _is_sound(folder: IndexFolder, entry: ShardEntry) -> bool:
    for file in entry.files:  # one at a time: the cache need not hold all of them
        try:
            shared_cache().lease(folder, shard_folder(entry.uuid), [file], fresh=True).release()
        except (CorruptIndexError, FileNotFoundError):
            return False
    return True


def _pack(array: npt.NDArray[Any], dtype: np.dtype[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(array, dtype).tobytes()).decode("ascii")


def _unpack(text: str, dtype: np.dtype[Any], shape: tuple[int, int]) -> npt.NDArray[Any]:
    payload = base64.b64decode(text, validate=True)
    if len(payload) != shape[0] * shape[1] * dtype.itemsize:
        raise ValueError(f"{len(payload)} bytes do not fill an array of shape {shape}")
    return np.frombuffer(payload, dtype).reshape(shape)

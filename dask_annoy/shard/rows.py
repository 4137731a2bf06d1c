"""The items of a published shard as an input: rows and ids of those that are not deleted, in order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from dask_annoy.shard.shard import ShardHandle, open_shard
from dask_annoy.storage import shard_folder
from dask_annoy.vectors import Ids, IdSource, RowSource
from dask_annoy.vectors.source import Block, Rows

__all__ = ["ShardItemIds", "ShardItems"]


class ShardItems(RowSource):
    """The vectors of a shard's items as they are stored: float32, or for hamming packed bits."""

    def __init__(self, handle: ShardHandle) -> None:
        self.handle = handle
        self.name = handle.folder.where(shard_folder(handle.entry.uuid))
        self.n_rows = handle.entry.live_items
        is_packed = handle.metric == "hamming"
        self.width = -(-handle.width // 8) if is_packed else handle.width
        self.dtype = np.dtype(np.uint8 if is_packed else np.float32)

    def identity(self) -> dict[str, str | int]:
        """The shard and what is deleted of it, neither of which ever changes."""
        return _identity(self.handle)

    def _blocks(self, start: int, stop: int, max_bytes: int) -> Iterator[Block]:
        shard = open_shard(self.handle)
        items = shard.live_items()[start:stop]
        step = max(1, max_bytes // self.row_bytes)
        for first in range(0, len(items), step):
            yield start + first, shard.vectors(items[first : first + step])

    def _take(self, rows: npt.NDArray[np.int64]) -> Rows:
        shard = open_shard(self.handle)
        return shard.vectors(shard.live_items()[rows])


class ShardItemIds(IdSource):
    """The ids of the same items."""

    def __init__(self, handle: ShardHandle) -> None:
        self.handle = handle
        self.name = f"ids of {handle.folder.where(shard_folder(handle.entry.uuid))}"
        self.n_rows = handle.entry.live_items
        self.id_type = handle.id_type

    def identity(self) -> dict[str, str | int]:
        """As that of the vectors."""
        return _identity(self.handle)

    def _read(self, start: int, stop: int) -> Ids:
        shard = open_shard(self.handle)
        return shard.ids(shard.live_items()[start:stop])


def _identity(handle: ShardHandle) -> dict[str, str | int]:
    deleted = handle.entry.deletions
    text = f"{handle.entry.uuid} {deleted.uuid if deleted else ''}"
    return {"shard": hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}

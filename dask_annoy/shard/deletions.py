"""Deleted items of a shard: immutable, sorted sets of item numbers in files of their own."""

from __future__ import annotations

import hashlib
import uuid
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dask_annoy.errors import CorruptIndexError
from dask_annoy.shard.columns import Column, header_of
from dask_annoy.storage import DELETIONS, DeletionEntry, IndexFolder, ShardEntry, deletion_name, shared_cache

__all__ = ["add_deletions", "read_deletions"]

_ITEM: Final = np.dtype("<u4")


def read_deletions(folder: IndexFolder, shard: ShardEntry) -> npt.NDArray[np.int64]:
    """The deleted items of a shard in a version, ascending.

    Raises
    ------
    CorruptIndexError
        If the file is not the one that the manifest names, or holds what is no set of the shard's items.
    """
    deleted = shard.deletions
    if deleted is None:
        return np.empty(0, np.int64)
    where = folder.where(deletion_name(deleted.uuid))
    with shared_cache().lease(folder, DELETIONS, [deleted.file]) as lease:
        column = Column(lease.path(deleted.file.name), _ITEM, deleted.items)
        try:
            items: npt.NDArray[np.int64] = column.array.astype(np.int64)
        finally:
            column.close()
    if (np.diff(items) <= 0).any() or int(items[-1]) >= shard.items:
        raise CorruptIndexError(f"{where} is no ascending set of the {shard.items} items of its shard")
    return items


def add_deletions(folder: IndexFolder, shard: ShardEntry, items: npt.NDArray[np.int64]) -> ShardEntry:
    """Publish the set of what was deleted in a shard and `items`; return the shard's entry with it.

    The entry is the same one if all of them were deleted already.
    """
    before = read_deletions(folder, shard)
    together = np.union1d(before, items)
    if len(together) == len(before):
        return shard
    name = uuid.uuid4().hex
    payload = header_of(_ITEM, len(together)) + together.astype(_ITEM).tobytes()
    folder.write_bytes(deletion_name(name), payload)
    file: dict[str, Any] = {"bytes": len(payload), "sha256": hashlib.sha256(payload).hexdigest()}
    entry = DeletionEntry(uuid=name, items=len(together), **file)
    return shard.model_copy(update={"deletions": entry})

"""Deleted items of a shard: immutable, sorted sets of item numbers in files of their own."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dask_annoy.errors import CorruptIndexError
from dask_annoy.shard.columns import Column, header_of
from dask_annoy.storage import DELETIONS, DeletionEntry, IndexFolder, ShardEntry, deletion_name, shared_cache

__all__ = ["DeletionSets", "add_deletions", "read_deletions"]

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


class DeletionSets:
    """Writes the deletion sets of one change, which may be tried on one version after another.

    What was written for a shard, and the set that it had, is taken again when the change is made anew after somebody
    else has committed: so another attempt writes only for the shards that were changed meanwhile.
    """

    def __init__(self, folder: IndexFolder) -> None:
        self._folder = folder
        # By the uuids of a shard and of the set before: the items that were added, and the set with them.
        self._written: dict[tuple[str, str | None], tuple[npt.NDArray[np.int64], DeletionEntry | None]] = {}

    def add(self, shards: Sequence[ShardEntry], items: Mapping[str, npt.NDArray[np.int64]]) -> list[ShardEntry]:
        """The entries with more items deleted, in their order; one of which nothing new is deleted is the same.

        Where storage is remote, a few sets are written at a time.

        Parameters
        ----------
        shards : sequence of ShardEntry
        items : mapping of str to int64 array
            What to delete, ascending, by the shards' uuids.
        """
        wanted = [(shard, items[shard.uuid]) for shard in shards if len(items.get(shard.uuid, ()))]
        missing = [(shard, chosen) for shard, chosen in wanted if not self._is_written(shard, chosen)]
        for _ in self._folder.each(lambda pair: self._write(*pair), missing):
            pass
        ready = {shard.uuid: self._written[shard.contents][1] for shard, _ in wanted}
        return [
            shard if ready.get(shard.uuid) is None else shard.model_copy(update={"deletions": ready[shard.uuid]})
            for shard in shards
        ]

    def _is_written(self, shard: ShardEntry, items: npt.NDArray[np.int64]) -> bool:
        written = self._written.get(shard.contents)
        return written is not None and np.array_equal(written[0], items)

    def _write(self, shard: ShardEntry, items: npt.NDArray[np.int64]) -> None:
        entry = add_deletions(self._folder, shard, items)
        self._written[shard.contents] = items, None if entry is shard else entry.deletions

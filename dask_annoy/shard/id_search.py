"""Finding ids in a shard by its sorted run, without opening its forest or reading all its ids."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from dask_annoy.shard.damage import naming_the_shard
from dask_annoy.shard.deletions import read_deletions
from dask_annoy.shard.id_runs import RUN_FILES, IdRun, keys_of
from dask_annoy.shard.ids import IdTable, IdType, id_files
from dask_annoy.storage import IndexFolder, ShardEntry, shard_folder, shared_cache

__all__ = ["FoundIds", "ShardIds", "find_ids", "find_shared"]

_COMPARED_AT_ONCE: Final = 1 << 18  # ids, of which those that both shards have are read


@dataclass(frozen=True)
class FoundIds:
    """Ids that a shard has.

    Attributes
    ----------
    places : int64 array of shape (n,)
        Which of the ids that were looked for.
    items : int64 array of shape (n,)
        The items of the shard that have them.
    """

    places: npt.NDArray[np.int64]
    items: npt.NDArray[np.int64]

    @classmethod
    def together(cls, parts: Sequence[FoundIds]) -> Self:
        """All of them as one."""
        none = np.empty(0, np.int64)
        return cls(
            np.concatenate([none, *(part.places for part in parts)]),
            np.concatenate([none, *(part.items for part in parts)]),
        )

    def __len__(self) -> int:
        return len(self.items)


class ShardIds:
    """The ids of a shard and their run, on local disk and mapped; a context manager.

    Attributes
    ----------
    table : IdTable
    run : IdRun
    """

    def __init__(self, folder: IndexFolder, entry: ShardEntry, id_type: IdType) -> None:
        wanted = (*id_files(id_type), *RUN_FILES)
        files = [file for file in entry.files if file.name in wanted]
        with naming_the_shard(folder, entry), ExitStack() as stack:
            lease = stack.enter_context(shared_cache().lease(folder, shard_folder(entry.uuid), files))
            paths = {file.name: lease.path(file.name) for file in files}
            self.run = stack.enter_context(IdRun.open(paths, entry.items))
            self.table = stack.enter_context(IdTable.open(paths, id_type, entry.items))
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *of_error: object) -> None:
        self._stack.close()


def find_ids(folder: IndexFolder, entry: ShardEntry, id_type: IdType, ids: npt.NDArray[Any]) -> FoundIds:
    """The items of a shard that have one of the ids and are not deleted."""
    with ShardIds(folder, entry, id_type) as shard:
        places, items = shard.run.find(keys_of(ids))
        # Keys of strings are hashes: what has the same one may be another string.
        is_it = shard.table.take(items) == ids[places]
        with naming_the_shard(folder, entry):
            is_it &= ~np.isin(items, read_deletions(folder, entry))
        return FoundIds(places[is_it], items[is_it])


def find_shared(folder: IndexFolder, old: ShardEntry, new: ShardEntry, id_type: IdType) -> FoundIds:
    """The items of two shards that have the same id: `places` in the new one, `items` in the old one.

    Deleted items of either do not count. The keys in the runs are compared, slice by slice; only the ids of items with
    equal keys are read.
    """
    gone_new = read_deletions(folder, new)
    with naming_the_shard(folder, old):
        gone_old = read_deletions(folder, old)
    slices = -(-new.items // _COMPARED_AT_ONCE)
    parts = []
    with ShardIds(folder, new, id_type) as ours, ShardIds(folder, old, id_type) as theirs:
        for number in range(slices):
            low, high = (2**64 * bound // slices for bound in (number, number + 1))
            keys, ours_by_key = ours.run.slice(low, high)
            places_of_keys, items = theirs.run.find(keys)
            places = ours_by_key[places_of_keys]
            is_live = ~np.isin(places, gone_new) & ~np.isin(items, gone_old)
            places, items = places[is_live], items[is_live]
            # Keys of strings are hashes: what has the same one may be another string.
            is_it = ours.table.take(places) == theirs.table.take(items)
            parts.append(FoundIds(places[is_it], items[is_it]))
    return FoundIds.together(parts)

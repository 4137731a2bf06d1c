"""`ShardedIndex.delete`: items are found by their ids and marked; their shards stay as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from dask_annoy.cluster.append import check_same_index
from dask_annoy.cluster.executor import Executor, Progress
from dask_annoy.cluster.id_check import find_in_shards
from dask_annoy.errors import CommitConflictError, InvalidIdsError
from dask_annoy.shard import DeletionSets
from dask_annoy.storage import IndexFolder, Manifest, commit_change, read_manifest, successor
from dask_annoy.vectors import ArrayIds

__all__ = ["Missing", "delete_ids"]

Missing = Literal["raise", "ignore"]


def delete_ids(
    folder: IndexFolder, snapshot: Manifest, ids: Any, missing: Missing, executor: Executor, progress: Progress | None
) -> Manifest:
    """Commit a version without the items of some ids; see `ShardedIndex.delete`."""
    if missing not in get_args(Missing):
        raise ValueError(f'missing must be "raise" or "ignore", not {missing!r}')
    base = read_manifest(folder)
    check_same_index(folder, snapshot, base)
    given = ArrayIds(ids, name="ids to delete") if len(ids) else None
    if given is None:
        return base
    if given.id_type != base.id_type:
        raise InvalidIdsError(
            f"ids of type {given.id_type} were given to delete, but those of the index are of type {base.id_type}"
        )
    wanted = given.read()
    found = find_in_shards(folder, base.shards, base.id_type, wanted, executor, progress)
    if missing == "raise":
        is_there = np.zeros(len(wanted), bool)
        for part in found.values():
            is_there[part.places] = True
        if not is_there.all():
            first = wanted[~is_there].tolist()[0]
            raise InvalidIdsError(
                f"{(~is_there).sum():,} of the {len(wanted):,} ids to delete, {first!r} for one, are not in the index "
                f'at {folder}: leave them out, or say missing="ignore"'
            )

    items = {uuid: np.unique(part.items) for uuid, part in found.items() if len(part)}
    sets = DeletionSets(folder)

    def change(newest: Manifest) -> Manifest:
        check_same_index(folder, base, newest)
        return _without(folder, newest, items, sets)

    return commit_change(folder, change)


def _without(
    folder: IndexFolder, newest: Manifest, items: Mapping[str, npt.NDArray[np.int64]], sets: DeletionSets
) -> Manifest:
    """The version after `newest` in which these items of its shards are deleted, beside those that are already."""
    gone = items.keys() - {entry.uuid for entry in newest.shards}
    if gone:
        raise CommitConflictError(
            f"{len(gone)} of the shards of {folder} that hold items to delete were rewritten by another writer "
            f"meanwhile (version {newest.version}): delete again"
        )
    entries = sets.add(newest.shards, items)
    if all(entry is before for entry, before in zip(entries, newest.shards, strict=True)):
        return newest
    return successor(newest, "delete", entries)

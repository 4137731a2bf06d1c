"""`ShardedIndex.delete`: items are found by their ids and marked; their shards stay as they are."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np

from dask_annoy.cluster.append import check_same_index
from dask_annoy.cluster.executor import Executor, Progress
from dask_annoy.cluster.id_check import find_in_shards
from dask_annoy.errors import CommitConflictError, InvalidIdsError
from dask_annoy.shard import FoundIds, add_deletions
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

    def change(newest: Manifest) -> Manifest:
        check_same_index(folder, base, newest)
        return _without(folder, newest, {uuid: part for uuid, part in found.items() if len(part)})

    return commit_change(folder, change)


def _without(folder: IndexFolder, newest: Manifest, found: dict[str, FoundIds]) -> Manifest:
    """The version after `newest` in which these items of its shards are deleted, beside those that are already."""
    gone = found.keys() - {entry.uuid for entry in newest.shards}
    if gone:
        raise CommitConflictError(
            f"{len(gone)} of the shards of {folder} that hold items to delete were rewritten by another writer "
            f"meanwhile (version {newest.version}): delete again"
        )
    entries = [
        add_deletions(folder, entry, np.unique(found[entry.uuid].items)) if entry.uuid in found else entry
        for entry in newest.shards
    ]
    if all(entry is before for entry, before in zip(entries, newest.shards, strict=True)):
        return newest
    return successor(newest, "delete", entries)

"""Ids are unique over all shards: their sorted runs are compared slice by slice, so few ids are held at a time."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dask_annoy.cluster.executor import Executor, Place, Progress
from dask_annoy.errors import InvalidIdsError
from dask_annoy.shard import FoundIds, IdType, ShardIds, find_ids, find_shared, read_deletions
from dask_annoy.storage import IndexFolder, ShardEntry

__all__ = ["RepeatedId", "check_ids_unique", "find_in_shards", "repeated_ids", "shared_ids"]

_IDS_AT_ONCE: Final = 4_000_000
_FOUND_AT_ONCE: Final = 500_000
_MOST_REPEATED: Final = 10  # told of a part of the ids


@dataclass(frozen=True)
class _Part:
    """The ids whose keys are in one of many equal ranges."""

    folder: IndexFolder
    entries: tuple[ShardEntry, ...]
    id_type: IdType
    number: int
    count: int


@dataclass(frozen=True)
class RepeatedId:
    """An id that more than one item has: the slots of two of them."""

    id: int | str
    slots: tuple[int, int]


def check_ids_unique(
    folder: IndexFolder, entries: Sequence[ShardEntry], id_type: IdType, executor: Executor, progress: Progress | None
) -> None:
    """Raise InvalidIdsError if an id is in two shards. Within a shard, its own task has checked already."""
    if len(entries) < 2:
        return
    for repeated in repeated_ids(folder, entries, id_type, executor, progress):
        raise InvalidIdsError(f"the id {repeated.id!r} is given to more than one vector: ids must be unique")


def repeated_ids(
    folder: IndexFolder, entries: Sequence[ShardEntry], id_type: IdType, executor: Executor, progress: Progress | None
) -> list[RepeatedId]:
    """Ids that more than one item has, those that are deleted left out: some of them, if there are many."""
    count = -(-sum(entry.items for entry in entries) // _IDS_AT_ONCE)
    parts = [_Part(folder, tuple(entries), id_type, number, count) for number in range(count)]
    return [one for found in executor.run(_repeated, parts, label="ids", progress=progress) for one in found]


def _repeated(part: _Part, place: Place) -> list[RepeatedId]:  # noqa: ARG001 - needs nothing of its place
    low, high = (2**64 * number // part.count for number in (part.number, part.number + 1))
    with ExitStack() as stack:
        shards = [stack.enter_context(ShardIds(part.folder, entry, part.id_type)) for entry in part.entries]
        slices = [_live(part.folder, entry, *shard.run.slice(low, high))
                  for entry, shard in zip(part.entries, shards, strict=True)]  # fmt: skip
        keys = np.concatenate([found for found, _ in slices])
        owners = np.repeat(np.arange(len(shards)), [len(found) for found, _ in slices])
        items = np.concatenate([found for _, found in slices])
        order = np.argsort(keys, kind="stable")
        equal = keys[order][1:] == keys[order][:-1]
        is_shared = np.zeros(len(order), bool)
        is_shared[1:] |= equal
        is_shared[:-1] |= equal
        doubtful = order[is_shared]
        seen: dict[int | str, int] = {}
        found: list[RepeatedId] = []
        for owner, item in zip(owners[doubtful].tolist(), items[doubtful].tolist(), strict=True):
            value: int | str = shards[owner].table.take(np.array([item])).tolist()[0]
            slot = part.entries[owner].slot
            if value in seen:
                found.append(RepeatedId(value, (seen[value], slot)))
                if len(found) == _MOST_REPEATED:
                    break
            seen.setdefault(value, slot)
    return found


def _live(
    folder: IndexFolder, entry: ShardEntry, keys: npt.NDArray[np.uint64], items: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    if entry.deletions is None:
        return keys, items
    is_live = ~np.isin(items, read_deletions(folder, entry))
    return keys[is_live], items[is_live]


@dataclass(frozen=True)
class _Search:
    """A shard, and ids to look for in it."""

    folder: IndexFolder
    entry: ShardEntry
    id_type: IdType
    ids: npt.NDArray[Any]
    first: int


def find_in_shards(
    folder: IndexFolder,
    entries: Sequence[ShardEntry],
    id_type: IdType,
    ids: npt.NDArray[Any],
    executor: Executor,
    progress: Progress | None,
) -> dict[str, FoundIds]:
    """Which items of which shards have the ids and are not deleted, by the shards' uuids."""
    starts = range(0, len(ids), _FOUND_AT_ONCE)
    tasks = [
        _Search(folder, entry, id_type, ids[first : first + _FOUND_AT_ONCE], first)
        for entry in entries
        for first in starts
    ]
    found: dict[str, list[FoundIds]] = {}
    affinity = [task.entry.uuid for task in tasks]
    task_bytes = _bytes_of(ids) // max(1, len(starts))
    with closing(
        executor.stream(_find, tasks, label="find", task_bytes=task_bytes, affinity=affinity, progress=progress)
    ) as parts:
        for task, part in zip(tasks, parts, strict=True):
            found.setdefault(task.entry.uuid, []).append(FoundIds(part.places + task.first, part.items))
    return {uuid: FoundIds.together(parts) for uuid, parts in found.items()}


def _bytes_of(ids: npt.NDArray[Any]) -> int:
    return ids.nbytes if ids.dtype != object else ids.nbytes + sum(map(len, ids.tolist()))


def _find(task: _Search, place: Place) -> FoundIds:  # noqa: ARG001 - needs nothing of its place
    return find_ids(task.folder, task.entry, task.id_type, task.ids)


@dataclass(frozen=True)
class _Comparison:
    """A shard whose ids are compared with those of new ones."""

    folder: IndexFolder
    old: ShardEntry
    new: tuple[ShardEntry, ...]
    id_type: IdType


def shared_ids(
    folder: IndexFolder,
    old: Sequence[ShardEntry],
    new: Sequence[ShardEntry],
    id_type: IdType,
    executor: Executor,
    progress: Progress | None,
) -> dict[tuple[str, str], FoundIds]:
    """The items that share their id, by the uuids of an old and a new shard: `places` in the new, `items` in the old.

    Deleted items of either do not count.
    """
    tasks = [_Comparison(folder, entry, tuple(new), id_type) for entry in old]
    affinity = [task.old.uuid for task in tasks]
    found = executor.run(_compare, tasks, label="ids", affinity=affinity, progress=progress)
    return {
        (task.old.uuid, entry.uuid): part
        for task, parts in zip(tasks, found, strict=True)
        for entry, part in zip(task.new, parts, strict=True)
    }


def _compare(task: _Comparison, place: Place) -> list[FoundIds]:  # noqa: ARG001 - needs nothing of its place
    return [find_shared(task.folder, task.old, new, task.id_type) for new in task.new]

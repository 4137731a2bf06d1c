"""Ids are unique over all shards: checked without holding them all, part by part of their hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dask_annoy.cluster.executor import Executor, Place, Progress
from dask_annoy.errors import InvalidIdsError
from dask_annoy.planning import BuildPlan
from dask_annoy.shard import IdTable, IdType
from dask_annoy.storage import IndexFolder, ShardEntry, shard_folder, shared_cache

__all__ = ["check_ids_unique"]

_IDS_AT_ONCE: Final = 4_000_000
_BLOCK: Final = 1 << 18


@dataclass(frozen=True)
class _Part:
    """The ids whose hash falls into one of many parts."""

    folder: IndexFolder
    entries: tuple[ShardEntry, ...]
    id_type: IdType
    number: int
    count: int


def check_ids_unique(
    folder: IndexFolder, entries: Sequence[ShardEntry], plan: BuildPlan, executor: Executor, progress: Progress | None
) -> None:
    """Raise InvalidIdsError if an id is in two shards. Within a shard, its own task has checked already."""
    if len(entries) < 2:
        return
    count = -(-plan.n_rows // _IDS_AT_ONCE)
    parts = [_Part(folder, tuple(entries), plan.id_type, number, count) for number in range(count)]
    for repeated in executor.run(_first_repeated, parts, label="ids", progress=progress):
        if repeated is not None:
            raise InvalidIdsError(f"the id {repeated!r} is given to more than one vector: ids must be unique")


def _first_repeated(part: _Part, place: Place) -> int | str | None:  # noqa: ARG001 - needs nothing of its place
    chosen: list[npt.NDArray[Any]] = []
    for entry in part.entries:
        files = [file for file in entry.files if file.name.startswith("ids.")]
        with (
            shared_cache().lease(part.folder, shard_folder(entry.uuid), files) as lease,
            IdTable.open({file.name: lease.path(file.name) for file in files}, part.id_type, entry.items) as table,
        ):
            for start in range(0, entry.items, _BLOCK):
                ids = table.take(np.arange(start, min(entry.items, start + _BLOCK)))
                chosen.append(ids[_part_of(ids, part.count) == part.number])
    ids = np.concatenate(chosen)
    ids.sort()
    repeats = np.flatnonzero(ids[1:] == ids[:-1])
    return None if not len(repeats) else ids[repeats[0]].item() if ids.dtype.kind == "i" else str(ids[repeats[0]])


def _part_of(ids: npt.NDArray[Any], count: int) -> npt.NDArray[np.uint64]:
    if ids.dtype.kind == "i":
        hashes = ids.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(32)
    else:
        digests = b"".join(hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest() for text in ids)
        hashes = np.frombuffer(digests, np.uint64)
    return hashes % np.uint64(count)

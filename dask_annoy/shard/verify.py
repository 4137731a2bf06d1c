"""Verifying a published shard: what is in storage now against what its manifest says, past every cache."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from dask_annoy.errors import CorruptIndexError
from dask_annoy.shard.deletions import read_deletions
from dask_annoy.shard.id_runs import RUN_FILES, IdRun
from dask_annoy.shard.ids import IdTable, id_files
from dask_annoy.shard.shard import Shard, ShardHandle
from dask_annoy.storage import (
    CELLS_FILE,
    DELETIONS,
    FOREST_FILE,
    FileEntry,
    IndexFolder,
    ShardEntry,
    shard_folder,
    shared_cache,
)

__all__ = ["Damage", "DamageKind", "RecallPromise", "ShardFindings", "check_shard", "look_at_shard"]

DamageKind = Literal["missing", "size", "checksum", "structure", "ids", "deletions", "recall"]

#: Items of the shard that are asked for their own neighbours.
_SAMPLE: Final = 200
#: A shard that finds less than this share of the promised recall is reported. The promise is for the whole index and
#: for other queries, and the sample is small; what went wrong in other systems was far below (0.07, and not 0.5).
_LEAST_SHARE: Final = 0.6


@dataclass(frozen=True)
class Damage:
    """One thing that is wrong with a shard.

    Attributes
    ----------
    kind : {"missing", "size", "checksum", "structure", "ids", "deletions", "recall"}
    file : str
        Name of the file, or of the shard's folder, in the index folder.
    reason : str
        A sentence.
    """

    kind: DamageKind
    file: str
    reason: str


@dataclass(frozen=True)
class ShardFindings:
    """What was found out about one shard.

    Attributes
    ----------
    slot : int
    uuid : str
    items, deleted : int
        Items that can be found, and those that are deleted.
    bytes : int
        Of its files, as the manifest has them.
    damages : tuple of Damage
    recall : float or None
        The share of the nearest neighbours of some of its own items that a search with the index's budget finds; None
        if it was not measured.
    """

    slot: int
    uuid: str
    items: int
    deleted: int
    bytes: int
    damages: tuple[Damage, ...] = ()
    recall: float | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.damages

    @property
    def is_damaged(self) -> bool:
        """Whether files are damaged, so that building them again would help; a low recall is not that."""
        return any(damage.kind != "recall" for damage in self.damages)


@dataclass(frozen=True)
class RecallPromise:
    """What the index promises of a search: `recall` of the best `k` with the budget `search_k` in each shard."""

    search_k: int
    k: int
    recall: float
    n_shards: int


def look_at_shard(folder: IndexFolder, entry: ShardEntry) -> ShardFindings:
    """Compare names and sizes; reads nothing."""
    return _findings(entry, _looked(folder, shard_folder(entry.uuid), entry.files) + _deletions_looked(folder, entry))


def check_shard(
    handle: ShardHandle, promise: RecallPromise | None, *, with_cells: bool = True, n_jobs: int = -1
) -> ShardFindings:
    """Read all of a shard and check it: sizes, checksums, forest, cells, ids, their run, deletions, recall.

    Remote files are downloaded once, into the local cache, and are not taken from there.

    Parameters
    ----------
    handle : ShardHandle
    promise : RecallPromise or None
        None leaves recall out.
    with_cells : bool
        Whether shards of this index have cells.
    n_jobs : int
        Threads.
    """
    folder, entry = handle.folder, handle.entry
    prefix = shard_folder(entry.uuid)
    needed = (FOREST_FILE, *([CELLS_FILE] if with_cells else []), *id_files(handle.id_type), *RUN_FILES)
    damages = [
        Damage("structure", prefix, f"the manifest names no {name} among its files")
        for name in needed
        if name not in {file.name for file in entry.files}
    ]
    recall: float | None = None
    with ExitStack() as stack:
        for file in entry.files:
            found = _looked(folder, prefix, [file])
            if not found:
                try:
                    stack.enter_context(shared_cache().lease(folder, prefix, [file], fresh=True))
                except (CorruptIndexError, FileNotFoundError) as error:
                    found = [Damage("checksum", f"{prefix}/{file.name}", str(error))]
            damages += found
        of_deletions = _deletions_checked(folder, entry)
        if not damages:
            damages += _ids_checked(handle)
            if not of_deletions:
                inside, recall = _opened(handle, promise, n_jobs)
                damages += inside
    return _findings(entry, damages + of_deletions, recall)


def _findings(entry: ShardEntry, damages: Sequence[Damage], recall: float | None = None) -> ShardFindings:
    return ShardFindings(
        slot=entry.slot,
        uuid=entry.uuid,
        items=entry.live_items,
        deleted=entry.items - entry.live_items,
        bytes=entry.bytes,
        damages=tuple(damages),
        recall=recall,
    )


def _looked(folder: IndexFolder, prefix: str, files: Sequence[FileEntry]) -> list[Damage]:
    damages = []
    for file in files:
        name = f"{prefix}/{file.name}"
        try:
            size = folder.size(name)
        except FileNotFoundError:
            damages.append(Damage("missing", name, f"{folder.where(name)} is missing"))
        else:
            if size != file.bytes:
                reason = f"{folder.where(name)} has {size} bytes, but its manifest says {file.bytes}"
                damages.append(Damage("size", name, reason))
    return damages


def _deletions_looked(folder: IndexFolder, entry: ShardEntry) -> list[Damage]:
    if entry.deletions is None:
        return []
    found = _looked(folder, DELETIONS, [entry.deletions.file])
    return [Damage("deletions", damage.file, damage.reason) for damage in found]


def _deletions_checked(folder: IndexFolder, entry: ShardEntry) -> list[Damage]:
    damages = _deletions_looked(folder, entry)
    if entry.deletions is not None and not damages:
        try:
            with shared_cache().lease(folder, DELETIONS, [entry.deletions.file], fresh=True):
                read_deletions(folder, entry)
        except (CorruptIndexError, FileNotFoundError) as error:
            damages.append(Damage("deletions", f"{DELETIONS}/{entry.deletions.file.name}", str(error)))
    return damages


def _ids_checked(handle: ShardHandle) -> list[Damage]:
    """Every id is text or a number, and the run has each item once, in the order of the keys."""
    entry, prefix = handle.entry, shard_folder(handle.entry.uuid)
    files = [file for file in entry.files if file.name in (*id_files(handle.id_type), *RUN_FILES)]
    try:
        with ExitStack() as stack:
            lease = stack.enter_context(shared_cache().lease(handle.folder, prefix, files))
            paths = {file.name: lease.path(file.name) for file in files}
            table = stack.enter_context(IdTable.open(paths, handle.id_type, entry.items))
            run = stack.enter_context(IdRun.open(paths, entry.items))
            run.check(table)
    except CorruptIndexError as error:
        return [Damage("ids", prefix, str(error))]
    return []


def _opened(handle: ShardHandle, promise: RecallPromise | None, n_jobs: int) -> tuple[list[Damage], float | None]:
    """Open the shard, which checks each node and cell, and ask for the neighbours of some of its own items."""
    prefix = shard_folder(handle.entry.uuid)
    try:
        shard = Shard(handle)  # not `open_shard`, which would keep it mapped
    except CorruptIndexError as error:
        return [Damage("structure", prefix, str(error))], None
    if promise is None:
        return [], None
    recall = _recall(shard, promise, n_jobs)
    if recall is not None and recall < promise.recall * _LEAST_SHARE:
        reason = (
            f"{handle.folder.where(prefix)} finds {recall:.3f} of the nearest neighbours of its own items with the "
            f"search budget {promise.search_k}, but its index promises {promise.recall:.3f}"
        )
        return [Damage("recall", prefix, reason)], recall
    return [], recall


def _recall(shard: Shard, promise: RecallPromise, n_jobs: int) -> float | None:
    live = shard.live_items()
    # Of a query's best k, each shard has its share only: farther neighbours in it would ask for more than is promised.
    k = max(1, -(-promise.k // promise.n_shards))
    if len(live) < 2:
        return None
    generator = np.random.Generator(np.random.PCG64(int(shard.handle.entry.uuid, 16)))
    own = np.sort(generator.choice(live, min(_SAMPLE, len(live)), replace=False, shuffle=False))
    trace = shard.trace(shard.vectors(own), own, k, n_jobs=n_jobs)
    budgets = trace.budget_array()[np.isfinite(trace.distance_array())]
    return float(((budgets >= 0) & (budgets <= promise.search_k)).mean()) if budgets.size else None

"""An open shard: its forest and ids mapped once in a process, and searched."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from dask_annoy._native import AnnoyIndex
from dask_annoy.errors import CorruptIndexError
from dask_annoy.shard.damage import naming_the_shard
from dask_annoy.shard.deletions import read_deletions
from dask_annoy.shard.hits import Hits
from dask_annoy.shard.ids import IdTable, IdType, id_files
from dask_annoy.shard.receipt import RecallTrace
from dask_annoy.storage import CELLS_FILE, FOREST_FILE, IndexFolder, Manifest, ShardEntry, shard_folder, shared_cache

__all__ = ["SearchMethod", "Shard", "ShardHandle", "open_shard", "release_shard_pages", "shard_handles"]

#: Shards that a process keeps mapped; the local cache bounds their bytes on disk.
_MOST_OPEN: Final = 1024

#: For how many queries at a time a search is planned, however many there are: answers must not depend on how a cluster
#: or a lazy graph splits them.
_PLANNED_QUERIES: Final = 1024


SearchMethod: TypeAlias = Literal["auto", "exact", "trees", "leaves", "cells"]


@dataclass(frozen=True)
class ShardHandle:
    """A small picklable description of a shard, from which any process can open it."""

    folder: IndexFolder
    entry: ShardEntry
    metric: str
    width: int
    id_type: IdType

    @property
    def bytes(self) -> int:
        """Bytes of the shard's files."""
        return self.entry.bytes

    def __sizeof__(self) -> int:
        # Dask must not take a handle for the files it describes.
        return 1024


def shard_handles(folder: IndexFolder, manifest: Manifest) -> tuple[ShardHandle, ...]:
    """The shards of a version, by slot."""
    return tuple(
        ShardHandle(folder, entry, manifest.metric, manifest.width, manifest.id_type) for entry in manifest.shards
    )


class Shard:
    """A shard that is mapped and checked. Made by `open_shard`; closes itself when nobody holds it any more."""

    def __init__(self, handle: ShardHandle) -> None:
        self.handle = handle
        entry = handle.entry
        # Held as long as the files are mapped: leased files are never evicted.
        needed = (FOREST_FILE, CELLS_FILE, *id_files(handle.id_type))
        files = [file for file in entry.files if file.name in needed]
        self._lease = shared_cache().lease(handle.folder, shard_folder(entry.uuid), files)
        self._forest = AnnoyIndex(handle.width, handle.metric)
        try:
            self._forest.load(str(self._lease.path(FOREST_FILE)))
            if self._forest.get_n_items() != entry.items:
                raise CorruptIndexError(
                    f"{self._where(FOREST_FILE)} holds {self._forest.get_n_items()} items, but its manifest says "
                    f"{entry.items}"
                )
            if any(file.name == CELLS_FILE for file in files):
                self._forest._open_cells(str(self._lease.path(CELLS_FILE)))
            self._forest._set_as_annoy(False)
            self._deleted = read_deletions(handle.folder, entry)
            paths = {file.name: self._lease.path(file.name) for file in files}
            try:
                self._ids = IdTable.open(paths, handle.id_type, entry.items)
            except KeyError as error:
                raise CorruptIndexError(
                    f"the manifest names no {error.args[0]} for the shard of slot {entry.slot}"
                ) from None
        except BaseException:
            self._forest.unload()
            self._lease.release()
            raise

    def search(
        self, queries: npt.NDArray[Any], k: int, search_k: int, *, method: SearchMethod = "auto", n_jobs: int = -1
    ) -> Hits:
        """The `k` nearest items to each query.

        Parameters
        ----------
        queries : array of shape (m, width)
            float32; for hamming packed bits, uint8 of shape (m, ceil(width / 8)).
        k : int
        search_k : int
            Search budget.
        method : {"auto", "exact", "trees", "leaves", "cells"}
            How to search; "auto" takes what costs least.
        n_jobs : int
            Threads.

        Raises
        ------
        RuntimeError
            If `method` is "cells" and the shard has none.
        """
        exclude = self._deleted if len(self._deleted) else None
        plan = self._forest._plan_search(_PLANNED_QUERIES, k, search_k, n_jobs, exclude=exclude, method=method)
        chosen = plan["method"]
        items, distances = self._forest.get_nns_by_vectors(
            queries,
            k,
            search_k,
            include_distances=True,
            n_jobs=n_jobs,
            packed=self._packed,
            exclude=exclude,
            method=chosen,
        )
        return Hits(Hits.keys_of(self.handle.entry.slot, items), distances, self._ids.take(items), {chosen: 1})

    def trace(self, sample: npt.NDArray[Any], own: npt.NDArray[np.int64], k: int, *, n_jobs: int = -1) -> RecallTrace:
        """The recall trace of the items that are not deleted, as a build makes it: their budgets, too.

        A search counts what is deleted as a candidate here, which a user's does not; so budgets are reckoned down by
        the share that is deleted.

        Parameters
        ----------
        sample : array of shape (m, width)
            As `queries` in `search`.
        own : int64 array of shape (m,)
            The item that each sampled row is itself, which is no neighbour; -2 for none.
        k : int
        n_jobs : int
            Threads.
        """
        live = self.live_items()
        items, distances = self._forest.get_nns_by_vectors(
            sample, k + 1, include_distances=True, n_jobs=n_jobs, packed=self._packed, include=live, method="exact"
        )
        is_self = items == own[:, None]
        is_self[~is_self.any(axis=1), -1] = True  # one column goes in every row
        shape = (len(items), k)
        items, distances = items[~is_self].reshape(shape), distances[~is_self].reshape(shape)
        budgets = self._forest.budgets_to_find(sample, items, n_jobs=n_jobs, packed=self._packed)
        share = len(live) / self.handle.entry.items
        return RecallTrace.of(distances, np.where(budgets > 0, np.ceil(budgets * share), budgets).astype(np.int64))

    def release_pages(self) -> None:
        """Let the pages of the mapped files stop counting as the process's memory, until they are needed again."""
        self._forest._release_pages()

    def live_items(self) -> npt.NDArray[np.int64]:
        """The numbers of the items that are not deleted, ascending."""
        return np.delete(np.arange(self.handle.entry.items), self._deleted)

    def vectors(self, items: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """The vectors of items: float32 of shape (n, width); for hamming packed bits."""
        if self._packed:
            return self._forest.get_item_vectors(items, packed=True)
        return self._forest.get_item_vectors(items)

    def ids(self, items: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """The ids of items."""
        return self._ids.take(items)

    @property
    def _packed(self) -> bool:
        return self.handle.metric == "hamming"

    def _where(self, name: str) -> str:
        return self.handle.folder.where(f"{shard_folder(self.handle.entry.uuid)}/{name}")


class _OpenShards:
    """The shards this process has mapped, least recently used first out."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shards: OrderedDict[ShardHandle, Shard] = OrderedDict()
        self._bytes = 0  # of their files in the local cache
        self._opening: dict[ShardHandle, threading.Lock] = {}

    def get(self, handle: ShardHandle) -> Shard:
        with self._lock:
            shard = self._shards.get(handle)
            if shard is not None:
                self._shards.move_to_end(handle)
                return shard
            opening = self._opening.setdefault(handle, threading.Lock())
        with opening:  # one thread opens, the others wait for it
            with self._lock:
                shard = self._shards.get(handle)
            if shard is None:
                self._make_room(handle)
                shard = Shard(handle)
                with self._lock:
                    self._bytes += 0 if handle in self._shards else _cached_bytes(handle)
                    self._shards[handle] = shard
                    self._opening.pop(handle, None)
        return shard

    def release_pages(self) -> None:
        with self._lock:
            shards = list(self._shards.values())
        for shard in shards:
            shard.release_pages()

    def _make_room(self, handle: ShardHandle) -> None:
        """Let go of shards that the local cache would need to evict: it never evicts what is mapped."""
        bound = shared_cache().max_bytes - _cached_bytes(handle)
        with self._lock:
            # Not a pass over all that are open: each step of one hashes a handle with all that it holds.
            while len(self._shards) >= _MOST_OPEN:
                self._let_go(next(iter(self._shards)))
            while self._bytes > max(bound, 0):
                self._let_go(next(oldest for oldest in self._shards if _cached_bytes(oldest)))

    def _let_go(self, handle: ShardHandle) -> None:
        del self._shards[handle]
        self._bytes -= _cached_bytes(handle)


def _cached_bytes(handle: ShardHandle) -> int:
    return 0 if handle.folder.is_local else handle.bytes  # local files are mapped in place


_open_shards = _OpenShards()


def release_shard_pages(max_bytes: int) -> None:
    """Let go of the resident pages of all open shards, if this process has more than `max_bytes` of mapped files.

    The kernel would take them back when it needs them, but whoever watches a process's memory, as Dask's nannies do,
    counts them in. They are read again from the page cache, most often, and not from the disk.
    """
    if _resident_file_bytes() > max_bytes:
        _open_shards.release_pages()


def _resident_file_bytes() -> int:
    """Bytes of mapped files that are resident in this process; 0 where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_bytes().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith((b"RssFile:", b"RssShmem:")))


def _after_fork() -> None:
    global _open_shards
    _open_shards = _OpenShards()


os.register_at_fork(after_in_child=_after_fork)


def open_shard(handle: ShardHandle) -> Shard:
    """The open shard of a handle: mapped once in a process and kept while there is room.

    Raises
    ------
    CorruptIndexError
        If a file is missing, or does not have the size, checksum or structure that the manifest promises; names the
        shard and says what to run.
    """
    with naming_the_shard(handle.folder, handle.entry):
        return _open_shards.get(handle)

"""`ShardedIndex`: a snapshot of one version, and `open_index`, which opens it."""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping
from typing import Any, Final

from dask_annoy.cluster.append import OnDuplicate, append_vectors
from dask_annoy.cluster.compact import compact_shards
from dask_annoy.cluster.copying import copy_version, export_version
from dask_annoy.cluster.delete import Missing, delete_ids
from dask_annoy.cluster.executor import ClientLike, Progress, executor_for
from dask_annoy.cluster.history import VersionInfo, list_version_infos, open_manifest, roll_back
from dask_annoy.cluster.origins import GivenSource
from dask_annoy.cluster.places import check_reachable, check_writable, options_for
from dask_annoy.cluster.query import QueryResult, query
from dask_annoy.cluster.repair import RepairReport, repair_version
from dask_annoy.cluster.verify import VerifyMode, VerifyReport, verify_version
from dask_annoy.shard import SearchMethod
from dask_annoy.storage import (
    Garbage,
    IndexFolder,
    Manifest,
    collect_garbage,
    create_tag,
    delete_tag,
)

__all__ = ["ShardedIndex", "open_index"]

_GC_AGE: Final = datetime.timedelta(days=7)


class ShardedIndex:
    """An immutable snapshot of one version of an index. Made by `build_index` or `open_index`.

    Small and picklable: it knows where the shards are, and opens them where they are searched.

    Parameters
    ----------
    folder : IndexFolder
    manifest : Manifest
    client : distributed.Client, None or False
        Where queries run; None takes the Dask client that is current when a query is made, else local threads.
    """

    def __init__(self, folder: IndexFolder, manifest: Manifest, client: ClientLike = None) -> None:
        self._folder = folder
        self.manifest = manifest
        self._client = client

    @property
    def url(self) -> str:
        """Address of the index folder, without credentials."""
        return self._folder.display_url

    @property
    def version(self) -> int:
        """Number of the version."""
        return self.manifest.version

    @property
    def metric(self) -> str:
        """Name of the metric."""
        return self.manifest.metric

    @property
    def width(self) -> int:
        """Dimensions of a vector."""
        return self.manifest.width

    @property
    def n_shards(self) -> int:
        """Number of shards."""
        return len(self.manifest.shards)

    def __len__(self) -> int:
        return self.manifest.totals.items

    def query(
        self,
        Q: Any,
        k: int = 10,
        search_k: int | None = None,
        target_recall: float | None = None,
        *,
        method: SearchMethod = "auto",
    ) -> QueryResult:
        """The `k` nearest items to each query, from all shards.

        Parameters
        ----------
        Q : array of shape (m, width), or of shape (width,) for one query
            A numpy array is answered at once; a Dask array gives lazy Dask arrays and computes nothing. For hamming,
            rows of 0 and 1 or, as uint8 of shape (m, ceil(width / 8)), packed bits.
        k : int
            Answers a query.
        search_k : int, optional
            Search budget: candidates looked at in each shard, repeats counted. The tuned one if not given.
        target_recall : float, optional
            Choose the budget for this recall instead of the one the index was tuned for.
        method : {"auto", "exact", "trees", "leaves", "cells"}
            How each shard is searched. "auto" takes what costs least at the search budget: cells, or, where that costs
            no more, an exact scan; a shard without cells by its trees, for a batch leaf by leaf. What was taken stands
            in the result's `methods`. Budgets for a recall are those of cells, or of the trees in an index that was
            built without.

        Returns
        -------
        QueryResult
            ``(ids, distances)``, each of shape (m, k) (or (k,) for one query), nearest first. ``ids`` are int64 with
            -1, or objects (str) with None, where there are fewer than `k` answers; distances are float32 with
            infinity there. For dot, distances are products: larger is better, and -infinity pads.

        Raises
        ------
        InvalidVectorsError
            If the queries have another width, or hold NaN or infinity.
        ValueError
            If `method` is "cells" and a shard has none.
        CorruptIndexError
            If a shard's file is damaged; names the file.
        """
        return query(self._folder, self.manifest, self._client, Q, k, search_k, target_recall, method)

    # Changes: each commits a new version and returns it

    def append(
        self,
        vectors: Any,
        ids: Any = None,
        *,
        column: str | None = None,
        packed: bool | None = None,
        on_duplicate: OnDuplicate = "raise",
        source_options: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> ShardedIndex:
        """Add vectors as new shards, built by the rules of the first build, and commit a version with them.

        Two appends at the same time both succeed. An append that was killed goes on from its finished shards, verified,
        when it is run again; one that was the last change already does nothing.

        Parameters
        ----------
        vectors : as for `build_index`
        ids : as for `build_index`, optional
            May be left out where all items have row numbers as ids: the numbers go on.
        column : str, optional
            As for `build_index`.
        packed : bool, optional
            As for `build_index`; as it was in the first build if not given.
        on_duplicate : {"raise", "keep", "replace"}
            What to do if an id is in the index already: refuse, keep the old item, or put the new one in its place.
        source_options : mapping, optional
            As for `build_index`.
        progress : callable, optional
            Called with (label, done, total) as work goes on.

        Returns
        -------
        ShardedIndex
            The new version.

        Raises
        ------
        InvalidVectorsError
            If vectors do not fit the index.
        InvalidIdsError
            If ids are repeated, are in the index, or are of another type than its ids.
        CommitConflictError
            If another writer has replaced the index, or has added some of the same ids meanwhile.
        """
        options = options_for(vectors, self._folder) if source_options is None else source_options
        with executor_for(self._client) as executor:
            check_writable(self._folder, executor)
            manifest = append_vectors(
                self._folder,
                self.manifest,
                vectors,
                ids=ids,
                column=column,
                packed=packed,
                on_duplicate=on_duplicate,
                source_options=options,
                executor=executor,
                progress=progress,
            )
        return self._at(manifest)

    def upsert(self, vectors: Any, ids: Any, **options: Any) -> ShardedIndex:
        """Add vectors, in place of those that have the same ids: `append` with ``on_duplicate="replace"``."""
        return self.append(vectors, ids, on_duplicate="replace", **options)

    def delete(self, ids: Any, *, missing: Missing = "raise", progress: Progress | None = None) -> ShardedIndex:
        """Delete items by their ids and commit a version without them.

        Shards stay as they are; a small set of item numbers beside each says what is deleted, and is honoured before
        anything is scored, so that queries still get `k` answers. `compact` frees the space.

        Parameters
        ----------
        ids : array_like of integers or strings, shape (n,)
        missing : {"raise", "ignore"}
            What to do about ids that are not in the index.
        progress : callable, optional
            Called with (label, done, total) as work goes on.

        Raises
        ------
        InvalidIdsError
            If ids are missing, or of another type than the index's.
        CommitConflictError
            If another writer has rewritten shards meanwhile.
        """
        with executor_for(self._client) as executor:
            check_writable(self._folder, executor)
            manifest = delete_ids(self._folder, self.manifest, ids, missing, executor, progress)
        return self._at(manifest)

    def compact(self, *, max_deleted: float = 0.2, progress: Progress | None = None) -> ShardedIndex:
        """Rewrite small shards, and those with many deleted items, and commit a version with the new ones.

        Before the commit it is checked that the new shards hold the same ids, and reach the recall that the index had;
        the old version stays until `gc`.

        Parameters
        ----------
        max_deleted : float
            Shards with a larger share of deleted items are rewritten. Small are those of at most half the rows of a
            full shard; they are rewritten if there are fewer of them afterwards.
        progress : callable, optional
            Called with (label, done, total) as work goes on.

        Raises
        ------
        CompactionError
            If the new shards fail the check; nothing is committed.
        CommitConflictError
            If another writer has changed one of the shards meanwhile.
        """
        with executor_for(self._client) as executor:
            check_writable(self._folder, executor)
            manifest = compact_shards(self._folder, self.manifest, max_deleted, executor, progress)
        return self._at(manifest)

    def rollback(self, version: int | str) -> ShardedIndex:
        """Commit a new version that holds what an older one did.

        Where the manifest of the newest version is damaged, open the newest that can be read, and roll back from it.

        Parameters
        ----------
        version : int or str
            Its number, or a tag.

        Raises
        ------
        IndexNotFoundError
            If there is no such version (any more).
        CommitConflictError
            If this snapshot is not the newest version: others have changed what would be undone.
        """
        return self._at(roll_back(self._folder, self.manifest, version))

    # Damage

    def verify(self, mode: VerifyMode = "quick", *, progress: Progress | None = None) -> VerifyReport:
        """Check that all files of this version are there and sound.

        Parameters
        ----------
        mode : {"quick", "full"}
            "quick" compares names and sizes. "full" reads everything that is stored, past all caches, where tasks run:
            checksums, each node of the forests, cells, ids and their runs, deletion sets, that ids are unique in the
            index, and the recall of each shard on some of its own items.
        progress : callable, optional
            Called with (label, done, total) as work goes on.

        Returns
        -------
        VerifyReport
            Its ``ok`` says whether all is well; print it to see what is not.
        """
        with executor_for(self._client) as executor:
            check_reachable(self._folder, executor)
            return verify_version(self._folder, self.manifest, mode, executor, progress)

    def repair(
        self,
        vectors: Any = None,
        ids: Any = None,
        *,
        column: str | None = None,
        drop: bool = False,
        mode: VerifyMode = "full",
        source_options: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> RepairReport:
        """Verify the newest version, build damaged shards again, and commit a version with them.

        A shard is built again only if what it was built from is still there and unchanged, and is taken only if it has
        the bytes that it had. The files of a build or an append are found by their URL; what came from memory has to be
        given again. Older versions and tags stay as they are, and so do damaged files.

        Parameters
        ----------
        vectors, ids, column : as for `build_index`, optional
            What the shards were built from, if it was in memory or is needed in place of what the builds name.
        drop : bool
            Leave shards that cannot be built again out of the new version. The report says what is lost.
        mode : {"quick", "full"}
            How damage is looked for; see `verify`.
        source_options : mapping, optional
            As for `build_index`.
        progress : callable, optional
            Called with (label, done, total) as work goes on.

        Returns
        -------
        RepairReport
            What was mended, lost, or is still damaged, and why; its ``index`` is the newest version.

        Raises
        ------
        CorruptIndexError
            If no shard would be left.
        CommitConflictError
            If another build has replaced the index.
        OSError
            If a source cannot be read now but may be there all the same: nothing is given up for that.
        """
        with executor_for(self._client) as executor:
            check_writable(self._folder, executor)
            outcome = repair_version(
                self._folder,
                self.manifest,
                GivenSource(vectors, ids, column, source_options),
                drop=drop,
                mode=mode,
                executor=executor,
                progress=progress,
            )
        return RepairReport.of(self._at(outcome.manifest), outcome, drop=drop)

    # Versions

    def versions(self) -> list[VersionInfo]:
        """All versions that can be opened, oldest first, with their tags."""
        return list_version_infos(self._folder)

    def tag(self, name: str) -> None:
        """Give this version a name, by which `open_index` finds it and which keeps it from `gc`.

        Raises
        ------
        CommitConflictError
            If the name is that of another version: tags are not moved, see `untag`.
        """
        create_tag(self._folder, name, self.version)

    def untag(self, name: str) -> None:
        """Take a tag away. IndexNotFoundError if there is no such tag."""
        delete_tag(self._folder, name)

    def gc(self, older_than: datetime.timedelta = _GC_AGE, *, dry_run: bool = True) -> Garbage:
        """Delete old versions, and files that no version names.

        Kept are the newest version, tagged ones, and those that were the newest less than `older_than` ago; and all
        files that dask-annoy does not know. Whoever has an older version open can then no longer query it.

        Parameters
        ----------
        older_than : timedelta
            By the storage's clock. Longer than any build takes: younger files may belong to a writer at work.
        dry_run : bool
            Only say what would be deleted. The default.

        Returns
        -------
        Garbage
            Which versions and files, and how many bytes.
        """
        if older_than < datetime.timedelta(0):
            raise ValueError(f"older_than must not be negative, but is {older_than}")
        return collect_garbage(self._folder, older_than.total_seconds(), dry_run=dry_run)

    def copy(
        self,
        url: str | os.PathLike[str],
        *,
        storage_options: Mapping[str, Any] | None = None,
        allow_unsafe_publish: bool = False,
        progress: Progress | None = None,
    ) -> ShardedIndex:
        """Copy this version to an empty folder, where it is the first version of an index of its own.

        Files are verified on their way. A copy that was killed goes on from the shards that are there, verified, when
        it is run again; one that was finished already does nothing.

        Raises
        ------
        IndexExistsError
            If an index is published there.
        """
        target = IndexFolder(os.fspath(url), dict(storage_options or {}), allow_unsafe_publish)
        with executor_for(self._client) as executor:
            manifest = copy_version(self._folder, self.manifest, target, executor, progress)
        return ShardedIndex(target, manifest, self._client)

    def export(
        self,
        url: str | os.PathLike[str],
        *,
        storage_options: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Write plain files that need no dask-annoy: for each shard its Annoy file and its ids.

        ``00000000.ann`` is read by any Annoy 1.17.3; ``00000000.ids.npy`` has the id of each item number (strings: two
        files, ``.ids.offsets.npy`` and ``.ids.utf8.npy``). Where items were deleted, ``00000000.deleted.npy`` has
        their numbers: an Annoy file still holds them (`compact` with ``max_deleted=0`` first, to be rid of them).
        ``index.json``, written last, has metric, width, and sizes and checksums of all files.
        """
        target = IndexFolder(os.fspath(url), dict(storage_options or {}))
        with executor_for(self._client) as executor:
            export_version(self._folder, self.manifest, target, executor, progress)

    def _at(self, manifest: Manifest) -> ShardedIndex:
        return ShardedIndex(self._folder, manifest, self._client)

    def info(self) -> dict[str, Any]:
        """What is known of the index, as plain values for people and JSON."""
        manifest = self.manifest
        tuning = manifest.tuning
        return {
            "url": self.url,
            "version": manifest.version,
            "operation": manifest.operation,
            "created": manifest.created.isoformat(),
            "build_id": manifest.build_id,
            "library": manifest.library,
            "source": manifest.source,
            "source_dtype": manifest.source_dtype,
            "metric": manifest.metric,
            "width": manifest.width,
            "packed": manifest.packed,
            "ids": manifest.id_type,
            "items": manifest.totals.items,
            "deleted": manifest.totals.deleted,
            "bytes": manifest.totals.bytes,
            "shards": [
                {"slot": shard.slot, "items": shard.live_items, "bytes": shard.bytes} for shard in manifest.shards
            ],
            "n_trees": manifest.shards[0].n_trees,
            "cells": sum(shard.has_cells for shard in manifest.shards),
            "tuning": None
            if tuning is None
            else {
                "target_recall": tuning.target_recall,
                "method": tuning.curves[0].method,
                "recall": tuning.recall,
                "search_k": tuning.search_k,
                "k": tuning.curves[0].k,
                "sample_rows": tuning.curves[0].sample_rows,
                "curve": [[point.search_k, point.recall] for point in tuning.curves[0].points],
            },
        }

    def __repr__(self) -> str:
        manifest = self.manifest
        recall = "" if manifest.tuning is None else f", recall@10 {manifest.tuning.recall:.3f}"
        return (
            f"<ShardedIndex {self.url} version {manifest.version}: {manifest.totals.items:,} × {manifest.width} "
            f"{manifest.metric} in {len(manifest.shards)} shards{recall}>"
        )

    def __getstate__(self) -> dict[str, Any]:
        # A client is a connection of this process; where the index is unpickled, the one there is taken.
        return {"_folder": self._folder, "manifest": self.manifest, "_client": False if self._client is False else None}


def open_index(
    url: str | os.PathLike[str],
    *,
    version: int | str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    allow_unsafe_publish: bool = False,
    client: ClientLike = None,
) -> ShardedIndex:
    """Open a published index. Reads one manifest; shards are opened when they are first searched.

    Parameters
    ----------
    url : str or PathLike
        The index folder.
    version : int or str, optional
        Its number or a tag; the newest if not given.
    storage_options : mapping, optional
        What fsspec needs beside the URL.
    allow_unsafe_publish : bool
        As for `build_index`; for methods that change the index.
    client : distributed.Client, None or False
        As for `build_index`.

    Raises
    ------
    IndexNotFoundError
        If nothing, or no such version, is published there.
    CorruptIndexError, FormatVersionError
        If the manifest is damaged, or written by a newer release. The message says which versions can be read.
    """
    folder = IndexFolder(os.fspath(url), dict(storage_options or {}), allow_unsafe_publish)
    return ShardedIndex(folder, open_manifest(folder, version), client)

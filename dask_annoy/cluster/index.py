"""`ShardedIndex`: a snapshot of one version, and `open_index`, which opens it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from dask_annoy.cluster.executor import ClientLike
from dask_annoy.cluster.query import QueryResult, query
from dask_annoy.storage import IndexFolder, Manifest, read_manifest

__all__ = ["ShardedIndex", "open_index"]


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
        CorruptIndexError
            If a shard's file is damaged; names the file.
        """
        return query(self._folder, self.manifest, self._client, Q, k, search_k, target_recall)

    def info(self) -> dict[str, Any]:
        """What is known of the index, as plain values for people and JSON."""
        manifest = self.manifest
        tuning = manifest.tuning
        return {
            "url": self.url,
            "version": manifest.version,
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
            "bytes": manifest.totals.bytes,
            "shards": [
                {"slot": shard.slot, "items": shard.items, "bytes": sum(file.bytes for file in shard.files)}
                for shard in manifest.shards
            ],
            "n_trees": manifest.shards[0].n_trees,
            "tuning": None
            if tuning is None
            else {
                "target_recall": tuning.target_recall,
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
    version: int | None = None,
    storage_options: Mapping[str, Any] | None = None,
    allow_unsafe_publish: bool = False,
    client: ClientLike = None,
) -> ShardedIndex:
    """Open a published index. Reads one manifest; shards are opened when they are first searched.

    Parameters
    ----------
    url : str or PathLike
        The index folder.
    version : int, optional
        The newest if not given.
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
        If the manifest is damaged, or written by a newer release.
    """
    folder = IndexFolder(os.fspath(url), dict(storage_options or {}), allow_unsafe_publish)
    return ShardedIndex(folder, read_manifest(folder, version), client)

"""`build_index` and `plan_index`: from vectors to one committed version."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from dask_annoy.cluster.earlier_builds import changes_since, warn_of_unfinished
from dask_annoy.cluster.executor import ClientLike, Progress, executor_for
from dask_annoy.cluster.id_check import check_ids_unique
from dask_annoy.cluster.index import ShardedIndex
from dask_annoy.cluster.inputs import VectorForm, input_shape, open_inputs
from dask_annoy.cluster.places import check_writable, options_for
from dask_annoy.cluster.settings import current_settings
from dask_annoy.cluster.shard_tasks import build_shards
from dask_annoy.errors import CommitConflictError, IndexExistsError
from dask_annoy.planning import BuildPlan, make_plan, tune
from dask_annoy.shard import ShardReceipt
from dask_annoy.storage import (
    IndexFolder,
    Manifest,
    Rules,
    Totals,
    at_work,
    commit,
    latest_version,
    read_manifest,
    signature,
)

__all__ = ["build_index", "plan_index"]

Auto = int | Literal["auto"]
Cells = int | Literal["auto", False]


def plan_index(
    vectors: Any,
    *,
    metric: str = "angular",
    ids: Any = None,
    column: str | None = None,
    width: int | None = None,
    packed: bool = False,
    n_trees: Auto = "auto",
    shard_rows: Auto = "auto",
    cells: Cells = "auto",
    target_recall: float = 0.9,
    seed: int = 0,
    source_options: Mapping[str, Any] | None = None,
    client: ClientLike = None,
) -> BuildPlan:
    """Say what `build_index` would do with the same arguments, and what it would take. Builds nothing.

    Parameters are those of `build_index`. The plan follows from the data's shape and the parameters only, never from
    the cluster. Of a Dask collection at most the chunk sizes are computed.

    Returns
    -------
    BuildPlan
        Print it: it is a table for people.
    """
    form = VectorForm(metric, width, packed)
    with executor_for(client) as executor, executor.computing():
        name, dtype, n_rows, found_width, id_type, identity = input_shape(
            vectors, ids, form, column=column, source_options=source_options
        )
    return make_plan(
        source=name,
        source_dtype=dtype,
        n_rows=n_rows,
        metric=metric,
        width=found_width,
        packed=packed,
        id_type=id_type,
        identity=identity,
        n_trees=n_trees,
        shard_rows=shard_rows,
        target_recall=target_recall,
        seed=seed,
        cells=cells,
        block_bytes=current_settings().block_bytes,
    )


def build_index(
    vectors: Any,
    url: str | os.PathLike[str],
    *,
    metric: str = "angular",
    ids: Any = None,
    column: str | None = None,
    width: int | None = None,
    packed: bool = False,
    n_trees: Auto = "auto",
    shard_rows: Auto = "auto",
    cells: Cells = "auto",
    target_recall: float = 0.9,
    seed: int = 0,
    resume: bool = True,
    overwrite: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    source_options: Mapping[str, Any] | None = None,
    allow_unsafe_publish: bool = False,
    client: ClientLike = None,
    progress: Progress | None = None,
) -> ShardedIndex:
    """Build a sharded index of vectors and publish it as one version.

    Parameters
    ----------
    vectors : Dask array, Dask dataframe or series, numpy array, or URL
        Shape (n, width). Files (``.npy``, ``.fbin`` and its kin, Parquet, Zarr) are read by the shard tasks
        themselves. A dataframe needs `column`.
    url : str or PathLike
        The index folder: a local path or any fsspec URL that can create a file exclusively (local and NFS folders,
        ``memory://``, S3, Google Cloud Storage, Azure).
    metric : {"angular", "euclidean", "manhattan", "hamming", "dot"}
    ids : array of integers or strings, Dask array or series, column name, or URL of a ``.npy`` file, optional
        One a vector, unique. The row numbers if not given.
    column : str, optional
        Column of a dataframe or of Parquet files that holds the vectors.
    width : int, optional
        Dimensions; needed with ``packed=True``, else checked.
    packed : bool
        For hamming: rows hold packed bits, uint8 in the order of `numpy.packbits`. Otherwise hamming takes a
        component for 1 if it is larger than 0.5.
    n_trees : int or "auto"
        Trees in each shard.
    shard_rows : int or "auto"
        Rows of a shard at most.
    cells : "auto", int or False
        About how many cells each shard gets, by which it is searched; "auto" follows from its items. False makes none:
        shards take a fifth to a half less room, and are searched by their trees, many times as slowly.
    target_recall : float
        The recall@10 that the default search budget is chosen for, measured on sampled rows.
    seed : int
        The same input, parameters and seed give byte-identical shards on any number of threads and workers.
    resume : bool
        Go on from the shards that an earlier run of the same build has finished, once their sizes and checksums are
        verified. If the input or a parameter is not what it was, that is warned of (`UnfinishedBuildWarning`), by name.
    overwrite : bool
        Commit a new version where another index is published; the old version stays readable.
    storage_options, source_options : mapping, optional
        What fsspec needs for `url`, and for `vectors` and `ids` if they are URLs. `source_options` defaults to
        `storage_options` where both are on the same kind of storage.
    allow_unsafe_publish : bool
        Publish also on storage that cannot create a file exclusively (SFTP, WebHDFS …). Right only as long as nobody
        else writes to this index: of two writers at once, one can overwrite the other's version.
    client : distributed.Client, None or False
        None takes the current client if there is one, else local threads. False forces local threads.
    progress : callable, optional
        Called with (label, done, total) as work goes on.

    Returns
    -------
    ShardedIndex
        The committed version; the one that stands already if this very build was committed before.

    Raises
    ------
    InvalidVectorsError, InvalidIdsError
        For NaN, infinities, a wrong width, ragged rows, repeated ids …: naming the source and the first bad row.
    IndexExistsError
        If another index is published under the URL and `overwrite` is not set.
    CommitConflictError
        If another writer published a version in the meantime.
    UnsupportedStorageError
        If the storage cannot create a file exclusively.
    """
    folder = IndexFolder(os.fspath(url), dict(storage_options or {}), allow_unsafe_publish)
    if source_options is None:
        source_options = options_for(vectors, folder)
    form = VectorForm(metric, width, packed)
    with executor_for(client) as executor:
        check_writable(folder, executor)
        inputs = open_inputs(
            vectors,
            ids,
            form,
            column=column,
            source_options=source_options,
            folder=folder,
            executor=executor,
            progress=progress,
        )
        try:
            plan = make_plan(
                source=inputs.name,
                source_dtype=inputs.dtype,
                n_rows=inputs.n_rows,
                metric=metric,
                width=inputs.width,
                packed=packed,
                id_type=inputs.id_type,
                identity=inputs.identity(),
                n_trees=n_trees,
                shard_rows=shard_rows,
                target_recall=target_recall,
                seed=seed,
                cells=cells,
                block_bytes=current_settings().block_bytes,
            )
            with at_work(folder, "build"):
                parent = latest_version(folder)
                standing = _standing(folder, parent, plan, overwrite)
                if standing is None:
                    if resume:
                        warn_of_unfinished(folder, plan, None if parent is None else read_manifest(folder, parent))
                    receipts = build_shards(folder, inputs, plan, executor, resume, progress)
                    entries = tuple(receipt.entry for receipt in receipts)
                    if not inputs.ids_are_row_numbers:
                        check_ids_unique(folder, entries, plan.id_type, executor, progress)
                    next_id = plan.n_rows if inputs.ids_are_row_numbers else None
                    standing = _commit(folder, parent, plan, receipts, next_id, overwrite)
        finally:
            inputs.remove_staging()
    return ShardedIndex(folder, standing, client)


def _standing(folder: IndexFolder, version: int | None, plan: BuildPlan, overwrite: bool) -> Manifest | None:
    """The committed version of this very build; None if there is none and nothing stands in its way."""
    if version is None:
        return None
    manifest = read_manifest(folder, version)
    if _is_of(manifest, plan.build_id, overwrite):
        return manifest
    if overwrite:
        return None
    changed = changes_since(folder, manifest.build_id, plan)
    raise IndexExistsError(
        f"{folder} holds version {manifest.version} of another index ({manifest.totals.items:,} items of "
        f"{manifest.source}, {manifest.metric}, width {manifest.width}): {changed}. "
        "Give another URL, or overwrite=True to commit a new version beside the old one"
    )


def _is_of(manifest: Manifest, build_id: str | None, overwrite: bool) -> bool:
    """Whether a version is what this build would make; with overwrite, one that was changed since is not."""
    return manifest.build_id == build_id and not (overwrite and manifest.operation != "build")


def _commit(
    folder: IndexFolder,
    parent: int | None,
    plan: BuildPlan,
    receipts: Sequence[ShardReceipt],
    next_id: int | None,
    overwrite: bool,
) -> Manifest:
    """Publish the version after `parent`, the newest when the build began: what came since, a conflict, is not ours."""
    entries = tuple(receipt.entry for receipt in receipts)
    manifest = Manifest(
        index_id=read_manifest(folder, parent).index_id if parent else uuid.uuid4().hex,
        version=(parent or 0) + 1,
        parent=parent,
        build_id=str(plan.build_id),
        metric=plan.metric,
        width=plan.width,
        packed=plan.packed,
        source=plan.source[:4096],
        source_dtype=plan.source_dtype,
        id_type=plan.id_type,
        next_id=next_id,
        rules=Rules(
            n_trees=plan.n_trees,
            shard_rows=plan.shard_rows_rule,
            seed=plan.seed,
            target_recall=plan.target_recall,
            cells=plan.cells,
        ),
        partition="rows",
        shards=entries,
        tuning=tune([receipt.trace for receipt in receipts], plan.metric, plan.target_recall, method=plan.tuned_method),
        totals=Totals.of(entries),
        **signature(),
    )
    try:
        commit(folder, manifest)
    except CommitConflictError:
        winner = read_manifest(folder)
        if not _is_of(winner, manifest.build_id, overwrite):
            raise
        return winner  # the same build ran twice: both made the same shards
    return manifest

"""`build_index` and `plan_index`: from vectors to one committed version."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dask_annoy.cluster.executor import ClientLike, Executor, Place, Progress, executor_for
from dask_annoy.cluster.id_check import check_ids_unique
from dask_annoy.cluster.index import ShardedIndex
from dask_annoy.cluster.inputs import Inputs, SlotInput, VectorForm, input_shape, open_inputs
from dask_annoy.cluster.settings import current_settings
from dask_annoy.errors import CommitConflictError, IndexExistsError, UnsupportedStorageError
from dask_annoy.planning import BuildPlan, SlotPlan, make_plan, tune
from dask_annoy.shard import ShardReceipt, ShardTask, build_shard, read_receipts, write_sample
from dask_annoy.storage import (
    IndexFolder,
    Manifest,
    Totals,
    commit,
    latest_version,
    plan_name,
    put_if_absent,
    read_manifest,
)
from dask_annoy.vectors import encode_rows

__all__ = ["build_index", "plan_index"]

Auto = int | Literal["auto"]


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
    target_recall : float
        The recall@10 that the default search budget is chosen for, measured on sampled rows.
    seed : int
        The same input, parameters and seed give byte-identical shards on any number of threads and workers.
    resume : bool
        Go on from the shards that an earlier run of the same build has finished.
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
        source_options = _options_for(vectors, folder)
    form = VectorForm(metric, width, packed)
    with executor_for(client) as executor:
        _check_storage(folder, executor)
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
                block_bytes=current_settings().block_bytes,
            )
            parent = latest_version(folder)
            standing = _standing(folder, parent, plan, overwrite)
            if standing is None:
                receipts = _build_shards(folder, inputs, plan, executor, resume, progress)
                if not inputs.ids_are_row_numbers:
                    check_ids_unique(folder, [receipt.entry for receipt in receipts], plan, executor, progress)
                standing = _commit(folder, parent, plan, receipts)
        finally:
            inputs.remove_staging()
    return ShardedIndex(folder, standing, client)


def _check_storage(folder: IndexFolder, executor: Executor) -> None:
    if not folder.can_publish:
        folder.create("versions/none", b"refused")  # raises, and says why
    if folder.protocol == "memory" and executor.is_remote:
        raise UnsupportedStorageError(
            f"{folder} is in the memory of this process, which the workers of the cluster do not share: "
            "give a folder or bucket that all of them can reach"
        )


def _options_for(vectors: Any, folder: IndexFolder) -> Mapping[str, Any] | None:
    """The index's storage options, for a source on the same kind of storage."""
    if isinstance(vectors, (str, os.PathLike)):
        url = os.fspath(vectors)  # not as an IndexFolder, which refuses fsspec's caches
        if "::" not in url and url.partition("://")[0] == folder.protocol:
            return folder.storage_options
    return None


def _standing(folder: IndexFolder, version: int | None, plan: BuildPlan, overwrite: bool) -> Manifest | None:
    """The committed version of this very build; None if there is none and nothing stands in its way."""
    if version is None:
        return None
    manifest = read_manifest(folder, version)
    if manifest.build_id == plan.build_id:
        return manifest
    if overwrite:
        return None
    raise IndexExistsError(
        f"{folder} holds version {manifest.version} of another index ({manifest.totals.items:,} items of "
        f"{manifest.source}, {manifest.metric}, width {manifest.width}): the input or a parameter differs. "
        "Give another URL, or overwrite=True to commit a new version beside the old one"
    )


def _build_shards(
    folder: IndexFolder,
    inputs: Inputs,
    plan: BuildPlan,
    executor: Executor,
    resume: bool,
    progress: Progress | None,
) -> list[ShardReceipt]:
    """Build the shards that no receipt speaks for, and return the receipts of all, by slot."""
    build_id = str(plan.build_id)
    put_if_absent(folder, plan_name(build_id), plan.model_dump_json(indent=1).encode())
    found = read_receipts(folder, build_id) if resume else {}
    missing = [slot for slot in plan.slots if slot.slot not in found]
    if missing:
        write_sample(folder, build_id, _sample(inputs, plan, executor, progress))
    block_bytes = current_settings().block_bytes
    tasks = [_shard_task(folder, inputs, plan, slot, block_bytes) for slot in missing]
    built = executor.run(_build_shard, tasks, label="build", weights=[slot.rows for slot in missing], progress=progress)
    found |= {receipt.entry.slot: receipt for receipt in built}
    return [found[slot.slot] for slot in plan.slots]


def _shard_task(folder: IndexFolder, inputs: Inputs, plan: BuildPlan, slot: SlotPlan, block_bytes: int) -> ShardTask:
    part = inputs.slot(slot.row_start, slot.row_stop)
    return ShardTask(
        folder=folder,
        build_id=str(plan.build_id),
        slot=slot.slot,
        row_start=slot.row_start,
        row_stop=slot.row_stop,
        vectors=part.vectors,
        vectors_start=part.vectors_start,
        ids=part.ids,
        ids_start=part.ids_start,
        source_name=inputs.name,
        metric=plan.metric,
        width=plan.width,
        packed=inputs.rows_packed,
        n_trees=plan.n_trees,
        seed=plan.seed,
        sample_rows=plan.sample_rows,
        k=plan.k,
        block_bytes=block_bytes,
    )


def _build_shard(task: ShardTask, place: Place) -> ShardReceipt:
    return build_shard(task, scratch=place.scratch, n_jobs=place.n_jobs)


@dataclass(frozen=True)
class _SampleTask:
    """The sampled rows of one slot."""

    part: SlotInput
    row_start: int
    rows: tuple[int, ...]
    name: str
    metric: str
    width: int
    packed: bool


def _sample(inputs: Inputs, plan: BuildPlan, executor: Executor, progress: Progress | None) -> npt.NDArray[Any]:
    """Read the sampled rows, encoded, in the order of their numbers."""
    tasks = []
    for slot in plan.slots:
        rows = tuple(row for row in plan.sample_rows if slot.row_start <= row < slot.row_stop)
        if rows:
            part = inputs.slot(slot.row_start, slot.row_stop)
            tasks.append(
                _SampleTask(part, slot.row_start, rows, inputs.name, plan.metric, plan.width, inputs.rows_packed)
            )
    blocks: Sequence[npt.NDArray[Any]] = executor.run(
        _take_sample, tasks, label="sample", weights=[len(task.rows) for task in tasks], progress=progress
    )
    return np.concatenate(blocks)


def _take_sample(task: _SampleTask, place: Place) -> npt.NDArray[Any]:  # noqa: ARG001 - needs nothing of its place
    numbers = np.asarray(task.rows, np.int64)
    rows = task.part.vectors.take(numbers - task.row_start + task.part.vectors_start)
    blocks = [
        encode_rows(
            rows[i : i + 1],
            source=task.name,
            first_row=int(number),
            metric=task.metric,
            width=task.width,
            packed=task.packed,
        )
        for i, number in enumerate(numbers)
    ]
    return np.concatenate(blocks)


def _commit(folder: IndexFolder, parent: int | None, plan: BuildPlan, receipts: Sequence[ShardReceipt]) -> Manifest:
    """Publish the version after `parent`, the newest when the build began: what came since, a conflict, is not ours."""
    entries = tuple(receipt.entry for receipt in receipts)
    manifest = Manifest(
        index_id=read_manifest(folder, parent).index_id if parent else uuid.uuid4().hex,
        version=(parent or 0) + 1,
        parent=parent,
        writer=uuid.uuid4().hex,
        build_id=str(plan.build_id),
        created=datetime.datetime.now(datetime.UTC),
        library=f"dask-annoy {importlib.metadata.version('dask-annoy')}",
        metric=plan.metric,
        width=plan.width,
        packed=plan.packed,
        source=plan.source[:4096],
        source_dtype=plan.source_dtype,
        id_type=plan.id_type,
        partition="rows",
        shards=entries,
        tuning=tune([receipt.trace for receipt in receipts], plan.metric, plan.target_recall),
        totals=Totals(
            shards=len(entries),
            items=sum(entry.items for entry in entries),
            bytes=sum(file.bytes for entry in entries for file in entry.files),
        ),
    )
    try:
        commit(folder, manifest)
    except CommitConflictError:
        winner = read_manifest(folder)
        if winner.build_id != manifest.build_id:
            raise
        return winner  # the same build ran twice: both made the same shards
    return manifest

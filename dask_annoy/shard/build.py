"""Building one shard: rows streamed into a forest on local disk, recall traced, files published, receipt last."""

from __future__ import annotations

import hashlib
import io
import shutil
import tempfile
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from dask_annoy._native import AnnoyIndex, ExactSearch, estimate_build
from dask_annoy.errors import InvalidVectorsError
from dask_annoy.shard.ids import IdTable, IdWriter
from dask_annoy.shard.receipt import RecallTrace, ShardReceipt, write_receipt
from dask_annoy.storage import (
    CELLS_FILE,
    FOREST_FILE,
    IndexFolder,
    ShardEntry,
    file_entry,
    sample_name,
    shard_folder,
)
from dask_annoy.vectors import IdSource, RowSource, encode_rows

__all__ = ["ShardTask", "build_shard", "forest_seed", "read_sample", "working_memory", "write_sample"]

#: A sample of 1,000 rows of 65,536 floats has this size.
_MAX_SAMPLE_BYTES: Final = 256 * 2**20

#: What trees are grown with. Shards of the planned size are read in place within it; larger ones go by way of a scratch
#: file, so that a worker is not killed for pages of a file that it has mapped.
_WORKING_MEMORY: Final = 512 * 2**20

#: Folder, in scratch, of the ids as they come.
_IDS_BY_ROW: Final = "by-row"

#: Ids that are brought into the order of items at a time.
_IDS_AT_ONCE: Final = 1 << 18


@dataclass(frozen=True)
class ShardTask:
    """All that a worker needs to build the shard of one slot. Small when pickled.

    Attributes
    ----------
    folder : IndexFolder
    build_id : str
    slot : int
    row_start, row_stop : int
        The slot's rows in the whole input.
    vectors : RowSource
        Holds those rows from ``vectors_start`` on.
    ids : IdSource
        Holds their ids from ``ids_start`` on.
    source_name : str
        What messages call the input.
    packed : bool
        Whether the rows of ``vectors`` are packed bits.
    sample_rows : tuple of int
        Row numbers, in the whole input, of the sample's rows.
    k : int
        Neighbours of the sample's rows that are traced.
    block_bytes : int
        Bound on the rows read at a time.
    cells : "auto", int or False
        How many cells the shard gets, or that it gets none.
    """

    folder: IndexFolder
    build_id: str
    slot: int
    row_start: int
    row_stop: int
    vectors: RowSource
    vectors_start: int
    ids: IdSource
    ids_start: int
    source_name: str
    metric: str
    width: int
    packed: bool
    n_trees: int
    seed: int
    sample_rows: tuple[int, ...]
    k: int
    block_bytes: int
    cells: int | Literal["auto", False] = "auto"


def forest_seed(seed: int, slot: int) -> int:
    """The seed of a slot's forest, of 63 bits; the native builder derives each tree's from it."""
    digest = hashlib.blake2b(f"{seed}/{slot}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def working_memory(metric: str, width: int, rows: int, n_trees: int) -> int:
    """Bytes that the trees of a shard are grown within, beside what the worker holds already."""
    _, _, least, _ = estimate_build(rows, width, metric, n_trees, n_jobs=1, on_disk=True, resident=0)
    return max(_WORKING_MEMORY, least)


def build_shard(
    task: ShardTask,
    *,
    scratch: Path | None = None,
    n_jobs: int = -1,
    on_rows: Callable[[int], None] | None = None,
) -> ShardReceipt:
    """Build and publish a shard.

    May run twice, at the same time, on two machines, or be killed anywhere: each attempt writes under a uuid of its
    own, and only its receipt, written last, makes it count.

    Parameters
    ----------
    task : ShardTask
    scratch : Path, optional
        Local folder for the growing forest; by default the temporary folder.
    n_jobs : int
        Threads; the result does not depend on it.
    on_rows : callable, optional
        Told how many rows were read, block by block.
    """
    attempt = uuid.uuid4().hex
    with tempfile.TemporaryDirectory(prefix="dask-annoy-build-", dir=scratch) as name:
        directory = Path(name)
        sample = read_sample(task.folder, task.build_id)
        exact = ExactSearch(sample, task.metric, task.width, task.k + 1, packed=_is_binary(task.metric))
        forest = AnnoyIndex(task.width, task.metric)
        forest.on_disk_build(str(directory / FOREST_FILE))
        forest.set_seed(forest_seed(task.seed, task.slot))
        _stream(task, directory, forest, exact, n_jobs, on_rows)
        rows = task.row_stop - task.row_start
        memory = working_memory(task.metric, task.width, rows, task.n_trees)
        order = np.arange(rows, dtype=np.int32)
        if task.cells is not False:
            # Items are numbered in the order of their cells, which are then runs of the forest's file.
            order = forest._order_by_cells(
                memory, n_cells=task.cells, scratch_beside=str(directory / FOREST_FILE), n_jobs=n_jobs
            )
        id_files = _order_ids(task, directory, order)
        forest._build_within(task.n_trees, memory, n_jobs=n_jobs)
        forest.save(str(directory / FOREST_FILE))  # maps the file anew and checks each node
        files = [FOREST_FILE, *id_files]
        if task.cells is not False:
            (directory / f"{FOREST_FILE}.cells").rename(directory / CELLS_FILE)
            files.insert(1, CELLS_FILE)
        trace = _trace(task, sample, exact, forest, order, n_jobs)
        forest.unload()
        entry = ShardEntry(
            slot=task.slot,
            uuid=attempt,
            items=task.row_stop - task.row_start,
            row_start=task.row_start,
            row_stop=task.row_stop,
            n_trees=task.n_trees,
            seed=forest_seed(task.seed, task.slot),
            files=tuple(file_entry(directory / file) for file in files),
        )
        for file in entry.files:
            task.folder.upload(directory / file.name, f"{shard_folder(attempt)}/{file.name}")
    receipt = ShardReceipt(build_id=task.build_id, attempt=attempt, entry=entry, trace=trace)
    write_receipt(task.folder, receipt)
    return receipt


def write_sample(folder: IndexFolder, build_id: str, rows: npt.NDArray[Any]) -> None:
    """Store the sampled rows, encoded, where the shard tasks of the build find them, unless they are there already."""
    buffer = io.BytesIO()
    np.save(buffer, rows, allow_pickle=False)
    payload, name = buffer.getvalue(), sample_name(build_id)
    with suppress(FileNotFoundError):
        if folder.size(name) == len(payload) and folder.read_bytes(name) == payload:
            return
    folder.write_bytes(name, payload)


def read_sample(folder: IndexFolder, build_id: str) -> npt.NDArray[Any]:
    """Read what `write_sample` stored."""
    payload = folder.read_bytes(sample_name(build_id), max_bytes=_MAX_SAMPLE_BYTES)
    rows: npt.NDArray[Any] = np.load(io.BytesIO(payload), allow_pickle=False)
    return rows


def _stream(
    task: ShardTask,
    directory: Path,
    forest: AnnoyIndex,
    exact: ExactSearch,
    n_jobs: int,
    on_rows: Callable[[int], None] | None,
) -> None:
    """Pass the slot's rows once: into the forest, the exact search and the ids in the order of rows."""
    binary = _is_binary(task.metric)
    n_rows = task.row_stop - task.row_start
    done = 0
    by_row = directory / _IDS_BY_ROW
    by_row.mkdir()
    with IdWriter(by_row, task.ids.id_type) as ids:
        for first, rows in task.vectors.blocks(
            task.vectors_start, task.vectors_start + n_rows, max_bytes=task.block_bytes
        ):
            encoded = encode_rows(
                rows,
                source=task.source_name,
                first_row=first - task.vectors_start + task.row_start,
                metric=task.metric,
                width=task.width,
                packed=task.packed,
            )
            forest.add_items(encoded, packed=binary)
            exact.add(encoded, done, packed=binary, n_jobs=n_jobs)
            ids.append(task.ids.read(task.ids_start + done, task.ids_start + done + len(rows)))
            done += len(rows)
            if on_rows is not None:
                on_rows(len(rows))
        if done != n_rows:
            raise InvalidVectorsError(
                f"{task.source_name}: rows {task.row_start} to {task.row_stop} were planned, but only {done} of "
                "them came: the input changed while it was read"
            )
        ids.close(with_run=False)


def _order_ids(task: ShardTask, directory: Path, order: npt.NDArray[np.int32]) -> list[str]:
    """Write the ids in the order of items, whose rows are given, and return the names of the files."""
    by_row = directory / _IDS_BY_ROW
    with (
        IdTable.open(by_row, task.ids.id_type, len(order)) as table,
        IdWriter(directory, task.ids.id_type) as ids,
    ):
        for first in range(0, len(order), _IDS_AT_ONCE):
            ids.append(table.take(order[first : first + _IDS_AT_ONCE].astype(np.int64)))
        names = ids.close()
    shutil.rmtree(by_row)
    return names


def _trace(
    task: ShardTask,
    sample: npt.NDArray[Any],
    exact: ExactSearch,
    forest: AnnoyIndex,
    order: npt.NDArray[np.int32],
    n_jobs: int,
) -> RecallTrace:
    """Find out which budget finds each true neighbour of the sampled rows, themselves left out.

    `exact` knows items by their rows, and `order` says which row an item is.
    """
    items, distances = exact.answers()
    rows = np.asarray(task.sample_rows, np.int64)
    # Rows of other slots are no item of this one, nor what stands for a missing one.
    own = np.where((rows >= task.row_start) & (rows < task.row_stop), rows - task.row_start, -2)
    is_self = items == own[:, None]
    # One column goes in every row: the row itself, or the last where it is not among its neighbours.
    is_self[~is_self.any(axis=1), -1] = True
    shape = (len(items), task.k)
    items, distances = items[~is_self].reshape(shape), distances[~is_self].reshape(shape)
    items_of_rows = np.empty(len(order), np.int64)
    items_of_rows[order] = np.arange(len(order))
    is_there = items >= 0
    items[is_there] = items_of_rows[items[is_there]]
    budgets = forest.budgets_to_find(sample, items, n_jobs=n_jobs, packed=_is_binary(task.metric))
    return RecallTrace.of(distances, budgets)


def _is_binary(metric: str) -> bool:
    return metric == "hamming"

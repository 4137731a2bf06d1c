"""What must hold before a compaction is committed: the same ids, found as well as before for the same work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from dask_annoy.cluster.executor import Executor, Place, Progress
from dask_annoy.errors import CompactionError
from dask_annoy.planning import BuildPlan, recall_within
from dask_annoy.shard import (
    IdType,
    RecallTrace,
    ShardHandle,
    ShardIds,
    ShardReceipt,
    keys_of,
    open_shard,
    read_deletions,
    read_sample,
)
from dask_annoy.storage import IndexFolder, ShardEntry

__all__ = ["check_same_ids", "check_same_recall"]

#: Items of a cell, about: cells are scored whole.
_CELL: Final = 60
#: Which trees are drawn is chance, and so is a part of the recall.
_RECALL_SLACK: Final = 0.05


@dataclass(frozen=True)
class _SumTask:
    folder: IndexFolder
    entry: ShardEntry
    id_type: IdType


def check_same_ids(
    folder: IndexFolder,
    old: Sequence[ShardEntry],
    new: Sequence[ShardEntry],
    id_type: IdType,
    executor: Executor,
    progress: Progress | None,
) -> None:
    """Raise CompactionError unless the items that are not deleted in `old` and those of `new` have the same ids."""
    tasks = [_SumTask(folder, entry, id_type) for entry in (*old, *new)]
    sums = executor.run(_sum_of_ids, tasks, label="check", progress=progress)
    before, after = (
        tuple(sum(column) % 2**64 for column in zip(*part, strict=True))
        for part in (sums[: len(old)], sums[len(old) :])
    )
    if before != after:
        raise CompactionError(
            f"the compaction of {folder} was not committed: {before[0]:,} items went in and {after[0]:,} came out, or "
            "their ids differ; the index is as it was"
        )


def _sum_of_ids(task: _SumTask, place: Place) -> tuple[int, int]:  # noqa: ARG001 - needs nothing of its place
    """How many items a shard has that are not deleted, and the sum of the keys of their ids."""
    count = total = 0
    deleted = read_deletions(task.folder, task.entry)
    with ShardIds(task.folder, task.entry, task.id_type) as shard:
        for start, ids in shard.table.blocks():
            is_live = ~np.isin(np.arange(start, start + len(ids)), deleted)
            count += int(is_live.sum())
            total += int(keys_of(ids[is_live]).sum(dtype=np.uint64))
    return count, total


@dataclass(frozen=True)
class _TraceTask:
    """The sampled rows, to be looked for in an old shard, whose items were the rows from `first_row` on."""

    handle: ShardHandle
    build_id: str
    sample_rows: tuple[int, ...]
    first_row: int
    k: int


def check_same_recall(
    old: Sequence[ShardHandle],
    receipts: Sequence[ShardReceipt],
    plan: BuildPlan,
    search_k: int,
    executor: Executor,
    progress: Progress | None,
) -> None:
    """Raise CompactionError if the new shards find less of the sampled rows' neighbours than the old ones did.

    Parameters
    ----------
    old : sequence of ShardHandle
        Those that have items left, in the order of the rows of `plan`.
    receipts : sequence of ShardReceipt
        Of the new shards, with their recall traces.
    plan : BuildPlan
    search_k : int
        The search budget with which the index is asked. All old shards together spend it as often as there are old
        shards; the new ones are granted as much together.
    """
    tasks, first_row = [], 0
    for handle in old:
        tasks.append(_TraceTask(handle, str(plan.build_id), plan.sample_rows, first_row, plan.k))
        first_row += handle.entry.live_items
    before = recall_within(executor.run(_trace, tasks, label="check", progress=progress), plan.metric, search_k)
    # A search scores cells whole, so the same budget may mean one more in the one, and one less in the other.
    granted = search_k * len(old) // len(receipts) + _CELL
    after = recall_within([receipt.trace for receipt in receipts], plan.metric, granted)
    if before is not None and after is not None and after < before - _RECALL_SLACK:
        raise CompactionError(
            f"the compaction of {old[0].folder} was not committed: for the same work the rewritten shards find "
            f"{after:.3f} of the true neighbours, and the old ones find {before:.3f}; the index is as it was"
        )


def _trace(task: _TraceTask, place: Place) -> RecallTrace:
    shard = open_shard(task.handle)
    sample = read_sample(task.handle.folder, task.build_id)
    rows = np.asarray(task.sample_rows) - task.first_row
    items = shard.live_items()
    is_own = (rows >= 0) & (rows < len(items))
    own = np.where(is_own, items[np.where(is_own, rows, 0)], -2)
    return shard.trace(sample, own, task.k, n_jobs=place.n_jobs)

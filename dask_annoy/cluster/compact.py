"""`ShardedIndex.compact`: small shards, and those with many deleted items, are built anew from their own items."""

from __future__ import annotations

from collections.abc import Sequence

from dask_annoy.cluster.append import check_same_index, committed_since
from dask_annoy.cluster.compaction_check import check_same_ids, check_same_recall
from dask_annoy.cluster.executor import Executor, Progress
from dask_annoy.cluster.inputs import DirectInputs, VectorForm
from dask_annoy.cluster.settings import current_settings
from dask_annoy.cluster.shard_tasks import build_shards
from dask_annoy.errors import CommitConflictError
from dask_annoy.planning import make_plan, mix, tune
from dask_annoy.shard import ShardHandle, ShardItemIds, ShardItems
from dask_annoy.storage import (
    IndexFolder,
    Manifest,
    ShardEntry,
    Tuning,
    at_work,
    commit_change,
    read_manifest,
    successor,
)
from dask_annoy.vectors import ConcatIds, ConcatSource

__all__ = ["compact_shards", "items_of"]


def compact_shards(
    folder: IndexFolder, snapshot: Manifest, max_deleted: float, executor: Executor, progress: Progress | None
) -> Manifest:
    """Commit a version with fewer and fuller shards; see `ShardedIndex.compact`."""
    if not 0 <= max_deleted < 1:
        raise ValueError(f"max_deleted must be a share from 0 to less than 1, not {max_deleted!r}")
    with at_work(folder, "compact"):
        base = read_manifest(folder)
        check_same_index(folder, snapshot, base)
        chosen = _chosen(base, max_deleted)
        if not chosen:
            return base
        change = _Compaction(folder, base, chosen)
        if any(entry.live_items for entry in chosen):
            change.build(executor, progress)
        return commit_change(folder, change)


def _chosen(base: Manifest, max_deleted: float) -> list[ShardEntry]:
    """The shards to rewrite: those with too many deletions, and small ones if there are fewer of them afterwards."""
    full = base.rules.shard_rows
    worn, small = [], []
    for entry in base.shards:
        if entry.items - entry.live_items > max_deleted * entry.items:
            worn.append(entry)
        elif entry.live_items * 2 <= full:
            small.append(entry)
    together = worn + small
    if -(-sum(entry.live_items for entry in together) // full) >= len(together):
        together = worn
    if not base.totals.items:  # a version has a shard: one without items stays if there is no other
        together = [entry for entry in together if entry is not base.shards[0]]
    return sorted(together, key=lambda entry: entry.slot)


def items_of(folder: IndexFolder, manifest: Manifest, entries: Sequence[ShardEntry]) -> DirectInputs:
    """The items of some shards of a version that are not deleted, as the input of a build."""
    handles = [_handle(folder, manifest, entry) for entry in entries if entry.live_items]
    vectors = ConcatSource(tuple(ShardItems(handle) for handle in handles))
    ids = ConcatIds(tuple(ShardItemIds(handle) for handle in handles))
    return DirectInputs(vectors, ids, VectorForm(manifest.metric, manifest.width, packed=manifest.metric == "hamming"))


def _handle(folder: IndexFolder, manifest: Manifest, entry: ShardEntry) -> ShardHandle:
    return ShardHandle(folder, entry, manifest.metric, manifest.width, manifest.id_type)


class _Compaction:
    """The change that a compaction makes to whichever version is the newest."""

    def __init__(self, folder: IndexFolder, base: Manifest, chosen: Sequence[ShardEntry]) -> None:
        self._folder, self._base, self._chosen = folder, base, chosen
        self._entries: tuple[ShardEntry, ...] = ()
        self._tuning: Tuning | None = None
        self._build_id: str | None = None

    def build(self, executor: Executor, progress: Progress | None) -> None:
        """Build the new shards from the items of the old ones, and check that they hold and find the same."""
        base, rules = self._base, self._base.rules
        handles = [_handle(self._folder, base, entry) for entry in self._chosen if entry.live_items]
        inputs = items_of(self._folder, base, self._chosen)
        plan = make_plan(
            source=inputs.name,
            source_dtype=inputs.dtype,
            n_rows=inputs.n_rows,
            metric=base.metric,
            width=base.width,
            packed=inputs.packed,
            id_type=base.id_type,
            identity=inputs.identity(),
            operation="compact",
            context={"index": base.index_id},
            n_trees=rules.n_trees,
            shard_rows=rules.shard_rows,
            target_recall=rules.target_recall,
            seed=rules.seed,
            cells=rules.cells,
            block_bytes=current_settings().block_bytes,
        )
        receipts = build_shards(self._folder, inputs, plan, executor, True, progress)
        self._entries = tuple(receipt.entry for receipt in receipts)
        self._tuning = tune(
            [receipt.trace for receipt in receipts], plan.metric, plan.target_recall, method=plan.tuned_method
        )
        self._build_id = plan.build_id
        check_same_ids(self._folder, self._chosen, self._entries, base.id_type, executor, progress)
        if base.tuning is not None:
            check_same_recall(handles, receipts, plan, base.tuning.search_k, executor, progress)

    def __call__(self, newest: Manifest) -> Manifest:
        check_same_index(self._folder, self._base, newest)
        if self._build_id is not None and committed_since(self._folder, self._base, newest, self._build_id):
            return newest  # the same compaction ran twice at the same time
        chosen = {entry.contents for entry in self._chosen}
        changed = chosen - {entry.contents for entry in newest.shards}
        if changed:
            raise CommitConflictError(
                f"{len(changed)} of the shards of {self._folder} that were compacted have been changed by another "
                f"writer meanwhile (version {newest.version}): compact again"
            )
        kept = [entry for entry in newest.shards if entry.contents not in chosen]
        if not kept and not self._entries:  # others have deleted and dropped the rest, and a version has a shard
            kept = [newest.shards[0]]
            if len(newest.shards) == 1:
                return newest
        first = newest.shards[-1].slot + 1
        new = [entry.model_copy(update={"slot": first + place}) for place, entry in enumerate(self._entries)]
        return successor(
            newest, "compact", [*kept, *new], change_id=self._build_id, tuning=self._tuning_with(kept, newest)
        )

    def _tuning_with(self, kept: Sequence[ShardEntry], newest: Manifest) -> Tuning | None:
        parts = [
            (newest.tuning, sum(entry.live_items for entry in kept)),
            (self._tuning, sum(entry.items for entry in self._entries)),
        ]
        return mix(parts, newest.rules.target_recall)

"""The shards of a plan: those that no receipt speaks for are built, wherever tasks run."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dask_annoy.cluster.executor import Executor, Place, Progress
from dask_annoy.cluster.inputs import Inputs, SlotInput
from dask_annoy.cluster.settings import current_settings
from dask_annoy.errors import InvalidVectorsError
from dask_annoy.planning import BuildPlan, Identity, SlotPlan, identity_differences, write_plan
from dask_annoy.shard import (
    ShardReceipt,
    ShardTask,
    build_shard,
    forest_seed,
    list_receipts,
    sound_receipt,
    write_receipt,
    write_sample,
)
from dask_annoy.storage import IndexFolder, ShardEntry, receipt_name, sample_name
from dask_annoy.vectors import encode_rows

__all__ = ["build_shards", "finished_shards"]


def build_shards(
    folder: IndexFolder,
    inputs: Inputs,
    plan: BuildPlan,
    executor: Executor,
    resume: bool,
    progress: Progress | None,
    *,
    slots: Collection[int] | None = None,
    without: Collection[str] = (),
) -> list[ShardReceipt]:
    """Build the shards that no receipt speaks for, and return the receipts of all, by slot.

    What receipts speak for is not believed but verified, sizes and checksums, where the tasks run; what fails is built
    again.

    Parameters
    ----------
    folder : IndexFolder
    inputs : Inputs
    plan : BuildPlan
    executor : Executor
    resume : bool
        Whether to look for receipts.
    progress : callable, optional
    slots : collection of int, optional
        Only these; all if not given.
    without : collection of str
        Uuids of shards that are not to be taken, though there is a receipt.
    """
    build_id = str(plan.build_id)
    write_plan(folder, plan)
    wanted = [slot for slot in plan.slots if slots is None or slot.slot in slots]
    found = finished_shards(folder, plan, wanted, tuple(without), executor, progress) if resume else {}
    missing = [slot for slot in wanted if slot.slot not in found]
    sample: npt.NDArray[Any] | None = None
    if missing or plan.operation == "compact":  # which measures the old shards with it, too
        sample = _sample(inputs, plan, executor, progress)
        write_sample(folder, build_id, sample)
    block_bytes = current_settings().block_bytes
    tasks = [_shard_task(folder, inputs, plan, slot, block_bytes) for slot in missing]
    weights = [slot.rows for slot in missing]
    try:
        built = executor.run(_build_shard, tasks, label="build", weights=weights, progress=progress)
    except Exception:
        if sample is None or folder.exists(sample_name(build_id)):
            raise
        # A clean-up that looked for marks before ours was there has taken it, see `_put_back`. It does so once.
        write_sample(folder, build_id, sample)
        built = executor.run(_build_shard, tasks, label="build", weights=weights, progress=progress)
    if built:
        _check_unchanged(folder, inputs, plan, built)
    found |= {receipt.entry.slot: receipt for receipt in built}
    receipts = [found[slot.slot] for slot in wanted]
    _put_back(folder, plan, sample, receipts)
    return receipts


def _check_unchanged(folder: IndexFolder, inputs: Inputs, plan: BuildPlan, built: Sequence[ShardReceipt]) -> None:
    """Raise if files that were read are not what the plan was made for any more; what was built then has no receipt.

    Most sources notice it by themselves; for those of many files (Zarr) it is too much to ask of each task.
    """
    before, now = (_of_vectors(identity) for identity in (plan.identity, inputs.identity()))
    changed = identity_differences(before, now) if "vectors.url" in before else ()  # what is in memory stays what it is
    if changed:
        folder.delete([receipt_name(str(plan.build_id), one.entry.slot, one.attempt) for one in built])
        raise InvalidVectorsError(f"{inputs.name} has changed since it was looked at: {'; '.join(changed)}")


def _of_vectors(identity: Identity | None) -> Identity:
    """Without that of the ids: who numbers rows from elsewhere changes it, and files of ids look after themselves."""
    return {key: value for key, value in (identity or {}).items() if key.startswith("vectors.")}


def _put_back(
    folder: IndexFolder, plan: BuildPlan, sample: npt.NDArray[Any] | None, receipts: Sequence[ShardReceipt]
) -> None:
    """Write again what a clean-up took from the build while it ran, before a version names its shards.

    Of an earlier run's plan, sample and receipts this one may have found those that a clean-up, which looked for marks
    just before ours was there, was about to delete. It leaves the shards, but `repair` needs the names, too.
    """
    build_id = str(plan.build_id)
    write_plan(folder, plan)
    if sample is not None:
        write_sample(folder, build_id, sample)
    names = list_receipts(folder, build_id)
    for receipt in receipts:
        if receipt_name(build_id, receipt.entry.slot, receipt.attempt) not in names.get(receipt.entry.slot, ()):
            write_receipt(folder, receipt)


@dataclass(frozen=True)
class _Finished:
    """A slot, and the receipts of earlier attempts at it."""

    folder: IndexFolder
    build_id: str
    slot: int
    names: tuple[str, ...]
    without: tuple[str, ...]


def finished_shards(
    folder: IndexFolder,
    plan: BuildPlan,
    wanted: Sequence[SlotPlan],
    without: tuple[str, ...],
    executor: Executor,
    progress: Progress | None,
) -> dict[int, ShardReceipt]:
    """The receipts of an earlier run by slot, of those shards that are whole and as the plan has them."""
    names = list_receipts(folder, str(plan.build_id))
    slots = [slot for slot in wanted if slot.slot in names]
    tasks = [_Finished(folder, str(plan.build_id), slot.slot, names[slot.slot], without) for slot in slots]
    receipts = executor.run(
        _sound_receipt, tasks, label="verify", weights=[slot.rows for slot in slots], progress=progress
    )
    return {
        slot.slot: receipt
        for slot, receipt in zip(slots, receipts, strict=True)
        if receipt is not None and _is_as_planned(receipt.entry, slot, plan)
    }


def _sound_receipt(task: _Finished, place: Place) -> ShardReceipt | None:  # noqa: ARG001 - needs nothing of its place
    return sound_receipt(task.folder, task.build_id, task.slot, task.names, task.without)


def _is_as_planned(entry: ShardEntry, slot: SlotPlan, plan: BuildPlan) -> bool:
    """Whether a receipt is what its slot's task would write: one that was forged or misplaced is not."""
    return (entry.row_start, entry.row_stop, entry.n_trees, entry.seed) == (
        slot.row_start,
        slot.row_stop,
        plan.n_trees,
        forest_seed(plan.seed, slot.slot),
    )


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
        cells=plan.cells,
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

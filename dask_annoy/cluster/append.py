"""`ShardedIndex.append` and `upsert`: new shards beside the old ones, by the first build's rules; ids stay unique."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from dask_annoy.cluster.earlier_builds import warn_of_unfinished
from dask_annoy.cluster.executor import Executor, Progress
from dask_annoy.cluster.id_check import check_ids_unique, shared_ids
from dask_annoy.cluster.inputs import Inputs, VectorForm, open_inputs
from dask_annoy.cluster.settings import current_settings
from dask_annoy.cluster.shard_tasks import build_shards
from dask_annoy.errors import CommitConflictError, InvalidIdsError
from dask_annoy.planning import BuildPlan, make_plan, mix, tune
from dask_annoy.shard import DeletionSets, FoundIds, IdTable, ShardIds
from dask_annoy.storage import (
    IndexFolder,
    Manifest,
    ShardEntry,
    Tuning,
    at_work,
    commit_change,
    list_versions,
    read_manifest,
    successor,
)

__all__ = ["OnDuplicate", "append_vectors", "check_same_index", "committed_since"]

OnDuplicate = Literal["raise", "keep", "replace"]


def append_vectors(
    folder: IndexFolder,
    snapshot: Manifest,
    vectors: Any,
    *,
    ids: Any,
    column: str | None,
    packed: bool | None,
    on_duplicate: OnDuplicate,
    source_options: Mapping[str, Any] | None,
    executor: Executor,
    progress: Progress | None,
) -> Manifest:
    """Build shards of vectors and commit a version with them; see `ShardedIndex.append`."""
    if on_duplicate not in get_args(OnDuplicate):
        raise ValueError(f'on_duplicate must be "raise", "keep" or "replace", not {on_duplicate!r}')
    form = VectorForm(snapshot.metric, snapshot.width, snapshot.packed if packed is None else packed)
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
        with at_work(folder, "append"):
            base = read_manifest(folder)
            check_same_index(folder, snapshot, base)
            identity = inputs.identity()  # before they are numbered: what the ids follow from is in the context
            if base.change_id is not None and base.change_id == _repeated(inputs, ids, base, identity, on_duplicate):
                return base  # this very append was the last change: its caller did not get to know
            number_ids(inputs, ids, base)
            next_id = base.next_id if inputs.ids_are_row_numbers else None
            plan = _plan(inputs, base, identity, on_duplicate, next_id)
            warn_of_unfinished(folder, plan, base)
            standing = {entry.uuid for entry in base.shards}
            receipts = build_shards(folder, inputs, plan, executor, True, progress, without=standing)
            entries = tuple(receipt.entry for receipt in receipts)
            if not inputs.ids_are_row_numbers:
                check_ids_unique(folder, entries, plan.id_type, executor, progress)
            tuning = tune(
                [receipt.trace for receipt in receipts], plan.metric, plan.target_recall, method=plan.tuned_method
            )
            change = _Append(folder, base, plan, entries, tuning, inputs, on_duplicate, executor, progress)
            return commit_change(folder, change)
    finally:
        inputs.remove_staging()


def check_same_index(folder: IndexFolder, snapshot: Manifest, newest: Manifest) -> None:
    """Raise CommitConflictError if another build has replaced the index since the snapshot was opened."""
    if (newest.build_id, newest.index_id) != (snapshot.build_id, snapshot.index_id):
        raise CommitConflictError(
            f"version {newest.version} of {folder} is of another build than version {snapshot.version}, which is "
            "changed here: open the index again"
        )


def committed_since(folder: IndexFolder, base: Manifest, newest: Manifest, change_id: str) -> bool:
    """Whether a change was committed after `base`: `newest` itself, or a version between the two."""
    if newest.version == base.version:
        return False
    between = [version for version in list_versions(folder) if base.version < version < newest.version]
    return change_id in (newest.change_id, *(read_manifest(folder, version).change_id for version in between))


def number_ids(inputs: Inputs, ids: Any, base: Manifest) -> None:
    """Give the new rows the ids that follow, or check that those given are of the index's type."""
    if ids is None:
        if base.next_id is None:
            raise InvalidIdsError(
                f"{inputs.name}: the items of the index have ids of their own, so new ones need ids=… as well"
            )
        inputs.number_rows_from(base.next_id)
    if inputs.id_type != base.id_type:
        raise InvalidIdsError(
            f"{inputs.name}: its ids are of type {inputs.id_type}, but those of the index are of type {base.id_type}"
        )


def _repeated(
    inputs: Inputs, ids: Any, base: Manifest, identity: Mapping[str, str | int], on_duplicate: OnDuplicate
) -> str | None:
    """The build id that this append had if it was the last change: row numbers went on from where they were then."""
    numbered = ids is None and base.next_id is not None
    before = base.next_id - inputs.n_rows if numbered and base.next_id is not None else None
    return _plan(inputs, base, identity, on_duplicate, before).build_id


def _plan(
    inputs: Inputs,
    base: Manifest,
    identity: Mapping[str, str | int],
    on_duplicate: OnDuplicate,
    next_id: int | None,
) -> BuildPlan:
    context: dict[str, str | int] = {"on_duplicate": on_duplicate, "index": base.index_id}
    if next_id is not None:
        context["next_id"] = next_id
    rules = base.rules
    return make_plan(
        source=inputs.name,
        source_dtype=inputs.dtype,
        n_rows=inputs.n_rows,
        metric=base.metric,
        width=inputs.width,
        packed=inputs.packed,
        id_type=inputs.id_type,
        identity=identity,
        operation="append",
        context=context,
        n_trees=rules.n_trees,
        shard_rows=rules.shard_rows,
        target_recall=rules.target_recall,
        seed=rules.seed,
        cells=rules.cells,
        block_bytes=current_settings().block_bytes,
    )


@dataclass
class _Append:
    """The change that an append makes to whichever version is the newest."""

    folder: IndexFolder
    base: Manifest
    plan: BuildPlan
    entries: tuple[ShardEntry, ...]
    tuning: Tuning | None
    inputs: Inputs
    on_duplicate: OnDuplicate
    executor: Executor
    progress: Progress | None
    # By the uuids of an old shard and of its deletions: the new shards that share ids with it, and which.
    compared: dict[tuple[str, str | None], list[tuple[str, FoundIds]]] = field(default_factory=dict)
    sets: DeletionSets = field(init=False)

    def __post_init__(self) -> None:
        self.sets = DeletionSets(self.folder)

    def __call__(self, newest: Manifest) -> Manifest:
        check_same_index(self.folder, self.base, newest)
        if committed_since(self.folder, self.base, newest, str(self.plan.build_id)):
            return newest  # the same append ran twice at the same time
        self._check_not_standing(newest)
        old, new = list(newest.shards), list(self.entries)
        if self.inputs.ids_are_row_numbers:
            if newest.next_id != self.base.next_id:
                raise CommitConflictError(
                    f"the row numbers from {self.base.next_id} on, which the new items of {self.folder} were to have "
                    f"as ids, were given to others in version {newest.version}: append again"
                )
            next_id = None if newest.next_id is None else newest.next_id + self.plan.n_rows
        else:
            next_id = None
            shared = self._shared(old)
            if shared and self.on_duplicate == "raise":
                self._refuse(newest, shared)
            if self.on_duplicate == "keep":
                new = self.sets.add(new, _items_by_shard((uuid, found.places) for _, uuid, found in shared))
            elif self.on_duplicate == "replace":
                old = self.sets.add(old, _items_by_shard((uuid, found.items) for uuid, _, found in shared))
        new = [entry for entry in new if entry.live_items]
        if not new:
            return newest
        first = old[-1].slot + 1
        new = [entry.model_copy(update={"slot": first + place}) for place, entry in enumerate(new)]
        added = sum(entry.live_items for entry in new)
        return successor(
            newest,
            "upsert" if self.on_duplicate == "replace" else "append",
            [*old, *new],
            change_id=self.plan.build_id,
            next_id=next_id,
            tuning=mix([(newest.tuning, newest.totals.items), (self.tuning, added)], newest.rules.target_recall),
        )

    def _check_not_standing(self, newest: Manifest) -> None:
        """Raise CommitConflictError if new shards, which an earlier run finished, are in the version already.

        That run was committed and then undone, or this one would not have taken them; now a rollback has brought it
        back. Whether its items are still all there is for the next try to find out.
        """
        standing = {entry.uuid for entry in newest.shards} & {entry.uuid for entry in self.entries}
        if standing:
            raise CommitConflictError(
                f"{len(standing)} of the {len(self.entries)} shards that were to be appended to {self.folder} have "
                f"come back meanwhile with version {newest.version} ({newest.operation}): open the index again, and "
                "append again if that is still wanted"
            )

    def _shared(self, old: Sequence[ShardEntry]) -> list[tuple[str, str, FoundIds]]:
        """The old and new shards that share ids, and which; what was compared in an earlier attempt is kept."""
        unseen = [entry for entry in old if entry.contents not in self.compared]
        found = shared_ids(self.folder, unseen, self.entries, self.plan.id_type, self.executor, self.progress)
        for entry in unseen:
            pairs = [(new.uuid, found[entry.uuid, new.uuid]) for new in self.entries]
            self.compared[entry.contents] = [(uuid, part) for uuid, part in pairs if len(part)]
        return [(entry.uuid, uuid, part) for entry in old for uuid, part in self.compared[entry.contents]]

    def _refuse(self, newest: Manifest, shared: Sequence[tuple[str, str, FoundIds]]) -> None:
        _, uuid, first = shared[0]
        entry = next(entry for entry in self.entries if entry.uuid == uuid)
        with ShardIds(self.folder, entry, self.plan.id_type) as ids:
            value = _first(ids.table, int(first.places.min()))
        count = sum(len(found) for _, _, found in shared)
        if newest.version != self.base.version:
            raise CommitConflictError(
                f"{count:,} of the new ids, {value!r} for one, were given to items of {self.folder} by another writer "
                f"meanwhile (version {newest.version}): nothing was appended"
            )
        raise InvalidIdsError(
            f"{self.inputs.name}: {count:,} of its ids, {value!r} for one, are in the index at {self.folder} already: "
            'leave them out, or say on_duplicate="keep" or "replace"'
        )


def _first(table: IdTable, item: int) -> int | str:
    value: int | str = table.take(np.array([item])).tolist()[0]
    return value


def _items_by_shard(parts: Iterable[tuple[str, npt.NDArray[np.int64]]]) -> dict[str, npt.NDArray[np.int64]]:
    """Item numbers by the uuid of their shard: each once, ascending."""
    grouped: dict[str, list[npt.NDArray[np.int64]]] = {}
    for uuid, items in parts:
        grouped.setdefault(uuid, []).append(items)
    return {uuid: np.unique(np.concatenate(together)) for uuid, together in grouped.items()}

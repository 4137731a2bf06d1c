"""`ShardedIndex.verify`: is what a version names there, whole, and as it was built? Checked where tasks run."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from dask_annoy.cluster.executor import Executor, Place, Progress
from dask_annoy.cluster.id_check import RepeatedId, repeated_ids
from dask_annoy.errors import CorruptIndexError
from dask_annoy.shard import Damage, IdType, RecallPromise, ShardFindings, ShardHandle, check_shard, look_at_shard
from dask_annoy.storage import IndexFolder, Manifest, ShardEntry
from dask_annoy.units import size_text

__all__ = ["VerifyMode", "VerifyReport", "verify_version"]

VerifyMode = Literal["quick", "full"]

#: Shards whose names and sizes one task looks at.
_LOOKED_AT_ONCE: Final = 64


@dataclass(frozen=True)
class VerifyReport:
    """What `ShardedIndex.verify` found. Print it, or turn it into JSON with `as_dict`.

    Attributes
    ----------
    url : str
    version : int
    mode : {"quick", "full"}
    shards : tuple of ShardFindings
        By slot.
    repeated_ids : tuple of RepeatedId
        Ids that more than one item has; some of them, if there are many. Looked for in full mode, in the shards
        whose ids are sound.
    """

    url: str
    version: int
    mode: VerifyMode
    shards: tuple[ShardFindings, ...]
    repeated_ids: tuple[RepeatedId, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.repeated_ids and all(shard.ok for shard in self.shards)

    @property
    def damaged(self) -> tuple[ShardFindings, ...]:
        """The shards that something is wrong with."""
        return tuple(shard for shard in self.shards if not shard.ok)

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values, for JSON."""
        return {"ok": self.ok} | dataclasses.asdict(self)

    def __str__(self) -> str:
        items, size = sum(shard.items for shard in self.shards), sum(shard.bytes for shard in self.shards)
        checked = "names and sizes" if self.mode == "quick" else "all bytes, structure, ids and recall"
        lines = [
            f"version {self.version} of {self.url}: {items:,} items in {len(self.shards):,} shards, {size_text(size)}",
            f"checked: {checked}",
        ]
        recalls = [shard.recall for shard in self.shards if shard.recall is not None]
        if recalls:
            lines.append(f"recall of the shards on their own items: {min(recalls):.3f} to {max(recalls):.3f}")
        for shard in self.damaged:
            lines.append(f"slot {shard.slot} ({shard.items:,} items, shard {shard.uuid}):")
            lines += [f"    {damage.kind}: {damage.reason}" for damage in shard.damages]
        for repeated in self.repeated_ids:
            first, second = repeated.slots
            lines.append(f"the id {repeated.id!r} is that of two items, in the slots {first} and {second}")
        if self.ok:
            lines.append("sound")
        else:
            lines.append(f"{len(self.damaged):,} of {len(self.shards):,} shards are not sound")
        return "\n".join(lines)


@dataclass(frozen=True)
class _Look:
    folder: IndexFolder
    entries: tuple[ShardEntry, ...]


@dataclass(frozen=True)
class _Check:
    handle: ShardHandle
    promise: RecallPromise | None
    with_cells: bool


def verify_version(
    folder: IndexFolder, manifest: Manifest, mode: VerifyMode, executor: Executor, progress: Progress | None
) -> VerifyReport:
    """Verify the files of a version; see `ShardedIndex.verify`."""
    if mode not in get_args(VerifyMode):
        raise ValueError(f'mode must be "quick" or "full", not {mode!r}')
    repeated: tuple[RepeatedId, ...] = ()
    if mode == "quick":
        groups = [
            _Look(folder, manifest.shards[first : first + _LOOKED_AT_ONCE])
            for first in range(0, len(manifest.shards), _LOOKED_AT_ONCE)
        ]
        weights = [len(group.entries) for group in groups]
        looked = executor.run(_look, groups, label="verify", weights=weights, progress=progress)
        shards = [shard for group in looked for shard in group]
    else:
        shards = _checked(folder, manifest, executor, progress)
        sound = [entry for entry, found in zip(manifest.shards, shards, strict=True) if not found.is_damaged]
        if sound:
            repeated = _repeated(folder, sound, manifest.id_type, executor, progress)
    return VerifyReport(folder.display_url, manifest.version, mode, tuple(shards), repeated)


def _checked(
    folder: IndexFolder, manifest: Manifest, executor: Executor, progress: Progress | None
) -> list[ShardFindings]:
    promise, with_cells = _promise(manifest), manifest.rules.cells is not False
    tasks = [
        _Check(ShardHandle(folder, entry, manifest.metric, manifest.width, manifest.id_type), promise, with_cells)
        for entry in manifest.shards
    ]
    return executor.run(
        _check,
        tasks,
        label="verify",
        weights=[entry.bytes for entry in manifest.shards],
        affinity=[entry.uuid for entry in manifest.shards],
        progress=progress,
    )


def _repeated(
    folder: IndexFolder,
    entries: Sequence[ShardEntry],
    id_type: IdType,
    executor: Executor,
    progress: Progress | None,
) -> tuple[RepeatedId, ...]:
    try:
        return tuple(repeated_ids(folder, entries, id_type, executor, progress))
    except (CorruptIndexError, FileNotFoundError) as error:
        raise CorruptIndexError(f"a shard was damaged while {folder} was verified: {error}; verify it again") from error


def _promise(manifest: Manifest) -> RecallPromise | None:
    tuning = manifest.tuning
    if tuning is None:
        return None
    return RecallPromise(tuning.search_k, tuning.curves[0].k, tuning.recall, len(manifest.shards))


def _look(group: _Look, place: Place) -> list[ShardFindings]:  # noqa: ARG001 - needs nothing of its place
    return [look_at_shard(group.folder, entry) for entry in group.entries]


def _check(task: _Check, place: Place) -> ShardFindings:
    try:
        return check_shard(task.handle, task.promise, with_cells=task.with_cells, n_jobs=place.n_jobs)
    except FileNotFoundError as error:  # deleted while it was looked at
        entry = task.handle.entry
        gone = Damage("missing", f"shards/{entry.uuid}", f"a file went while it was looked at: {error}")
        return dataclasses.replace(look_at_shard(task.handle.folder, entry), damages=(gone,))

"""`ShardedIndex.repair`: damaged shards are built again, byte by byte, or given up, and a version says so."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dask_annoy.cluster.append import check_same_index
from dask_annoy.cluster.executor import Executor, Progress
from dask_annoy.cluster.origins import (
    GivenSource,
    SourceGoneError,
    find_origins,
    gone_if_it_fails,
    open_origin,
    origin_plan,
)
from dask_annoy.cluster.shard_tasks import build_shards, finished_shards
from dask_annoy.cluster.verify import VerifyMode, VerifyReport, verify_version
from dask_annoy.errors import CommitConflictError, CorruptIndexError
from dask_annoy.planning import BuildPlan
from dask_annoy.shard import ShardFindings, ShardReceipt
from dask_annoy.storage import IndexFolder, Manifest, ShardEntry, at_work, commit_change, read_manifest, successor

if TYPE_CHECKING:
    from dask_annoy.cluster.index import ShardedIndex

__all__ = ["MendedShard", "RepairReport", "UnmendedShard", "repair_version"]


@dataclass(frozen=True)
class MendedShard:
    """A shard that was damaged and is there again, byte by byte: its slot, and the uuids of the old and the new one."""

    slot: int
    old_uuid: str
    new_uuid: str
    items: int


@dataclass(frozen=True)
class UnmendedShard:
    """A damaged shard that could not be built again.

    Attributes
    ----------
    slot : int
    uuid : str
    items, deleted : int
        The items, each with its id, that cannot be found without it; and those that were deleted before.
    row_start, row_stop : int
        Rows that it held of what it was built from, which `source` names.
    source : str
    damage, reason : str
        What is wrong with it, and why it could not be built again.
    """

    slot: int
    uuid: str
    items: int
    deleted: int
    row_start: int
    row_stop: int
    source: str
    damage: str
    reason: str


@dataclass(frozen=True)
class RepairReport:
    """What `ShardedIndex.repair` did. Print it, or turn it into JSON with `as_dict`.

    Attributes
    ----------
    index : ShardedIndex
        The version that is the newest now.
    verified : VerifyReport
        What was found before the repair.
    mended : tuple of MendedShard
    lost : tuple of UnmendedShard
        Left out of the new version, as ``drop=True`` allowed: their items and ids are not in it any more.
    remaining : tuple of UnmendedShard
        Damaged shards that the newest version still has.
    """

    index: ShardedIndex
    verified: VerifyReport
    mended: tuple[MendedShard, ...] = ()
    lost: tuple[UnmendedShard, ...] = ()
    remaining: tuple[UnmendedShard, ...] = ()

    @classmethod
    def of(cls, index: ShardedIndex, outcome: Outcome, *, drop: bool) -> RepairReport:
        """The report of an outcome, with the version that came of it."""
        unmended = tuple(outcome.unmended)
        lost, remaining = (unmended, ()) if drop else ((), unmended)
        return cls(index, outcome.verified, tuple(outcome.mended), lost, remaining)

    @property
    def ok(self) -> bool:
        """Whether the newest version has no damaged shard left."""
        return not self.remaining

    @property
    def items_lost(self) -> int:
        """Items, and so ids, that the new version does not have any more."""
        return sum(shard.items for shard in self.lost)

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values, for JSON."""
        return {
            "ok": self.ok,
            "url": self.index.url,
            "version": self.index.version,
            "items": len(self.index),
            "items_lost": self.items_lost,
            **{
                name: [dataclasses.asdict(shard) for shard in getattr(self, name)]
                for name in ("mended", "lost", "remaining")
            },
        }

    def __str__(self) -> str:
        lines = [
            f"slot {shard.slot}: built again, byte by byte, with its {shard.items:,} items" for shard in self.mended
        ]
        lines += [
            f"slot {shard.slot}: given up, and with it {shard.items:,} items and their ids (rows {shard.row_start:,} "
            f"to {shard.row_stop:,} of {shard.source}): {shard.damage}; {shard.reason}"
            for shard in self.lost
        ]
        lines += [f"slot {shard.slot}: still damaged: {shard.damage}; {shard.reason}" for shard in self.remaining]
        if not lines:
            lines.append(f"no shard of version {self.index.version} of {self.index.url} is damaged")
        elif self.mended or self.lost:
            lost = f", {self.items_lost:,} items lost" if self.lost else ""
            lines.append(f"version {self.index.version} of {self.index.url}: {len(self.index):,} items{lost}")
        return "\n".join(lines)


@dataclass
class Outcome:
    """What came of a repair: the newest manifest, and what happened to each damaged shard."""

    manifest: Manifest
    verified: VerifyReport
    mended: list[MendedShard] = field(default_factory=list)
    unmended: list[UnmendedShard] = field(default_factory=list)


def repair_version(
    folder: IndexFolder,
    snapshot: Manifest,
    given: GivenSource,
    *,
    drop: bool,
    mode: VerifyMode,
    executor: Executor,
    progress: Progress | None,
) -> Outcome:
    """Repair the newest version; see `ShardedIndex.repair`."""
    with at_work(folder, "repair"):
        base = read_manifest(folder)
        check_same_index(folder, snapshot, base)
        verified = verify_version(folder, base, mode, executor, progress)
        outcome = Outcome(base, verified)
        damaged = {found.uuid: found for found in verified.shards if found.is_damaged}
        if not damaged:
            return outcome
        entries = {entry.uuid: entry for entry in base.shards if entry.uuid in damaged}
        attempt = _mend(folder, base, entries, damaged, given, executor, progress)
        mended = attempt.mended
        for uuid in entries.keys() - mended.keys():
            source = attempt.sources.get(uuid, base.source)
            outcome.unmended.append(_unmended(entries[uuid], source, damaged[uuid], attempt.reasons[uuid]))
        outcome.unmended.sort(key=lambda shard: shard.slot)
        lost = {shard.uuid for shard in outcome.unmended} if drop else set()
        if lost and len(lost) == len(base.shards):
            raise CorruptIndexError(
                f"every shard of version {base.version} of {folder} is damaged, so nothing would be left: build the "
                "index again, or roll back to an older version"
            )
        if mended or lost:
            outcome.manifest = commit_change(folder, lambda newest: _changed(folder, base, newest, mended, lost))
        # Another repair at the same time may have been first: then its shards are there, the same bytes.
        standing = {entry.slot: entry.uuid for entry in outcome.manifest.shards}
        outcome.mended = [
            MendedShard(entry.slot, uuid, standing.get(entry.slot, mended[uuid].uuid), entry.live_items)
            for uuid, entry in entries.items()
            if uuid in mended
        ]
    return outcome


@dataclass
class _Attempt:
    """How far the repair of some shards got, by their uuids: sound ones in their place, or why there are none."""

    mended: dict[str, ShardEntry] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)


def _mend(
    folder: IndexFolder,
    base: Manifest,
    entries: Mapping[str, ShardEntry],
    damaged: Mapping[str, ShardFindings],
    given: GivenSource,
    executor: Executor,
    progress: Progress | None,
) -> _Attempt:
    attempt = _Attempt()
    origins = find_origins(folder, entries.keys())
    by_build: dict[str, dict[int, list[str]]] = {}
    for uuid in entries:
        if uuid not in origins:
            attempt.reasons[uuid] = (
                "nothing tells what it was built from: it was copied here, or the records of its build are gone"
            )
        else:
            by_build.setdefault(origins[uuid].build_id, {}).setdefault(origins[uuid].slot, []).append(uuid)
    for build_id, slots in by_build.items():
        # An append that was taken back and made again has two shards of one slot in the index: one after the other.
        for turn in itertools.zip_longest(*slots.values()):
            of_turn = {slot: uuid for slot, uuid in zip(slots, turn, strict=True) if uuid is not None}
            _mend_slots(folder, base, build_id, of_turn, attempt, entries, damaged, given, executor, progress)
    return attempt


def _mend_slots(
    folder: IndexFolder,
    base: Manifest,
    build_id: str,
    slots: Mapping[int, str],
    attempt: _Attempt,
    entries: Mapping[str, ShardEntry],
    damaged: Mapping[str, ShardFindings],
    given: GivenSource,
    executor: Executor,
    progress: Progress | None,
) -> None:
    """Mend one damaged shard of each of some slots of a build."""
    without = {entry.uuid for entry in (*base.shards, *attempt.mended.values())}
    try:
        plan = origin_plan(folder, build_id)
        attempt.sources |= dict.fromkeys(slots.values(), plan.source)
        wanted = {slot for slot, uuid in slots.items() if _is_rebuildable(damaged[uuid])}
        receipts = _rebuilt(folder, base, plan, wanted, without, given, executor, progress) if wanted else {}
    except SourceGoneError as error:
        attempt.reasons |= dict.fromkeys(slots.values(), str(error))
        return
    for slot, uuid in slots.items():
        if slot not in receipts:
            attempt.reasons[uuid] = "which of its items were deleted cannot be learnt again"
        elif receipts[slot].entry.files != entries[uuid].files:
            attempt.reasons[uuid] = "built again, it has other bytes than it had: its source is not what it was"
        else:
            update = {"slot": entries[uuid].slot, "deletions": entries[uuid].deletions}
            attempt.mended[uuid] = receipts[slot].entry.model_copy(update=update)


def _is_rebuildable(found: ShardFindings) -> bool:
    """Whether building helps: a deletion set came of no build."""
    return all(damage.kind != "deletions" for damage in found.damages)


def _rebuilt(
    folder: IndexFolder,
    base: Manifest,
    plan: BuildPlan,
    slots: set[int],
    without: set[str],
    given: GivenSource,
    executor: Executor,
    progress: Progress | None,
) -> dict[int, ShardReceipt]:
    """The shards of some slots of a build: attempts that are sound and stand nowhere yet, or built now."""
    wanted = [slot for slot in plan.slots if slot.slot in slots]
    found = finished_shards(folder, plan, wanted, tuple(without), executor, progress)
    missing = slots - found.keys()
    if missing:
        inputs = open_origin(folder, base, plan, given, executor, progress)
        try:
            with gone_if_it_fails(f"its source, {plan.source}, cannot be read", inputs.identity):
                built = build_shards(folder, inputs, plan, executor, False, progress, slots=missing)
        finally:
            inputs.remove_staging()
        found |= {receipt.entry.slot: receipt for receipt in built}
    return found


def _unmended(entry: ShardEntry, source: str, found: ShardFindings, reason: str) -> UnmendedShard:
    return UnmendedShard(
        slot=entry.slot,
        uuid=entry.uuid,
        items=entry.live_items,
        deleted=entry.items - entry.live_items,
        row_start=entry.row_start,
        row_stop=entry.row_stop,
        source=source,
        damage=found.damages[0].reason,
        reason=reason,
    )


def _changed(
    folder: IndexFolder, base: Manifest, newest: Manifest, mended: Mapping[str, ShardEntry], lost: set[str]
) -> Manifest:
    """The version after `newest` with sound shards in the place of damaged ones, and without the lost ones."""
    check_same_index(folder, base, newest)
    entries = [_replaced(entry, mended.get(entry.uuid)) for entry in newest.shards if entry.uuid not in lost]
    if tuple(entries) == newest.shards:
        return newest  # others have rewritten, or repaired, the damaged shards meanwhile
    if len({entry.uuid for entry in entries}) != len(entries):
        raise CommitConflictError(
            f"what was to mend {folder} stands in it meanwhile, in other slots: others changed it; repair it again"
        )
    return successor(newest, "repair", _checked(folder, entries))


def _replaced(entry: ShardEntry, mended: ShardEntry | None) -> ShardEntry:
    """The mended shard, with what has been deleted of it meanwhile."""
    return entry if mended is None else mended.model_copy(update={"deletions": entry.deletions})


def _checked(folder: IndexFolder, entries: Sequence[ShardEntry]) -> Sequence[ShardEntry]:
    if not entries:
        raise CorruptIndexError(f"nothing would be left of {folder} without its damaged shards: build the index again")
    return entries

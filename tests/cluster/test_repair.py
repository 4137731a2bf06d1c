"""Verify finds what is damaged, and repair mends it byte by byte or says what is lost; older versions stay."""

from __future__ import annotations

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest

from dask_annoy import RepairReport, ShardedIndex, build_index, open_index
from dask_annoy.cluster import origins as origins_module
from dask_annoy.errors import CorruptIndexError, FormatVersionError, MissingExtraError
from dask_annoy.storage import IndexFolder, ShardEntry, shard_folder, successor

from .conftest import TREES, fingerprint

OPTIONS: dict[str, Any] = {"shard_rows": 250, "n_trees": TREES, "metric": "euclidean", "client": False}


def harm(folder: IndexFolder, shard: ShardEntry, name: str = "forest.ann", how: str = "a bit flipped") -> None:
    """Damage a file of a shard in storage."""
    file = f"{shard_folder(shard.uuid)}/{name}"
    payload = bytearray(folder.read_bytes(file))
    folder.delete([file])
    payload[len(payload) // 2] ^= 2
    if how != "missing":
        folder.write_bytes(file, bytes(payload[:-5] if how == "cut" else payload))


def damage(index: ShardedIndex, place: int, name: str = "forest.ann", how: str = "a bit flipped") -> ShardEntry:
    shard = index.manifest.shards[place]
    harm(IndexFolder(index.url, index._folder.storage_options), shard, name, how)
    return shard


def is_mended(report: RepairReport, before: ShardedIndex, places: list[int]) -> bool:
    """The same bytes in the same slots, in new shards where the old ones were damaged, and nothing wrong."""
    old, new = before.manifest.shards, report.index.manifest.shards
    assert fingerprint(report.index) == fingerprint(before)
    assert [place for place, pair in enumerate(zip(old, new, strict=True)) if pair[0].uuid != pair[1].uuid] == places
    assert [shard.deletions for shard in old] == [shard.deletions for shard in new]
    assert [shard.slot for shard in report.mended] == [old[place].slot for place in places]
    assert (report.index.version, report.index.manifest.operation) == (before.version + 1, "repair")
    assert (report.lost, report.remaining, report.items_lost) == ((), (), 0)
    return report.ok and report.index.verify("full").ok


# Verify


def test_a_sound_index_is_sound_wherever_it_is_checked(npy: Path, rows: Any, s3: Any, client: Any) -> None:
    index = build_index(
        npy, f"{s3.url}/index", **OPTIONS | {"client": client}, storage_options=s3.options, source_options={},
        ids=np.array([f"row {number}" for number in range(2000)], object),
    )  # fmt: skip
    index = index.delete(["row 3", "row 500"])
    index = index.upsert(rows[:50] + 1, np.array([f"row {number}" for number in range(50)], object))
    for mode in ("quick", "full"):
        report = index.verify(mode)
        assert report.ok, str(report)
        assert str(report).endswith("sound")
        assert [found.slot for found in report.shards] == [shard.slot for shard in index.manifest.shards]
        assert sum(found.items for found in report.shards) == len(index) == 1999
    assert all(found.recall is not None and found.recall > 0.7 for found in report.shards)
    assert s3.options["secret"] not in str(report) + json.dumps(report.as_dict())


def test_damaged_shards_are_named_by_what_is_wrong_with_them(npy: Path, s3: Any) -> None:
    index = build_index(npy, f"{s3.url}/index", **OPTIONS, storage_options=s3.options, source_options={})
    index.query(np.load(npy)[:3])  # files are in caches now
    damage(index, 1, "cells.bin", "missing")
    damage(index, 4, "ids.npy", "cut")
    damage(index, 6, "forest.ann")
    quick, full = index.verify(), index.verify("full")
    assert [found.slot for found in quick.damaged] == [1, 4]
    assert [(found.slot, found.damages[0].kind) for found in full.damaged] == [
        (1, "missing"), (4, "size"), (6, "checksum"),
    ]  # fmt: skip
    text, document = str(full), json.loads(json.dumps(full.as_dict()))
    assert "slot 6 (250 items" in text
    assert "3 of 8 shards are not sound" in text
    assert document["ok"] is False
    assert document["shards"][4]["damages"][0]["file"].endswith("/ids.npy")


@pytest.mark.parametrize("kind", ["int64", "string"])
def test_an_id_that_two_items_have_is_found(rows: Any, tmp_path: Path, kind: str) -> None:
    ids = np.arange(600) if kind == "int64" else np.array([f"row {number}" for number in range(600)], object)
    index = build_index(rows[:600], tmp_path, ids=ids, **OPTIONS)
    other = build_index(rows[600:700], tmp_path / "other", ids=ids[90:190], **OPTIONS)
    # What no writer does: a manifest that names the shard of another index.
    (shard,) = other.manifest.shards
    for path in (tmp_path / "other" / "shards" / shard.uuid).iterdir():
        target = tmp_path / "shards" / shard.uuid / path.name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(path.read_bytes())
    forged = successor(index.manifest, "append", [*index.manifest.shards, shard.model_copy(update={"slot": 9})])
    report = ShardedIndex(IndexFolder(str(tmp_path)), forged, False).verify("full")
    assert not report.ok
    assert report.damaged == ()
    assert {repeated.id for repeated in report.repeated_ids} <= set(ids[90:190].tolist())
    assert {repeated.slots[1] for repeated in report.repeated_ids} == {9}
    assert "is that of two items, in the slots" in str(report)


def test_an_index_without_items_is_sound(rows: Any, tmp_path: Path) -> None:
    for name, count in (("one", 1), ("several", 400)):
        index = build_index(rows[:count], tmp_path / name, **OPTIONS)
        assert index.verify("full").ok
        assert index.delete(np.arange(count)).verify("full").ok


def test_an_index_without_cells_is_sound_and_is_repaired(npy: Path, tmp_path: Path) -> None:
    index = build_index(npy, tmp_path, **OPTIONS, cells=False)
    assert index.verify("full").ok
    damage(index, 2)
    assert is_mended(index.repair(), index, [2])


def test_an_unknown_mode_is_refused(npy: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='"quick" or "full"'):
        build_index(npy, tmp_path, **OPTIONS).verify("fast")


# Repair


@pytest.mark.parametrize(
    ("place", "how", "runs_on"),
    [
        ("local", "a bit flipped", None),
        ("local", "cut", None),
        ("local", "missing", "process_client"),
        ("s3", "a bit flipped", "process_client"),
        ("s3", "missing", None),
    ],
)
def test_shards_of_files_are_built_again_byte_by_byte(
    npy: Path, tmp_path: Path, request: Any, place: str, how: str, runs_on: str | None
) -> None:
    client = request.getfixturevalue(runs_on) if runs_on else False
    s3 = request.getfixturevalue("s3") if place == "s3" else None
    url, options = (f"{s3.url}/index", s3.options) if s3 else (tmp_path / "index", {})
    made = build_index(npy, url, **OPTIONS | {"client": client}, storage_options=options, source_options={})
    index = made.delete([300, 301, 1999])
    index.tag("mine")
    damage(index, 1, "forest.ann", how)
    damage(index, 7, "ids.npy", how)
    report = index.repair(source_options={})
    assert is_mended(report, index, [1, 7])
    assert "slot 7: built again, byte by byte, with its 249 items" in str(report)
    assert len(report.index) == 1997
    # What was there stays, damage and all.
    assert open_index(url, version="mine", storage_options=options).manifest == index.manifest
    assert [found.slot for found in index.verify("full").damaged] == [1, 7]
    again = report.index.repair(source_options={})
    assert (again.ok, again.mended, again.index.version) == (True, (), report.index.version)
    assert "no shard of version" in str(again)


def test_shards_of_appends_and_compactions_are_built_again_too(rows: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "first.npy", rows[:600])
    np.save(tmp_path / "more.npy", rows[600:1100])
    np.save(tmp_path / "third.npy", rows[1100:1200])
    url = tmp_path / "index"
    index = build_index(tmp_path / "first.npy", url, **OPTIONS)
    index = index.delete(np.arange(150)).append(tmp_path / "more.npy").compact().append(tmp_path / "third.npy")
    assert index.version == 5
    kinds = {}  # the place of a shard of each kind
    for place, shard in enumerate(index.manifest.shards):
        (plan,) = {path.parent / "plan.json" for path in url.glob(f"builds/*/*.{shard.uuid}.json")}
        kinds[json.loads(plan.read_text())["operation"], json.loads(plan.read_text())["context"].get("next_id")] = place
    assert sorted(kinds, key=str) == [("append", 1100), ("append", 600), ("build", None), ("compact", None)]
    for place in kinds.values():
        damage(index, place)
    assert is_mended(index.repair(), index, sorted(kinds.values()))


def test_shards_of_rows_in_memory_are_built_again_from_the_same_rows(
    rows: Any, tmp_path: Path, process_client: Any
) -> None:
    ids = [f"row {number}" for number in range(2000)]
    index = build_index(da.from_array(rows, chunks=(300, 16)), tmp_path, **OPTIONS, ids=da.from_array(
        np.array(ids, object), chunks=300))  # fmt: skip
    damage(index, 2)
    damage(index, 5, "cells.bin", "missing")
    alone = index.repair()
    assert (alone.ok, alone.mended, alone.index.version) == (False, (), 1)
    assert [shard.slot for shard in alone.remaining] == [2, 5]
    assert "give the vectors again" in alone.remaining[0].reason
    assert "still damaged" in str(alone)
    wrong = rows.copy()
    wrong[1999, 3] += 1
    other = index.repair(da.from_array(wrong, chunks=(500, 16)), da.from_array(np.array(ids, object), chunks=500))
    assert other.mended == ()
    assert "the content of the input changed" in other.remaining[0].reason
    on_cluster = open_index(tmp_path, client=process_client)
    again = da.from_array(rows, chunks=(170, 4)), da.from_array(np.array(ids, object), chunks=200)
    assert is_mended(on_cluster.repair(*again), index, [2, 5])
    assert not list(tmp_path.glob("staging/*/*.npy"))


def test_an_array_that_was_appended_is_built_again_with_its_numbers(rows: Any, tmp_path: Path) -> None:
    index = build_index(rows[:300], tmp_path, **OPTIONS).append(rows[300:500])
    damage(index, 2)
    assert "what it was built from" in index.repair(rows[300:400]).remaining[0].reason
    assert is_mended(index.repair(rows[300:500]), index, [2])


def test_another_sound_attempt_needs_no_source(npy: Path, tmp_path: Path, rows: Any) -> None:
    url, file = tmp_path / "index", tmp_path / "rows.npy"
    np.save(file, rows)
    first = build_index(file, url, **OPTIONS)
    index = build_index(rows[:300], url, **OPTIONS, overwrite=True)
    index = build_index(file, url, **OPTIONS, overwrite=True, resume=False)  # all shards a second time
    assert {shard.uuid for shard in first.manifest.shards}.isdisjoint(shard.uuid for shard in index.manifest.shards)
    file.unlink()
    damage(index, 3)
    report = index.repair()
    assert is_mended(report, index, [3])
    assert report.index.manifest.shards[3].uuid == first.manifest.shards[3].uuid


@pytest.mark.parametrize("trouble", ["gone", "changed", "other builder", "no plan", "copied"])
def test_what_cannot_be_built_again_says_why_and_can_be_given_up(
    rows: Any, tmp_path: Path, trouble: str, monkeypatch: Any
) -> None:
    url, file = tmp_path / "index", tmp_path / "rows.npy"
    np.save(file, rows[:1000])
    index = build_index(file, url, **OPTIONS).delete([260, 261])
    index.tag("before")
    if trouble == "copied":
        index = index.copy(tmp_path / "copy")
    shard = damage(index, 1)
    if trouble == "gone":
        file.unlink()
    elif trouble == "changed":
        np.save(file, rows[1000:])
    elif trouble == "other builder":
        monkeypatch.setattr(origins_module, "BUILDER_VERSION", origins_module.BUILDER_VERSION + 1)
    elif trouble == "no plan":
        next(url.glob("builds/*/plan.json")).unlink()
    reason = {
        "gone": "its source cannot be opened",
        "changed": "the version (checksum, etag or time) of the vectors was",
        "other builder": "which makes other bytes",
        "no plan": "the plan of its build cannot be read",
        "copied": "it was copied here",
    }[trouble]
    kept = index.repair()
    assert (kept.ok, kept.index.version) == (False, index.version)
    assert reason in kept.remaining[0].reason
    given_up = index.repair(drop=True)
    assert given_up.ok
    (lost,) = given_up.lost
    assert (lost.slot, lost.uuid, lost.items, lost.deleted) == (1, shard.uuid, 248, 2)
    assert (lost.row_start, lost.row_stop) == (250, 500)
    assert str(file) in lost.source
    assert "SHA-256" in lost.damage
    assert given_up.items_lost == 248
    assert "248 items and their ids (rows 250 to 500 of" in str(given_up)
    assert (len(given_up.index), given_up.index.version) == (750, index.version + 1)
    assert given_up.index.verify("full").ok
    found = given_up.index.query(rows[:1000], k=1, search_k=10**6)
    assert (found.distances[:250, 0] == 0).all()
    assert (found.distances[500:, 0] == 0).all()
    assert not np.isin(found.ids, np.arange(250, 500)).any()
    assert json.loads(json.dumps(given_up.as_dict()))["items_lost"] == 248
    if trouble != "copied":
        assert len(open_index(url, version="before", client=False)) == 998


def test_an_append_that_stands_twice_is_mended_twice(rows: Any, tmp_path: Path) -> None:
    file = tmp_path / "more.npy"
    np.save(file, rows[500:1000])
    first = build_index(rows[:500], tmp_path / "index", **OPTIONS, ids=np.arange(500))
    ids = np.arange(500, 1000)
    index = first.append(file, ids).delete(ids).append(file, ids)
    assert len(index) == 1000
    by_receipt: dict[str, list[int]] = {}  # the places of the shards of each slot of a build
    for place, shard in enumerate(index.manifest.shards):
        (receipt,) = (tmp_path / "index").glob(f"builds/*/*.{shard.uuid}.json")
        by_receipt.setdefault(f"{receipt.parent}/{receipt.name.split('.')[0]}", []).append(place)
    twice = [places for places in by_receipt.values() if len(places) == 2]
    assert len(twice) == 2
    only_old, both = twice
    for place in (only_old[0], *both):
        damage(index, place)
    assert is_mended(index.repair(file, ids), index, sorted([only_old[0], *both]))


@pytest.mark.parametrize(
    "trouble", [ConnectionResetError("reset"), PermissionError("no"), OSError(28, "full"), MissingExtraError("x", "s3")]
)
def test_what_may_pass_is_an_error_and_nothing_is_given_up_for_it(
    npy: Path, tmp_path: Path, monkeypatch: Any, trouble: Exception
) -> None:
    index = build_index(npy, tmp_path, **OPTIONS)
    damage(index, 1)

    def fails(*_: Any, **__: Any) -> Any:
        raise trouble

    with monkeypatch.context() as patched:
        patched.setattr(origins_module, "open_inputs", fails)
        with pytest.raises(type(trouble)):
            index.repair(drop=True)
    assert open_index(tmp_path, client=False).version == 1
    assert is_mended(index.repair(drop=True), index, [1])


def test_a_lost_scratch_folder_is_not_taken_for_a_lost_source(npy: Path, tmp_path: Path) -> None:
    index = build_index(npy, tmp_path / "index", **OPTIONS)
    damage(index, 1)
    settings = {"annoy.scratch-directory": str(tmp_path / "gone")}
    with dask.config.set(settings), pytest.raises(FileNotFoundError, match="gone"):
        index.repair(drop=True)
    assert open_index(index.url, client=False).version == 1
    assert is_mended(index.repair(drop=True), index, [1])


@pytest.mark.parametrize("as_file", [False, True], ids=["an array is given", "a file is given"])
def test_what_is_given_for_one_build_does_not_keep_others_from_their_own_source(
    rows: Any, tmp_path: Path, as_file: bool
) -> None:
    file, more = tmp_path / "rows.npy", tmp_path / "more.npy"
    np.save(file, rows[:500])
    np.save(more, rows[500:700])
    given = more if as_file else rows[500:700]
    index = build_index(file, tmp_path / "index", **OPTIONS).append(given)
    damage(index, 0)
    damage(index, 2)
    assert is_mended(index.repair(given, drop=True), index, [0, 2])


def test_a_source_that_changed_in_secret_is_found_out_by_the_bytes(rows: Any, tmp_path: Path) -> None:
    url, file = tmp_path / "index", tmp_path / "rows.npy"
    np.save(file, rows[:1000])
    before = file.stat()
    index = build_index(file, url, **OPTIONS)
    damage(index, 1)
    damage(index, 3)
    changed = rows[:1000].copy()
    changed[270, 3] += 1  # in slot 1
    np.save(file, changed)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    report = index.repair()
    assert [shard.slot for shard in report.mended] == [3]
    assert [(shard.slot, shard.reason) for shard in report.remaining] == [
        (1, "built again, it has other bytes than it had: its source is not what it was")
    ]
    assert report.index.manifest.shards[1].uuid == index.manifest.shards[1].uuid
    assert [found.slot for found in report.index.verify("full").damaged] == [1]


def test_a_lost_deletion_set_is_not_made_up(npy: Path, tmp_path: Path) -> None:
    index = build_index(npy, tmp_path, **OPTIONS).delete([5])
    (path,) = tmp_path.glob("deletions/*.npy")
    path.unlink()
    report = index.repair()
    assert [(shard.slot, shard.reason) for shard in report.remaining] == [
        (0, "which of its items were deleted cannot be learnt again")
    ]
    assert len(index.repair(drop=True).index) == 1750


def test_an_index_is_not_given_up_as_a_whole(rows: Any, tmp_path: Path) -> None:
    index = build_index(rows[:300], tmp_path, **OPTIONS)
    for place in range(index.n_shards):
        damage(index, place)
    with pytest.raises(CorruptIndexError, match="every shard of version 1"):
        index.repair(drop=True)
    assert open_index(tmp_path, client=False).version == 1


def test_what_others_delete_during_a_repair_stays_deleted(npy: Path, tmp_path: Path, monkeypatch: Any) -> None:
    from dask_annoy.cluster import repair as repair_module

    index = build_index(npy, tmp_path, **OPTIONS)
    damage(index, 0)
    build = repair_module.build_shards

    def meanwhile(*arguments: Any, **options: Any) -> Any:
        made = build(*arguments, **options)
        open_index(tmp_path, client=False).delete([100, 1000])  # the first is in the damaged shard
        return made

    monkeypatch.setattr(repair_module, "build_shards", meanwhile)
    report = index.repair()
    assert (report.index.version, len(report.index)) == (3, 1998)
    assert [shard.live_items for shard in report.index.manifest.shards] == [249, 250, 250, 250, 249, 250, 250, 250]
    assert report.index.verify("full").ok


def test_two_repairs_at_once_make_one_version(npy: Path, tmp_path: Path) -> None:
    index = build_index(npy, tmp_path, **OPTIONS)
    damage(index, 4)
    barrier = threading.Barrier(2)

    def repair(_: int) -> RepairReport:
        barrier.wait()
        return index.repair()

    with ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(repair, range(2)))
    assert [report.index.version for report in reports] == [2, 2]
    (uuid,) = {mended.new_uuid for report in reports for mended in report.mended}
    assert open_index(tmp_path, client=False).manifest.shards[4].uuid == uuid


def test_a_query_and_a_change_of_a_damaged_index_say_what_to_run(npy: Path, tmp_path: Path, rows: Any) -> None:
    index = build_index(npy, tmp_path, **OPTIONS, ids=np.arange(2000))
    damage(index, 2, "forest.ann", "missing")
    damage(index, 3, "ids.run-keys.npy", "missing")
    with pytest.raises(CorruptIndexError, match=r"slot 2 \(250 items\).*dask annoy verify .*dask annoy repair"):
        index.query(rows[:3])
    with pytest.raises(CorruptIndexError, match=r"run-keys\.npy is missing.*slot 3 .*repair\(\)"):
        index.delete([7])


# Damaged manifests


def manifest_path(url: Path, version: int) -> Path:
    return url / "versions" / f"{version:020}.json"


def test_a_damaged_manifest_says_which_versions_can_be_read_and_the_way_back(rows: Any, tmp_path: Path) -> None:
    index = build_index(rows[:500], tmp_path, **OPTIONS)
    index = index.delete([1]).delete([2]).delete([3])
    manifest_path(tmp_path, 2).write_text("{")
    manifest_path(tmp_path, 4).write_bytes(manifest_path(tmp_path, 4).read_bytes()[:-40])
    with pytest.raises(CorruptIndexError, match=r"can be read: 1, 3\. open_index\('.*', version=3\).*rollback\(3\)"):
        open_index(tmp_path)
    with pytest.raises(CorruptIndexError, match=r"can be read: 1, 3\. "):
        open_index(tmp_path, version=2)
    third = open_index(tmp_path, version=3, client=False)
    assert [one.version for one in third.versions()] == [1, 3]
    back = third.rollback(3)
    assert (back.version, back.manifest.parent, len(back)) == (5, 3, 498)
    assert open_index(tmp_path, client=False).manifest == back.manifest
    assert len(back.delete([9])) == 497
    with pytest.raises(CorruptIndexError, match=r"can be read: 1, 3, 5, 6$"):
        open_index(tmp_path, version=2)


def test_a_rollback_does_not_pass_over_a_version_that_can_be_read(rows: Any, tmp_path: Path) -> None:
    from dask_annoy.errors import CommitConflictError

    first = build_index(rows[:500], tmp_path, **OPTIONS)
    first.delete([1]).delete([2])
    manifest_path(tmp_path, 3).write_text("")
    with pytest.raises(CommitConflictError, match="version 2"):
        first.rollback(1)
    newer = json.loads(manifest_path(tmp_path, 2).read_text()) | {"format_version": 99}
    manifest_path(tmp_path, 3).write_text(json.dumps(newer | {"version": 3}))
    with pytest.raises(CommitConflictError, match="version 3"):  # by a newer release, and sound
        open_index(tmp_path, version=2, client=False).rollback(1)
    with pytest.raises(FormatVersionError):
        open_index(tmp_path)


def test_nothing_that_can_be_read_is_said_too(rows: Any, tmp_path: Path) -> None:
    build_index(rows[:300], tmp_path, **OPTIONS)
    manifest_path(tmp_path, 1).write_text("")
    with pytest.raises(CorruptIndexError, match="No other version can be read"):
        open_index(tmp_path)

"""The clean-up deletes what no kept version names, leaves what it does not know, and takes nothing from a writer."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dask_annoy.errors import CommitConflictError, CorruptIndexError, FormatVersionError, IndexNotFoundError
from dask_annoy.storage import (
    IndexFolder,
    Manifest,
    ShardEntry,
    Totals,
    at_work,
    collect_garbage,
    commit,
    create_tag,
    deletion_name,
    garbage,
    list_versions,
    plan_name,
    read_manifest,
    read_tags,
    receipt_name,
    shard_folder,
    version_name,
)

from .conftest import manifest

DAY = 86400.0
AT_ONCE = -2.0  # some storage counts whole seconds: what was written just now counts as old


def write_version(folder: IndexFolder, version: int, *uuids: str) -> Manifest:
    """Commit a version with shards of these uuids, whose files are there; the first has a deletion set."""
    shards: list[ShardEntry] = []
    for slot, uuid in enumerate(uuids):
        template = manifest().shards[min(slot, 1)]
        deletions = template.deletions
        if deletions is not None:
            deletions = deletions.model_copy(update={"uuid": f"{version:032x}"})
            folder.write_bytes(deletion_name(deletions.uuid), b"deleted")
        shards.append(template.model_copy(update={"slot": slot, "uuid": uuid, "deletions": deletions}))
        for file in template.files:
            if not folder.exists(f"{shard_folder(uuid)}/{file.name}"):
                folder.write_bytes(f"{shard_folder(uuid)}/{file.name}", b"x" * 10)
    fields = {**dict(manifest(version)), "shards": tuple(shards), "totals": Totals.of(shards)}
    made = Manifest(**fields)
    commit(folder, made)
    return made


def shards_of(folder: IndexFolder) -> set[str]:
    return {file.name.split("/")[1] for file in folder.files("shards")}


def age(folder: IndexFolder, days: float, *names: str) -> None:
    """Make files of a local folder that old; all of them if none is named."""
    for name in names or [file.name for file in folder.files()]:
        moment = time.time() - days * DAY
        os.utime(folder.local_path(name), (moment, moment))


A, B, C, D = ("abcd"[number] * 32 for number in range(4))


def test_what_no_kept_version_names_is_deleted_and_nothing_else(folder: IndexFolder) -> None:
    write_version(folder, 1, A, B)
    write_version(folder, 2, B, C)
    create_tag(folder, "kept", 1)
    write_version(folder, 3, C)
    folder.write_bytes(f"{shard_folder(D)}/forest.ann", b"of no version")
    dry = collect_garbage(folder, AT_ONCE)
    assert (dry.versions, dry.kept_versions, dry.is_dry_run) == ((2,), (1, 3), True)
    assert list_versions(folder) == [1, 2, 3]
    assert shards_of(folder) == {A, B, C, D}
    done = collect_garbage(folder, AT_ONCE, dry_run=False)
    assert (done.versions, done.files, done.bytes) == (dry.versions, dry.files, dry.bytes)
    assert list_versions(folder) == [1, 3]
    assert shards_of(folder) == {A, B, C}
    assert {file.name for file in folder.files("deletions")} == {deletion_name(f"{version:032x}") for version in (1, 3)}
    again = collect_garbage(folder, AT_ONCE, dry_run=False)
    assert (again.versions, again.files, again.bytes) == ((), (), 0)
    assert folder.list("work") == folder.list("staging") == []


def test_files_of_others_stay_and_are_named(local_folder: IndexFolder) -> None:
    write_version(local_folder, 1, A)
    strange = [
        "README.md", "versions/notes.txt", f"shards/{D}/mine.txt", "shards/short/forest.ann", "deletions/mine.npy",
        "builds/a/mine.json", "staging/mine", "elsewhere/forest.ann", f"shards/{D}/sub/forest.ann", "tags/mine.txt",
    ]  # fmt: skip
    for name in strange:
        local_folder.write_bytes(name, b"mine")
    local_folder.local_path("versions").joinpath(".hidden").write_bytes(b"mine")
    local_folder.write_bytes(f"shards/{D}/forest.ann", b"garbage")
    age(local_folder, 30, *strange, f"shards/{D}/forest.ann")
    done = collect_garbage(local_folder, 7 * DAY, dry_run=False)
    assert done.files == (f"shards/{D}/forest.ann",)
    assert set(done.unknown) == {*strange, "versions/.hidden"}
    assert all(local_folder.exists(name) for name in strange)


def test_what_is_young_stays_and_age_is_by_the_storages_clock(local_folder: IndexFolder, monkeypatch: Any) -> None:
    write_version(local_folder, 1, A)
    write_version(local_folder, 2, B)
    write_version(local_folder, 3, C)
    for uuid in (D, "e" * 32):
        for name in ("forest.ann", "ids.npy"):
            local_folder.write_bytes(f"{shard_folder(uuid)}/{name}", b"of a build")
    age(local_folder, 10)
    age(local_folder, 1, version_name(3), f"{shard_folder(D)}/ids.npy")
    monkeypatch.setattr(time, "time", lambda: 0.0)  # a wrong clock
    done = collect_garbage(local_folder, 7 * DAY, dry_run=False)
    # Version 2 was the newest until a day ago; a part of one shard is young.
    assert (done.versions, done.kept_versions) == ((1,), (2, 3))
    assert shards_of(local_folder) == {B, C, D}


def test_leftovers_of_killed_writers_are_deleted_when_they_are_old(local_folder: IndexFolder) -> None:
    write_version(local_folder, 1, A)
    left = [
        f"staging/{B}/wanted", f"staging/{B}/00000001.{C}.rows.npy", f"staging/probe-{C}", f"work/{D}.json",
        f"work/gc-{D}.json", plan_name("b1"), receipt_name("b1", 0, D), "builds/b1/sample.npy",
    ]  # fmt: skip
    for name in left:
        local_folder.write_bytes(name, b"{}")
    unfinished = local_folder.local_path("versions").joinpath(f".tmp-{D}")
    unfinished.write_bytes(b"cut")
    early = collect_garbage(local_folder, 7 * DAY, dry_run=False)
    assert early.held_back
    assert early.files == ()
    age(local_folder, 8, *left)
    os.utime(unfinished, (0, 0))
    done = collect_garbage(local_folder, 7 * DAY, dry_run=False)
    assert set(done.files) == {*left, f"versions/.tmp-{D}"}
    assert not local_folder.local_path("staging").joinpath(B).exists()  # empty folders go, too


def test_a_build_that_goes_on_keeps_what_its_receipts_name(local_folder: IndexFolder) -> None:
    write_version(local_folder, 1, A)
    for uuid in (B, C):
        local_folder.write_bytes(f"{shard_folder(uuid)}/forest.ann", b"built long ago")
    local_folder.write_bytes(receipt_name("b1", 0, B), b"{}")
    local_folder.write_bytes(plan_name("b1"), b"{}")
    local_folder.write_bytes(receipt_name("b2", 0, C), b"{}")
    age(local_folder, 30)
    local_folder.write_bytes(receipt_name("b1", 1, D), b"{}")  # just now
    done = collect_garbage(local_folder, 7 * DAY, dry_run=False)
    assert set(done.files) == {receipt_name("b2", 0, C), f"{shard_folder(C)}/forest.ann"}


def test_while_a_writer_is_at_work_nothing_is_deleted(local_folder: IndexFolder) -> None:
    for version, uuid in enumerate((A, B, C), 1):
        write_version(local_folder, version, uuid)
    age(local_folder, 30)
    with at_work(local_folder, "rollback"):
        done = collect_garbage(local_folder, 7 * DAY, dry_run=False)
        assert done.held_back
        assert list_versions(local_folder) == [1, 2, 3]
    assert shards_of(local_folder) == {A, B, C}
    assert collect_garbage(local_folder, 7 * DAY, dry_run=False).versions == (1, 2)


def between(monkeypatch: Any, act: Callable[[], object]) -> None:
    """Act once after the clean-up has looked around, just before it deletes names; and let it go on."""
    delete = IndexFolder.delete

    def later(self: IndexFolder, names: Any) -> None:
        names = list(names)
        if any(name.startswith("versions/") for name in names):
            monkeypatch.setattr(IndexFolder, "delete", delete)
            act()
        delete(self, names)

    monkeypatch.setattr(IndexFolder, "delete", later)


def test_a_writer_that_begins_during_a_clean_up_loses_no_file(local_folder: IndexFolder, monkeypatch: Any) -> None:
    first = write_version(local_folder, 1, A)
    write_version(local_folder, 2, B)
    write_version(local_folder, 3, C)
    age(local_folder, 30)
    writer = at_work(local_folder, "rollback")
    # It has left its mark and read version 1 when the clean-up takes the names away; it commits later.
    between(monkeypatch, writer.__enter__)
    done = collect_garbage(local_folder, 7 * DAY, dry_run=False)
    assert done.held_back
    assert shards_of(local_folder) == {A, B, C}
    commit(local_folder, Manifest(**(dict(first) | {"version": 4, "parent": 3})))
    writer.__exit__(None, None, None)
    assert collect_garbage(local_folder, 7 * DAY, dry_run=False).kept_versions[-1] == 4
    assert A in shards_of(local_folder)


def test_a_version_that_is_committed_during_a_clean_up_keeps_its_files(
    local_folder: IndexFolder, monkeypatch: Any
) -> None:
    first = write_version(local_folder, 1, A)
    write_version(local_folder, 2, B)
    write_version(local_folder, 3, C)
    age(local_folder, 30)
    between(monkeypatch, lambda: commit(local_folder, Manifest(**(dict(first) | {"version": 4, "parent": 3}))))
    done = collect_garbage(local_folder, 7 * DAY, dry_run=False)
    assert done.kept_versions == (3, 4)
    assert shards_of(local_folder) == {A, C}


def test_of_a_tag_and_a_clean_up_at_the_same_time_one_gives_way(local_folder: IndexFolder, monkeypatch: Any) -> None:
    for version, uuid in enumerate((A, B, C), 1):
        write_version(local_folder, version, uuid)
    age(local_folder, 30)
    refused: list[BaseException] = []

    def tag() -> None:
        try:
            create_tag(local_folder, "late", 1)
        except CommitConflictError as error:
            refused.append(error)

    between(monkeypatch, tag)
    collect_garbage(local_folder, 7 * DAY, dry_run=False)
    assert "is being cleaned up" in str(refused[0])
    assert read_tags(local_folder) == {}
    # And the other way round: the tag is there before the clean-up looks for tags.
    write_version(local_folder, 4, D)
    age(local_folder, 30)
    announced = garbage.announced_clean_up

    def tag_first(*arguments: Any) -> Any:
        monkeypatch.setattr(garbage, "announced_clean_up", announced)
        create_tag(local_folder, "early", 3)
        return announced(*arguments)

    monkeypatch.setattr(garbage, "announced_clean_up", tag_first)
    assert collect_garbage(local_folder, 7 * DAY, dry_run=False).kept_versions == (3, 4)
    assert read_manifest(local_folder, 3).shards[0].uuid == C


def test_a_version_that_is_gone_cannot_be_tagged(folder: IndexFolder) -> None:
    write_version(folder, 1, A)
    with pytest.raises(IndexNotFoundError):
        create_tag(folder, "x", 9)
    assert read_tags(folder) == {}


@pytest.mark.parametrize(
    ("payload", "error"), [(b"{", CorruptIndexError), (b'{"format_version": 99}', FormatVersionError)]
)
def test_with_a_manifest_that_cannot_be_read_nothing_is_deleted(
    folder: IndexFolder, payload: bytes, error: type[Exception]
) -> None:
    write_version(folder, 1, A)
    write_version(folder, 2, B)
    folder.write_bytes(f"{shard_folder(D)}/forest.ann", b"x")
    for name in (version_name(3), "tags/x.json"):
        folder.write_bytes(name, payload)
        with pytest.raises(error):
            collect_garbage(folder, AT_ONCE, dry_run=False)
        folder.delete([name])
        assert shards_of(folder) == {A, B, D}
        assert list_versions(folder) == [1, 2]


def test_a_killed_clean_up_is_finished_by_the_next(local_folder: IndexFolder, monkeypatch: Any, tmp_path: Path) -> None:
    for version, uuid in enumerate((A, B, C), 1):
        write_version(local_folder, version, uuid)
    age(local_folder, 30)
    with monkeypatch.context() as patched:

        def die(*_: object) -> None:
            raise KeyboardInterrupt

        patched.setattr(IndexFolder, "delete_found", die)
        with pytest.raises(KeyboardInterrupt):
            collect_garbage(local_folder, 7 * DAY, dry_run=False)
    assert list_versions(local_folder) == [3]
    assert shards_of(local_folder) == {A, B, C}  # whole: no version names a shard that is not there
    collect_garbage(local_folder, 7 * DAY, dry_run=False)
    assert shards_of(local_folder) == {C}

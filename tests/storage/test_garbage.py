"""The clean-up deletes what no kept version names, leaves what it does not know, and takes nothing from a writer."""

from __future__ import annotations

import os
import time
import weakref
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
    delete_tag,
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
from dask_annoy.storage.work import announced_clean_up

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


def three_versions(folder: IndexFolder) -> None:
    for version, uuid in enumerate((A, B, C), 1):
        write_version(folder, version, uuid)
    age(folder, 30)


def test_a_tag_that_is_asked_for_again_during_a_clean_up_stays(local_folder: IndexFolder, monkeypatch: Any) -> None:
    three_versions(local_folder)
    create_tag(local_folder, "prod", 1)
    between(monkeypatch, lambda: create_tag(local_folder, "prod", 1))
    done = collect_garbage(local_folder, 7 * DAY, dry_run=False)
    assert (done.versions, done.kept_versions) == ((2,), (1, 3))
    assert read_tags(local_folder) == {"prod": 1}


def test_a_killed_clean_up_has_announced_no_tagged_version(local_folder: IndexFolder, monkeypatch: Any) -> None:
    three_versions(local_folder)
    create_tag(local_folder, "prod", 1)
    with monkeypatch.context() as patched:
        delete = IndexFolder.delete

        def die(self: IndexFolder, names: Any) -> None:
            names = list(names)
            if any(name.startswith(("versions/", "work/")) for name in names):  # its announcement stays, too
                raise KeyboardInterrupt
            delete(self, names)

        patched.setattr(IndexFolder, "delete", die)
        with pytest.raises(KeyboardInterrupt):
            collect_garbage(local_folder, 7 * DAY, dry_run=False)
    (left,) = local_folder.list("work")
    create_tag(local_folder, "prod", 1)
    create_tag(local_folder, "also", 1)
    with pytest.raises(CommitConflictError, match=f"being cleaned up, as .*{left} says.*delete the file"):
        create_tag(local_folder, "late", 2)
    assert read_tags(local_folder) == {"prod": 1, "also": 1}


def test_only_a_tag_that_the_very_call_has_put_is_taken_back(local_folder: IndexFolder) -> None:
    three_versions(local_folder)
    create_tag(local_folder, "prod", 1)
    with announced_clean_up(local_folder, [1]), pytest.raises(CommitConflictError):
        create_tag(local_folder, "prod", 1)
    assert read_tags(local_folder) == {"prod": 1}
    # And if somebody else puts the same between the look and the put.
    with pytest.MonkeyPatch.context() as patched, announced_clean_up(local_folder, [1]):
        patched.setattr(IndexFolder, "exists", lambda *_: False)
        with pytest.raises(CommitConflictError):
            create_tag(local_folder, "prod", 1)
    assert read_tags(local_folder) == {"prod": 1}


def test_a_version_whose_tag_goes_during_a_clean_up_is_left_for_the_next(
    local_folder: IndexFolder, monkeypatch: Any
) -> None:
    three_versions(local_folder)
    create_tag(local_folder, "prod", 1)
    announced = garbage.announced_clean_up

    def untag_first(*arguments: Any) -> Any:
        delete_tag(local_folder, "prod")
        return announced(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(garbage, "announced_clean_up", untag_first)
        # It was not announced, so whoever tags it now does not see that it goes.
        assert collect_garbage(local_folder, 7 * DAY, dry_run=False).versions == (2,)
    assert collect_garbage(local_folder, 7 * DAY, dry_run=False).versions == (1,)


def test_a_damaged_tag_can_be_taken_away_and_until_then_stops_the_clean_up(folder: IndexFolder) -> None:
    write_version(folder, 1, A)
    write_version(folder, 2, B)
    create_tag(folder, "sound", 1)
    folder.write_bytes("tags/bad.json", b"{")
    for refused in (
        lambda: collect_garbage(folder, AT_ONCE, dry_run=False),
        lambda: read_tags(folder),
        lambda: create_tag(folder, "bad", 1),
    ):
        with pytest.raises(CorruptIndexError, match=r"bad\.json .*untag\('bad'\).*dask annoy untag .* bad\)"):
            refused()
    assert read_tags(folder, only_sound=True) == {"sound": 1}
    delete_tag(folder, "bad")
    assert read_tags(folder) == {"sound": 1}
    with pytest.raises(IndexNotFoundError, match=r"there is no tag 'bad' .*: sound"):
        delete_tag(folder, "bad")


def test_a_tag_that_goes_after_the_listing_is_no_error(local_folder: IndexFolder, monkeypatch: Any) -> None:
    three_versions(local_folder)
    create_tag(local_folder, "sound", 1)
    listed = IndexFolder.list
    monkeypatch.setattr(
        IndexFolder, "list", lambda self, name: [*listed(self, name), *(["gone.json"] if name == "tags" else [])]
    )
    assert read_tags(local_folder) == {"sound": 1}
    assert collect_garbage(local_folder, 7 * DAY, dry_run=False).kept_versions == (1, 3)


def test_a_build_that_is_begun_again_during_a_clean_up_keeps_the_plan_it_writes(
    local_folder: IndexFolder, monkeypatch: Any
) -> None:
    three_versions(local_folder)
    names = [plan_name("b1"), "builds/b1/sample.npy"]
    for name in names:
        local_folder.write_bytes(name, b"of an abandoned build")
    age(local_folder, 30)
    delete = IndexFolder.delete
    writer = at_work(local_folder, "build")

    def begin_after(self: IndexFolder, gone: Any) -> None:
        gone = list(gone)
        delete(self, gone)
        if plan_name("b1") in gone:
            monkeypatch.setattr(IndexFolder, "delete", delete)
            writer.__enter__()
            for name in names:
                assert not self.exists(name)
                self.write_bytes(name, b"new")

    monkeypatch.setattr(IndexFolder, "delete", begin_after)
    assert collect_garbage(local_folder, 7 * DAY, dry_run=False).held_back
    assert [local_folder.read_bytes(name) for name in names] == [b"new", b"new"]
    writer.__exit__(None, None, None)


def test_a_build_that_is_begun_again_while_manifests_are_read_loses_nothing(
    local_folder: IndexFolder, monkeypatch: Any
) -> None:
    three_versions(local_folder)
    local_folder.write_bytes(plan_name("b1"), b"of an abandoned build")
    age(local_folder, 30)
    writer = at_work(local_folder, "build")
    read = garbage.read_manifest

    def begin(folder: IndexFolder, version: int) -> Manifest:
        if version == 3:
            writer.__enter__()
        return read(folder, version)

    monkeypatch.setattr(garbage, "read_manifest", begin)
    done = collect_garbage(local_folder, 7 * DAY, dry_run=False)
    assert (done.held_back, done.files) == (True, ())
    assert local_folder.exists(plan_name("b1"))
    writer.__exit__(None, None, None)


def test_few_manifests_are_in_memory_at_a_time(folder: IndexFolder, monkeypatch: Any) -> None:
    for version in range(1, 41):
        write_version(folder, version, A)
    create_tag(folder, "kept", 7)
    alive: weakref.WeakSet[Any] = weakref.WeakSet()
    most = 0

    class Watched:
        """As much of a manifest as the clean-up looks at; a reference to it can be weak."""

        def __init__(self, manifest: Manifest) -> None:
            self.shards = manifest.shards

    def read(folder: IndexFolder, version: int) -> Any:
        nonlocal most
        found = Watched(read_manifest(folder, version))
        alive.add(found)
        most = max(most, len(alive))
        return found

    monkeypatch.setattr(garbage, "read_manifest", read)
    collect_garbage(folder, DAY)
    assert 1 <= most <= 10


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

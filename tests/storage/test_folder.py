from __future__ import annotations

import errno
import os
import pickle
from pathlib import Path
from typing import Any

import fsspec
import pytest

from dask_annoy.errors import UnsupportedStorageError
from dask_annoy.storage import IndexFolder

HOSTILE = [
    "", ".", "..", "/", "/etc/passwd", "../x", "a/../x", "a/..", "./a", "a//b", "a/", "a\\b", "a b", "a\n",
    "a\0",
    ".hidden", "a/.hidden", "é", "a*", "s3://x", "a?b", "x" * 600, "a\u2215b",
]  # fmt: skip


def test_what_is_written_is_read_listed_measured_and_deleted(folder: IndexFolder) -> None:
    assert folder.list("a") == []
    assert not folder.exists("a/x")
    folder.write_bytes("a/x", b"one")
    folder.write_bytes("a/sub/y", b"")
    assert folder.read_bytes("a/x") == b"one"
    assert folder.read_bytes("a/sub/y") == b""
    assert folder.size("a/x") == 3
    assert folder.list("a") == ["x"]
    assert folder.list("a/x") == []
    assert not folder.exists("a/sub")
    with pytest.raises(FileNotFoundError):
        folder.read_bytes("a/none")
    with pytest.raises(FileNotFoundError):
        folder.size("a/x/y")
    folder.delete(["a/x", "a/none"])
    assert folder.list("a") == []
    folder.delete_tree("a")
    folder.delete_tree("a")
    assert not folder.exists("a/sub/y")


def test_a_failed_download_leaves_no_file(folder: IndexFolder, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        folder.download("shards/none", tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_a_listing_shows_what_somebody_else_wrote_just_now(s3_options: dict[str, Any]) -> None:
    url = "s3://bucket/fresh"
    ours = IndexFolder(url, s3_options)
    assert ours.list("v") == []
    other = fsspec.filesystem("s3", skip_instance_cache=True, **s3_options)
    other.pipe_file("bucket/fresh/v/1", b"x")
    assert ours.list("v") == ["1"]
    assert ours.read_bytes("v/1") == b"x"
    other.pipe_file("bucket/fresh/v/2", b"y")
    assert ours.list("v") == ["1", "2"]


def test_a_folder_with_pattern_letters_deletes_only_its_own_files(s3_options: dict[str, Any]) -> None:
    starred, neighbour = IndexFolder("s3://bucket/p*", s3_options), IndexFolder("s3://bucket/pq", s3_options)
    for folder in (starred, neighbour):
        folder.write_bytes("t/x", b"1")
        folder.write_bytes("y", b"1")
    starred.delete(["y"])
    starred.delete_tree("t")
    assert not starred.exists("t/x")
    assert not starred.exists("y")
    assert neighbour.exists("t/x")
    assert neighbour.exists("y")


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_leaves_the_folder(memory_folder: IndexFolder, local_folder: IndexFolder, name: str) -> None:
    for folder in (memory_folder, local_folder):
        for call in (folder.read_bytes, folder.list, folder.exists, folder.size, folder.delete_tree):
            with pytest.raises(ValueError, match="is not a name in an index folder"):
                call(name)
        with pytest.raises(ValueError, match="is not a name"):
            folder.write_bytes(name, b"x")
        with pytest.raises(ValueError, match="is not a name"):
            folder.delete(["good", name])


def test_credentials_are_never_shown(s3_options: dict[str, Any]) -> None:
    for url in ("ftp://user:PASS-W0RD@host/index", "s3://KEY:PASS-W0RD@bucket/index"):
        folder = IndexFolder(url, {"secret": "S3CRET"})
        with pytest.raises(UnsupportedStorageError) as caught:
            IndexFolder("simplecache::" + url)
        for shown in (repr(folder), str(folder), folder.where("x"), str(caught.value)):
            assert "PASS-W0RD" not in shown
            assert "S3CRET" not in shown
    with pytest.raises(UnsupportedStorageError) as caught:
        IndexFolder("ftp://user:PASS-W0RD@host/index").create("x", b"1")
    assert "PASS-W0RD" not in str(caught.value)


def test_a_folder_survives_pickling_after_use(folder: IndexFolder) -> None:
    folder.write_bytes("x", b"1")
    again = pickle.loads(pickle.dumps(folder))
    assert again == folder
    assert hash(again) == hash(folder)
    assert again.read_bytes("x") == b"1"


def test_local_paths_become_absolute_and_are_told_from_urls(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    for url in ("index", "./index", f"file://{tmp_path}/index", str(tmp_path / "index/")):
        folder = IndexFolder(url)
        assert folder.is_local
        assert folder.local_path("a/b") == tmp_path / "index/a/b"
    assert not IndexFolder("memory://x").is_local
    with pytest.raises(ValueError, match="not on a local"):
        IndexFolder("memory://x").local_path("a")


@pytest.mark.parametrize("cache", ["simplecache", "filecache", "blockcache"])
def test_caches_of_fsspec_are_refused(cache: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedStorageError, match="give the URL without it"):
        IndexFolder(f"{cache}::file://{tmp_path}")


def test_a_local_file_is_readable_for_others_as_the_umask_says(local_folder: IndexFolder) -> None:
    before = os.umask(0o022)
    try:
        local_folder.write_bytes("x", b"1")
    finally:
        os.umask(before)
    assert local_folder.local_path("x").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("step", ["mkdir", "open", "fsync", "link", "replace"])
def test_a_full_disk_is_named_at_whichever_step_it_is_met(
    local_folder: IndexFolder, monkeypatch: Any, step: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if step != "mkdir":
        local_folder.write_bytes("v/a", b"1")
    write = local_folder.create if step == "link" else local_folder.write_bytes
    monkeypatch.setattr(Path if step in {"mkdir", "replace"} else os, step, fail)
    with pytest.raises(OSError, match=r"no room in .*/v for b: free space there") as caught:
        write("v/b", b"2")
    monkeypatch.undo()
    assert caught.value.errno == errno.ENOSPC
    assert local_folder.list("v") == ([] if step == "mkdir" else ["a"])
    assert not [file for file in local_folder.files() if ".tmp-" in file.name]


def test_unfinished_local_files_are_neither_listed_nor_left(local_folder: IndexFolder, monkeypatch: Any) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "no room left on device")

    local_folder.write_bytes("v/a", b"1")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no room"):
        local_folder.write_bytes("v/b", b"2")
    assert os.listdir(local_folder.local_path("v")) == ["a"]  # noqa: PTH208
    local_folder.local_path("v").joinpath(".tmp-left").write_bytes(b"cut")
    assert local_folder.list("v") == ["a"]

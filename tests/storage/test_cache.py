from __future__ import annotations

import errno
import gc
import logging
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dask_annoy.errors import CorruptIndexError
from dask_annoy.storage import FileEntry, IndexFolder, ShardCache, cache, configure_cache, shared_cache

from .conftest import entry

PREFIX = "shards/u"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def put(folder: IndexFolder, name: str, payload: bytes) -> FileEntry:
    folder.write_bytes(f"{PREFIX}/{name}", payload)
    return entry(name, payload)


def kept(directory: Path) -> set[str]:
    """The names of the files that a cache keeps, without their checksums."""
    return {path.name.partition("-")[2] for path in directory.glob("*/*")}


@pytest.mark.parametrize("kind", ["memory_folder", "s3_folder"])
def test_a_remote_file_is_served_from_local_disk(kind: str, request: pytest.FixtureRequest, directory: Path) -> None:
    folder: IndexFolder = request.getfixturevalue(kind)
    files = [put(folder, "forest.ann", b"forest"), put(folder, "ids.npy", b"ids")]
    store = ShardCache(directory, 100)
    with store.lease(folder, PREFIX, files) as lease:
        assert lease.path("forest.ann").read_bytes() == b"forest"
        assert lease.path("ids.npy").read_bytes() == b"ids"
        assert lease.path("ids.npy").parent.stat().st_mode & 0o777 == 0o700
    folder.delete_tree("shards")
    with store.lease(folder, PREFIX, files) as lease:
        assert lease.path("ids.npy").read_bytes() == b"ids"
        with pytest.raises(KeyError):
            lease.path("other")
    stats = store.stats()
    assert (stats.downloads, stats.hits, stats.evictions, stats.bytes) == (2, 2, 0, 9)


def test_who_asks_for_a_fresh_look_is_told_of_what_is_stored_now(folder: IndexFolder, directory: Path) -> None:
    file = put(folder, "forest.ann", b"forest")
    store = ShardCache(directory, 100)
    for fresh in (False, True, True):
        with store.lease(folder, PREFIX, [file], fresh=fresh) as lease:
            assert lease.path("forest.ann").read_bytes() == b"forest"
    put(folder, "forest.ann", b"Forest")
    for _ in range(2):
        with pytest.raises(CorruptIndexError, match=r"forest\.ann has the SHA-256"):
            store.lease(folder, PREFIX, [file], fresh=True)
    if not folder.is_local:
        with store.lease(folder, PREFIX, [file]) as lease:  # what was checked once is good for those who read
            assert lease.path("forest.ann").read_bytes() == b"forest"
        assert kept(directory) == {"forest.ann"}  # and the copy that was looked at is gone
        assert store.stats().downloads == 1
    folder.delete([f"{PREFIX}/forest.ann"])
    with pytest.raises(FileNotFoundError):
        store.lease(folder, PREFIX, [file], fresh=True)


def test_threads_that_ask_at_the_same_time_share_one_download(
    memory_folder: IndexFolder, directory: Path, monkeypatch: Any
) -> None:
    payload = os.urandom(1 << 20)
    file = put(memory_folder, "forest.ann", payload)
    downloads = []
    download = IndexFolder.download

    def slow(self: IndexFolder, name: str, path: Path, **options: Any) -> None:
        downloads.append(name)
        path.write_bytes(payload[:1000])  # what the cache of fsspec would serve to the others
        time.sleep(0.2)
        download(self, name, path, **options)

    monkeypatch.setattr(IndexFolder, "download", slow)
    store = ShardCache(directory, 1 << 30)
    barrier = threading.Barrier(12)

    def read(_: int) -> bytes:
        barrier.wait()
        with store.lease(memory_folder, PREFIX, [file]) as lease:
            return lease.path("forest.ann").read_bytes()

    with ThreadPoolExecutor(12) as pool:
        assert all(got == payload for got in pool.map(read, range(12)))
    assert len(downloads) == 1
    assert store.stats().downloads == 1
    assert store.stats().hits == 11


@pytest.mark.parametrize("stored", [b"fores", b"forest!", b"FOREST", b""])
def test_a_file_that_is_not_what_the_manifest_says_leaves_nothing_behind(
    memory_folder: IndexFolder, directory: Path, stored: bytes
) -> None:
    good = put(memory_folder, "ids.npy", b"ids")
    put(memory_folder, "forest.ann", stored)
    wanted = entry("forest.ann", b"forest")
    store = ShardCache(directory, 100)
    for _ in range(2):
        with pytest.raises(CorruptIndexError, match=r"shards/u/forest\.ann has .* but its manifest says"):
            store.lease(memory_folder, PREFIX, [good, wanted])
    assert kept(directory) == {"ids.npy"}
    assert store.stats().bytes == 3
    put(memory_folder, "forest.ann", b"forest")  # repaired
    with store.lease(memory_folder, PREFIX, [wanted]) as lease:
        assert lease.path("forest.ann").read_bytes() == b"forest"


def test_all_threads_learn_of_a_corrupt_file(memory_folder: IndexFolder, directory: Path) -> None:
    put(memory_folder, "forest.ann", b"FOREST")
    wanted, store = entry("forest.ann", b"forest"), ShardCache(directory, 100)

    def ask(_: int) -> str:
        with pytest.raises(CorruptIndexError) as caught:
            store.lease(memory_folder, PREFIX, [wanted])
        return str(caught.value)

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(ask, range(8)))) == 1
    assert store.stats().bytes == 0


def test_an_interrupted_download_is_taken_over_by_a_waiting_thread(
    memory_folder: IndexFolder, directory: Path, monkeypatch: Any
) -> None:
    file, store = put(memory_folder, "forest.ann", b"forest"), ShardCache(directory, 100)
    download, started, turns = IndexFolder.download, threading.Event(), iter([True, False])

    def interrupted(self: IndexFolder, name: str, path: Path, **options: Any) -> None:
        if next(turns):
            started.set()
            time.sleep(0.2)
            raise KeyboardInterrupt
        download(self, name, path, **options)

    monkeypatch.setattr(IndexFolder, "download", interrupted)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(store.lease, memory_folder, PREFIX, [file])
        started.wait()
        second = pool.submit(store.lease, memory_folder, PREFIX, [file])
        with pytest.raises(KeyboardInterrupt):
            first.result()
        assert second.result().path("forest.ann").read_bytes() == b"forest"


def test_the_least_recently_used_goes_first(memory_folder: IndexFolder, directory: Path) -> None:
    a, b, c, d = (put(memory_folder, name, name.encode() * 10) for name in "abcd")
    store = ShardCache(directory, 30)
    for file in (a, b, c, a, d):
        store.lease(memory_folder, PREFIX, [file]).release()
    assert kept(directory) == {"a", "c", "d"}
    assert store.stats().evictions == 1
    assert store.stats().bytes == 30


def test_what_is_leased_is_never_evicted(
    memory_folder: IndexFolder, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = [put(memory_folder, name, name.encode() * 10) for name in "abcd"]
    store = ShardCache(directory, 25)
    with caplog.at_level(logging.WARNING):
        leases = [store.lease(memory_folder, PREFIX, [file]) for file in files]
    assert kept(directory) == set("abcd")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "raise it or open fewer shards" in caplog.text
    for lease in leases:
        lease.release()
        lease.release()
        with pytest.raises(ValueError, match="released"):
            lease.path("a")
    assert kept(directory) == set("cd")
    assert store.stats().bytes == 20


def test_two_leases_of_one_file_both_have_to_end(memory_folder: IndexFolder, directory: Path) -> None:
    file, other = put(memory_folder, "a", b"a" * 20), put(memory_folder, "b", b"b" * 20)
    store = ShardCache(directory, 20)
    first, second = (store.lease(memory_folder, PREFIX, [file]) for _ in range(2))
    first.release()
    with store.lease(memory_folder, PREFIX, [other]):
        assert second.path("a").read_bytes() == b"a" * 20


def test_a_file_larger_than_the_bound_is_served_and_does_not_push_others_out(
    memory_folder: IndexFolder, directory: Path
) -> None:
    small, large = put(memory_folder, "small", b"s"), put(memory_folder, "large", b"l" * 100)
    store = ShardCache(directory, 10)
    held = store.lease(memory_folder, PREFIX, [small])
    with store.lease(memory_folder, PREFIX, [large]) as lease:
        assert lease.path("large").read_bytes() == b"l" * 100
    held.release()
    assert kept(directory) == {"small"}


def test_a_lease_that_is_dropped_is_released(memory_folder: IndexFolder, directory: Path) -> None:
    file = put(memory_folder, "large", b"l" * 100)
    store = ShardCache(directory, 10)
    lease = store.lease(memory_folder, PREFIX, [file])
    assert kept(directory) == {"large"}
    del lease
    gc.collect()
    assert store.stats().bytes == 0
    assert kept(directory) == set()


def test_a_file_that_a_cleaner_took_is_fetched_again(memory_folder: IndexFolder, directory: Path) -> None:
    file, store = put(memory_folder, "a", b"abc"), ShardCache(directory, 10)
    lease = store.lease(memory_folder, PREFIX, [file])
    lease.path("a").unlink()
    lease.release()
    assert store.lease(memory_folder, PREFIX, [file]).path("a").read_bytes() == b"abc"
    assert store.stats().bytes == 3


def test_a_folder_that_a_cleaner_took_is_made_again(memory_folder: IndexFolder, directory: Path) -> None:
    first, second, store = put(memory_folder, "a", b"abc"), put(memory_folder, "b", b"defg"), ShardCache(directory, 10)
    with store.lease(memory_folder, PREFIX, [first]) as lease:
        shutil.rmtree(lease.path("a").parent)
    assert store.lease(memory_folder, PREFIX, [second]).path("b").read_bytes() == b"defg"
    assert store.lease(memory_folder, PREFIX, [first]).path("a").read_bytes() == b"abc"


def test_a_folder_that_goes_during_a_download_is_not_taken_for_a_file_that_storage_lost(
    memory_folder: IndexFolder, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, download = put(memory_folder, "a", b"abc"), IndexFolder.download

    def taking(folder: IndexFolder, name: str, path: Path, **options: Any) -> None:
        shutil.rmtree(path.parent)
        download(folder, name, path, **options)

    monkeypatch.setattr(IndexFolder, "download", taking)
    with pytest.raises(OSError, match="the folder of the local cache") as caught:
        ShardCache(directory, 10).lease(memory_folder, PREFIX, [file])
    assert not isinstance(caught.value, FileNotFoundError | CorruptIndexError)


def test_a_crowd_of_threads_stays_within_the_bound_and_reads_what_it_asked_for(
    memory_folder: IndexFolder, directory: Path
) -> None:
    files = {name: put(memory_folder, name, name.encode() * 100) for name in "abcdefgh"}
    store = ShardCache(directory, 350)

    def work(seed: int) -> None:
        for turn in range(40):
            name = "abcdefgh"[(seed * 7 + turn * 3) % 8]
            lease = store.lease(memory_folder, PREFIX, [files[name]])
            assert lease.path(name).read_bytes() == name.encode() * 100
            if turn % 2:
                lease.release()
            del lease

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert store.stats().bytes <= 350
    assert store.stats().bytes == 100 * len(kept(directory))


def test_a_full_disk_evicts_and_tries_once_more(memory_folder: IndexFolder, directory: Path, monkeypatch: Any) -> None:
    old, new = put(memory_folder, "old", b"old"), put(memory_folder, "new", b"new")
    store = ShardCache(directory, 100)
    store.lease(memory_folder, PREFIX, [old]).release()
    download = IndexFolder.download

    def full_unless_empty(self: IndexFolder, name: str, path: Path, **options: Any) -> None:
        if kept(directory) & {"old"}:
            path.write_bytes(b"n")
            raise OSError(errno.ENOSPC, "No space left on device")
        download(self, name, path, **options)

    monkeypatch.setattr(IndexFolder, "download", full_unless_empty)
    with store.lease(memory_folder, PREFIX, [new]) as lease:
        assert lease.path("new").read_bytes() == b"new"
    assert kept(directory) == {"new"}


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of one megabyte."""
    mount_point = tmp_path / "tiny"
    mount_point.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("mounting needs root")
    if subprocess.run([mount, "-t", "tmpfs", "-o", "size=1m", "none", mount_point], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    yield mount_point
    subprocess.run(["umount", "-l", mount_point], check=True)


def test_a_disk_that_is_really_full_is_a_clear_error(s3_folder: IndexFolder, tiny_disk: Path) -> None:
    fits = put(s3_folder, "fits", b"f" * 600_000)
    large = put(s3_folder, "large", b"l" * 2_000_000)
    store = ShardCache(tiny_disk, 1 << 30)
    store.lease(s3_folder, PREFIX, [fits]).release()
    with pytest.raises(OSError, match=r"no room in .* on the local disk for the 2000000 bytes") as caught:
        store.lease(s3_folder, PREFIX, [large])
    assert caught.value.errno == errno.ENOSPC
    assert kept(tiny_disk) == set()
    assert store.lease(s3_folder, PREFIX, [fits]).path("fits").stat().st_size == 600_000


def test_local_files_are_served_in_place_and_verified_once(
    local_folder: IndexFolder, directory: Path, monkeypatch: Any
) -> None:
    checks = []
    check = cache.check_file

    def counted(path: Path, file: FileEntry, *, where: str) -> None:
        checks.append(path)
        check(path, file, where=where)

    monkeypatch.setattr(cache, "check_file", counted)
    file = put(local_folder, "forest.ann", b"forest")
    store = ShardCache(directory, 10)

    def ask(_: int) -> Path:
        return store.lease(local_folder, PREFIX, [file]).path("forest.ann")

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(8))) == {local_folder.local_path(f"{PREFIX}/forest.ann")}
    assert len(checks) == 1
    assert not directory.exists()
    put(local_folder, "forest.ann", b"FOREST")
    with pytest.raises(CorruptIndexError, match=r"forest\.ann has the SHA-256"):
        ask(0)


def _hold_and_wait(directory: Path, ready: Any) -> None:
    folder = IndexFolder("memory://dead")
    file = put(folder, "a", b"abc")
    lease = ShardCache(directory, 10).lease(folder, PREFIX, [file])
    ready.set()
    time.sleep(60)
    lease.release()


def test_the_folder_of_a_killed_process_is_removed_and_that_of_a_living_one_stays(
    memory_folder: IndexFolder, directory: Path
) -> None:
    context = multiprocessing.get_context("spawn" if sys.platform == "darwin" else "fork")
    processes = []
    for _ in range(2):
        ready = context.Event()
        processes.append(context.Process(target=_hold_and_wait, args=(directory, ready)))
        processes[-1].start()
        assert ready.wait(20)
    killed, living = processes
    try:
        assert killed.pid is not None
        os.kill(killed.pid, signal.SIGKILL)
        killed.join()
        file = put(memory_folder, "a", b"abc")
        ours = ShardCache(directory, 10)
        ours.lease(memory_folder, PREFIX, [file])
        owners = {path.name.split("-")[0] for path in directory.iterdir()}
        assert owners == {str(living.pid), str(os.getpid())}
        assert kept(directory) == {"a"}
        assert len(list(directory.glob("*/*"))) == 2
    finally:
        living.kill()
        living.join()


def test_the_folder_is_gone_after_a_normal_exit(directory: Path) -> None:
    script = f"""
from pathlib import Path
from dask_annoy.storage import IndexFolder, configure_cache, FileEntry
import hashlib
folder = IndexFolder("memory://x")
folder.write_bytes("shards/u/a", b"abc")
cache = configure_cache(Path({str(directory)!r}))
file = FileEntry(name="a", bytes=3, sha256=hashlib.sha256(b"abc").hexdigest())
lease = cache.lease(folder, "shards/u", [file])
print(len(list(Path({str(directory)!r}).glob("*/*"))))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("1\n", "")
    assert list(directory.iterdir()) == []


def test_a_forked_child_leaves_its_parents_files_alone_and_has_its_own(
    memory_folder: IndexFolder, directory: Path
) -> None:
    file = put(memory_folder, "large", b"l" * 100)
    store = ShardCache(directory, 10)
    lease = store.lease(memory_folder, PREFIX, [file])
    private = store._state._private
    assert private is not None
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            own = store.lease(memory_folder, PREFIX, [file])
            if own.path("large") != lease.path("large") and own.path("large").read_bytes() == b"l" * 100:
                lease.release()
                own.release()
                del own, lease, store
                gc.collect()
                private.close()  # as a normal exit does
                code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert lease.path("large").read_bytes() == b"l" * 100
    assert len(list(directory.glob("*/"))) == 1


def test_the_process_shares_one_cache_and_takes_new_settings(
    memory_folder: IndexFolder, directory: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(cache, "_process", cache._Process())
    monkeypatch.setattr(tempfile, "tempdir", str(directory.parent))
    assert shared_cache() is shared_cache()
    first = configure_cache(directory, 100)
    assert shared_cache() is first
    assert configure_cache(directory, 100) is first
    lease = first.lease(memory_folder, PREFIX, [put(memory_folder, "a", b"abc")])
    second = configure_cache(directory, 200)
    assert shared_cache() is second is not first
    del first
    gc.collect()
    assert lease.path("a").read_bytes() == b"abc"


def test_a_cache_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="needs room"):
        ShardCache(Path("x" + uuid.uuid4().hex), 0)

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dask_annoy.errors import UnsupportedStorageError
from dask_annoy.storage import IndexFolder, publish, put_if_absent

NAME = "versions/00000000000000000001.json"


def _race(url: str, writer: int, start: Any, results: Any) -> None:
    payload = bytes([writer]) * 300_000
    start.wait()
    results.put((writer, put_if_absent(IndexFolder(url), NAME, payload)))


def test_of_twenty_processes_exactly_one_wins_and_its_content_is_whole(local_folder: IndexFolder) -> None:
    context = multiprocessing.get_context("fork")
    start, results = context.Event(), context.Queue()
    writers = [context.Process(target=_race, args=(local_folder.url, n, start, results)) for n in range(20)]
    for process in writers:
        process.start()
    start.set()
    outcomes = dict(results.get(timeout=30) for _ in writers)
    for process in writers:
        process.join()
    winners = [writer for writer, won in outcomes.items() if won]
    assert len(winners) == 1
    assert local_folder.read_bytes(NAME) == bytes(winners) * 300_000
    assert len(list(local_folder.local_path("versions").iterdir())) == 1


@pytest.mark.parametrize("kind", ["local_folder", "memory_folder"])
def test_of_many_threads_exactly_one_wins(kind: str, request: pytest.FixtureRequest) -> None:
    folder: IndexFolder = request.getfixturevalue(kind)
    for turn in range(10):
        barrier, name = threading.Barrier(8), f"v/{turn}"

        def put(writer: int, barrier: threading.Barrier = barrier, name: str = name) -> bool:
            barrier.wait()
            return put_if_absent(folder, name, b"%d" % writer)

        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(put, range(8)))
        assert sum(won) == 1
        assert folder.read_bytes(name) == b"%d" % won.index(True)


class Unreliable(IndexFolder):
    """A folder on memory:// whose replies are lost or which throttles, as told."""

    def plan(self, *faults: tuple[Exception, bool]) -> None:
        object.__setattr__(self, "faults", list(faults))

    def create(self, name: str, payload: bytes) -> None:
        faults = self.__dict__["faults"]
        error, is_carried_out = faults.pop(0) if faults else (None, True)
        if is_carried_out:
            super().create(name, payload)
        if error is not None:
            raise error


@pytest.fixture
def unreliable(memory_folder: IndexFolder, monkeypatch: pytest.MonkeyPatch) -> Unreliable:
    monkeypatch.setattr(publish, "_FIRST_PAUSE", 0.001)
    return Unreliable(memory_folder.url)


class _Throttled(Exception):
    code = 429


def _conditional_conflict() -> OSError:
    error = OSError(errno.EIO, "ConditionalRequestConflict")  # as s3fs translates a 409 that it does not know
    error.__cause__ = Exception()
    error.__cause__.response = {"ResponseMetadata": {"HTTPStatusCode": 409}}  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize(
    "error",
    [TimeoutError(), OSError(errno.EINVAL, "PreconditionFailed"), FileExistsError(), RuntimeError("?")],
)
def test_a_lost_reply_to_our_own_put_is_settled_by_reading_back(unreliable: Unreliable, error: Exception) -> None:
    unreliable.plan((error, True))
    assert put_if_absent(unreliable, NAME, b"ours")


def test_an_error_after_anothers_put_is_a_loss(unreliable: Unreliable) -> None:
    unreliable.plan()
    put_if_absent(unreliable, NAME, b"theirs")
    unreliable.plan((TimeoutError(), False))
    assert not put_if_absent(unreliable, NAME, b"ours!!")


@pytest.mark.parametrize("error", [_Throttled(), _conditional_conflict(), OSError(errno.EBUSY, "SlowDown")])
def test_throttling_is_waited_out(unreliable: Unreliable, error: Exception) -> None:
    unreliable.plan((error, False), (error, False), (error, False))
    assert put_if_absent(unreliable, NAME, b"ours")


def test_throttling_without_end_is_reported(unreliable: Unreliable) -> None:
    unreliable.plan(*[(_Throttled("slow down"), False)] * 50)
    with pytest.raises(_Throttled):
        put_if_absent(unreliable, NAME, b"ours")
    assert 0 < len(unreliable.__dict__["faults"]) < 50


def test_a_lasting_error_is_not_tried_again(unreliable: Unreliable) -> None:
    unreliable.plan((PermissionError("denied"), False), (PermissionError("denied"), False))
    with pytest.raises(PermissionError):
        put_if_absent(unreliable, NAME, b"ours")
    assert len(unreliable.__dict__["faults"]) == 1


def _hang_before_the_link(url: str, reached: Any) -> None:
    def hang(*_: object) -> None:
        reached.set()
        time.sleep(60)

    os.link = hang  # type: ignore[assignment]
    put_if_absent(IndexFolder(url), NAME, b"never published")


def test_a_writer_killed_before_the_link_leaves_nothing_visible(local_folder: IndexFolder) -> None:
    context = multiprocessing.get_context("fork")
    reached = context.Event()
    writer = context.Process(target=_hang_before_the_link, args=(local_folder.url, reached))
    writer.start()
    assert reached.wait(20)
    assert writer.pid is not None
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    assert local_folder.list("versions") == []
    assert not local_folder.exists(NAME)
    assert put_if_absent(local_folder, NAME, b"next writer")
    assert local_folder.read_bytes(NAME) == b"next writer"


def test_a_file_system_without_hard_links_is_refused(local_folder: IndexFolder, monkeypatch: Any) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    with pytest.raises(UnsupportedStorageError, match="without hard links"):
        put_if_absent(local_folder, NAME, b"x")
    assert list(local_folder.local_path("versions").iterdir()) == []


def test_without_hard_links_a_single_writer_may_publish_if_it_says_so(
    local_folder: IndexFolder, monkeypatch: Any
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(publish, "_FIRST_PAUSE", 0.001)
    allowed = IndexFolder(local_folder.url, allow_unsafe_publish=True)
    assert put_if_absent(allowed, NAME, b"first")
    assert not put_if_absent(allowed, NAME, b"other")
    assert allowed.read_bytes(NAME) == b"first"
    assert len(list(allowed.local_path("versions").iterdir())) == 1


def test_backends_without_exclusive_creation_can_be_read_but_not_published_on(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "index.zip", "w") as archive:
        archive.writestr("versions/x", b"1")
    folder = IndexFolder(f"zip://::file://{tmp_path}/index.zip")
    assert folder.read_bytes("versions/x") == b"1"
    assert folder.list("versions") == ["x"]
    with pytest.raises(UnsupportedStorageError, match="publish to a local or NFS"):
        put_if_absent(folder, NAME, b"x")
    assert not folder.exists(NAME)


def test_a_server_that_ignores_the_condition_is_found_out(s3_folder: IndexFolder, monkeypatch: Any) -> None:
    monkeypatch.setattr(publish, "_proven", set())
    monkeypatch.setattr(IndexFolder, "create", IndexFolder.write_bytes)  # overwrites, as such a server does
    with pytest.raises(UnsupportedStorageError, match="If-None-Match"):
        put_if_absent(s3_folder, NAME, b"x")
    assert not s3_folder.exists(NAME)
    assert s3_folder.list("staging") == []

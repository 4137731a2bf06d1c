"""An S3 server that answers 500, 503, half, never, or does the work and loses the reply: in every step of a life."""

from __future__ import annotations

import io
import logging
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import zarr
from dask_annoy_fault_kills import fingerprint
from dask_annoy_fault_life import CONTENTS, ROWS, RULES, STEPS, check_holds, opened, use_fresh_cache

from dask_annoy import AnnoyIndex, build_index
from dask_annoy.errors import CorruptIndexError, IndexNotFoundError
from dask_annoy.storage import IndexFolder, publish, put_if_absent
from dask_annoy.vectors import ZarrSource, open_source, patience
from dask_annoy.vectors.listing import list_files
from dask_annoy.vectors.stored_file import StoredFile

from .fault_proxy import FAULTS, KINDS, Fault, FaultProxy, Plan, Request, by_chance, nth

pytestmark = pytest.mark.timeout(200)


@pytest.fixture(scope="module")
def proxy(s3_options: dict[str, Any]) -> Iterator[FaultProxy]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # or moto's server writes a line a request
    made = FaultProxy(s3_options["endpoint_url"])
    yield made
    made.close()


@pytest.fixture(scope="module")
def _short_pauses() -> Iterator[None]:
    """Clients made from now on try again soon: how often is what matters here, not how long they pause (seconds)."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("botocore.retryhandler.delay_exponential", lambda *_, **__: 0.01)
        yield


@pytest.fixture
def folder(proxy: FaultProxy, s3: Any, tmp_path: Path, _short_pauses: None) -> IndexFolder:
    """An empty index folder behind the proxy; its client waits less than a second for an answer."""
    use_fresh_cache(tmp_path / "cache")
    config = {"read_timeout": 0.4, "connect_timeout": 1, "retries": {"max_attempts": 2}}
    return IndexFolder(f"{s3.url}/index", s3.options | {"endpoint_url": proxy.url, "config_kwargs": config})


@pytest.fixture
def reference(folder: IndexFolder, s3_options: dict[str, Any]) -> IndexFolder:
    """The same folder without the proxy."""
    return IndexFolder(folder.url, s3_options)


def live(folder: IndexFolder, reference: IndexFolder, proxy: FaultProxy, plan: Callable[[str], Plan]) -> list[str]:
    """Take all steps under plans of faults. Return the errors; after one, the step is taken again without faults.

    Raises AssertionError if something half-done is seen, is missing, or has other bytes than an undisturbed run's.
    """
    errors = []
    names = list(STEPS)
    for place, step in enumerate(names):
        with proxy.breaking(plan(step)):
            try:
                STEPS[step](folder, False)
            except CorruptIndexError as error:
                raise AssertionError("a fault on the way was taken for a damaged file") from error
            except Exception as error:
                errors.append(f"{step}: {type(error).__name__}: {error}")
        try:
            index = opened(reference, False)
        except IndexNotFoundError:
            assert step == "build"
        else:
            assert index.version in (place, place + 1)
            check_holds(index, CONTENTS[names[index.version - 1]])
        if errors and errors[-1].startswith(f"{step}: "):
            STEPS[step](folder, False)
        check_holds(opened(reference, False), CONTENTS[step])
    return errors


def first_of_each_kind(fault: Fault, times: int = 1) -> Plan:
    """The first request of each kind fails."""
    plans = [nth(kind, 0, fault, times) for kind in KINDS]
    return lambda request: next((found for plan in plans if (found := plan(request))), None)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_each_kind_of_request_in_each_step_is_got_over(
    folder: IndexFolder, proxy: FaultProxy, reference: IndexFolder, fault: Fault, lives: dict[str, Path], is_full: bool
) -> None:
    if not is_full:
        pytest.skip("runs with --faults=full")
    assert live(folder, reference, proxy, lambda _: first_of_each_kind(fault)) == []
    assert fingerprint(opened(reference, False)) == fingerprint(opened(IndexFolder(str(lives["gc"])), False))


@pytest.mark.parametrize("seed", range(4))
def test_faults_by_chance_lose_nothing(
    folder: IndexFolder, proxy: FaultProxy, reference: IndexFolder, seed: int, is_full: bool
) -> None:
    if seed and not is_full:
        pytest.skip("runs with --faults=full")
    names = list(STEPS)
    live(folder, reference, proxy, lambda step: by_chance(seed * len(names) + names.index(step), 0.08))


@pytest.mark.parametrize(
    ("kind", "fault"), [*((kind, "503") for kind in KINDS), ("read", "half"), ("read", "silence"), ("publish", "lost")]
)
def test_a_fault_without_end_is_an_error_and_the_same_command_finishes_later(
    folder: IndexFolder, proxy: FaultProxy, reference: IndexFolder, kind: str, fault: Fault, is_full: bool,
    monkeypatch: Any,
) -> None:  # fmt: skip
    if not is_full and (kind, fault) not in {("read", "half"), ("publish", "503")}:
        pytest.skip("runs with --faults=full")
    monkeypatch.setattr(publish, "_FIRST_PAUSE", 0.01)
    STEPS["build"](folder, False)
    if fault == "silence":
        monkeypatch.setattr(patience, "PATIENCE", 3.0)  # s3fs and its client would ask 75 times
    with proxy.breaking(nth(kind, 2, fault, times=10**6)):
        error = None
        try:
            STEPS["append"](folder, False)
        except Exception as caught:
            error = caught
        assert not isinstance(error, CorruptIndexError)
        if fault == "silence":
            assert isinstance(error, TimeoutError)
            assert "no whole answer" in str(error)
    monkeypatch.undo()
    index = opened(reference, False)
    check_holds(index, CONTENTS["append" if index.version == 2 else "build"])
    check_holds(STEPS["append"](folder, False), CONTENTS["append"])


# No answer


ASKED: dict[str, Callable[[IndexFolder, Path], object]] = {
    "read_bytes": lambda folder, _: folder.read_bytes("a/file"),
    "size": lambda folder, _: folder.size("a/file"),
    "list": lambda folder, _: folder.list("a"),
    "files": lambda folder, _: folder.files("a"),
    "download": lambda folder, path: folder.download("a/file", path / "copy", size=10),
    "upload": lambda folder, path: folder.upload(path / "original", "a/file"),
    "write_bytes": lambda folder, _: folder.write_bytes("a/file", b"content"),
    "create": lambda folder, _: folder.create("a/file", b"content"),
    "put_if_absent": lambda folder, _: put_if_absent(folder, "a/file", b"content"),
    "delete": lambda folder, _: folder.delete(["a/file"]),
    "delete_tree": lambda folder, _: folder.delete_tree("a"),
    "source": lambda folder, _: StoredFile.look(folder.where("a/file"), folder.storage_options),
    "source_of_any_kind": lambda folder, _: open_source(folder.where("a"), storage_options=folder.storage_options),
    "files_of_a_folder": lambda folder, _: list_files(folder.where("a"), folder.storage_options, wanted=bool),
    "files_of_a_pattern": lambda folder, _: list_files(folder.where("a/*.npy"), folder.storage_options, wanted=bool),
    "zarr": lambda folder, _: ZarrSource(folder.where("a.zarr"), storage_options=folder.storage_options),
    "load": lambda folder, _: AnnoyIndex(2, "angular").load(
        folder.where("a.ann"), storage_options=folder.storage_options
    ),
    "save": lambda folder, _: small_forest().save(folder.where("a.ann"), storage_options=folder.storage_options),
}


def small_forest() -> AnnoyIndex:
    forest = AnnoyIndex(2, "angular")
    forest.add_item(0, [0.0, 1.0])
    forest.build(1)
    return forest


@pytest.mark.parametrize("what", ASKED)
def test_a_server_that_never_answers_is_an_error_that_names_what_was_asked_for(
    what: str, s3_options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "PATIENCE", 0.3)
    (tmp_path / "original").write_bytes(b"content")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        folder = IndexFolder("s3://bucket/index", s3_options | {"endpoint_url": endpoint})
        with pytest.raises(TimeoutError, match=r"s3://bucket/index.*: no whole answer from the server") as caught:
            ASKED[what](folder, tmp_path)
    assert s3_options["secret"] not in str(caught.value)
    assert not (tmp_path / "copy").exists()


def test_a_body_that_stops_is_an_error_of_reading_a_source(
    folder: IndexFolder, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write_bytes("rows", bytes(1000))
    with StoredFile.look(folder.where("rows"), folder.storage_options).open() as file:
        monkeypatch.setattr(patience, "PATIENCE", 0.3)
        with (
            proxy.breaking(nth("read", 0, "silence", times=10**6)),
            pytest.raises(TimeoutError, match="/rows: no whole answer"),
        ):
            file.read(0, 1000)
        monkeypatch.undo()
        assert file.read(0, 1000) == bytes(1000)


def test_a_chunk_that_stops_is_an_error_of_reading_a_zarr_array(
    folder: IndexFolder, reference: IndexFolder, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = reference.where("rows.zarr")
    made = zarr.create_array(url, shape=(60, 8), chunks=(20, 8), dtype="f4", storage_options=reference.storage_options)
    made[:] = ROWS[:60]
    source = ZarrSource(url, storage_options=folder.storage_options)
    chunk = "rows.zarr/c/1/0"
    with monkeypatch.context() as patched:
        patched.setattr(patience, "PATIENCE", 1.0)
        with (
            proxy.breaking(lambda request: "silence" if chunk in request.path else None),
            pytest.raises(TimeoutError, match=f"{chunk}: no whole answer"),
        ):
            list(source.blocks(max_bytes=2000))
    np.testing.assert_array_equal(np.concatenate([rows for _, rows in source.blocks(max_bytes=2000)]), ROWS[:60])


def test_a_repair_gives_up_nothing_because_the_server_of_its_source_is_silent(
    folder: IndexFolder, proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = io.BytesIO()
    np.save(file, ROWS[:120])
    folder.write_bytes("rows.npy", file.getvalue())
    options = {"source_options": folder.storage_options}
    index = build_index(folder.where("rows.npy"), tmp_path / "index", **RULES, **options, client=False)
    (tmp_path / "index" / "shards" / index.manifest.shards[1].uuid / "forest.ann").unlink()
    with monkeypatch.context() as patched, proxy.breaking(lambda _: "silence"):
        patched.setattr(patience, "PATIENCE", 0.3)
        with pytest.raises(TimeoutError, match="no whole answer"):
            index.repair(drop=True, **options)
    assert opened(IndexFolder(index.url), False).version == 1
    report = index.repair(drop=True, **options)
    assert ([shard.slot for shard in report.mended], report.lost) == ([1], ())
    check_holds(report.index, {row: row for row in range(120)})


# Publishing


def test_a_lost_reply_to_our_own_put_is_a_win(folder: IndexFolder, proxy: FaultProxy, reference: IndexFolder) -> None:
    assert put_if_absent(folder, "versions/before", b"so that the server is known")
    for fault in ("lost", "silence", "reset", "500", "503"):
        with proxy.breaking(nth("publish", 0, cast(Fault, fault))):
            assert put_if_absent(folder, f"versions/{fault}", b"ours " * 100)
            assert proxy.done == [("publish", fault)]
        assert reference.read_bytes(f"versions/{fault}") == b"ours " * 100


@pytest.mark.parametrize("fault", ["lost", "silence", "reset", "500", "503"])
def test_a_lost_reply_after_anothers_put_is_a_loss(
    folder: IndexFolder, proxy: FaultProxy, reference: IndexFolder, fault: Fault
) -> None:
    assert put_if_absent(folder, "versions/before", b"so that the server is known")
    once = nth("publish", 0, fault)

    def while_another_wins(request: Request) -> Fault | None:
        found = once(request)
        if found:
            reference.write_bytes("versions/next", b"theirs" * 100)
        return found

    with proxy.breaking(while_another_wins):
        assert not put_if_absent(folder, "versions/next", b"ours!!" * 100)
    assert reference.read_bytes("versions/next") == b"theirs" * 100


# Queries


@pytest.mark.parametrize("fault", FAULTS)
def test_queries_are_right_or_an_error_and_never_of_half_a_file(
    folder: IndexFolder, proxy: FaultProxy, fault: Fault, tmp_path: Path, is_full: bool
) -> None:
    if not is_full and fault not in {"half", "reset"}:
        pytest.skip("runs with --faults=full")
    STEPS["build"](folder, False)
    use_fresh_cache(tmp_path / "fresh")
    with proxy.breaking(first_of_each_kind(fault)):
        check_holds(opened(folder, False), CONTENTS["build"])
    assert proxy.done


def test_a_file_that_only_ever_comes_in_half_is_an_error_and_nothing_of_it_stays(
    folder: IndexFolder, proxy: FaultProxy, tmp_path: Path
) -> None:
    STEPS["build"](folder, False)
    use_fresh_cache(tmp_path / "fresh")
    index = opened(folder, False)
    only_half = nth("read", 0, "half", times=10**6)
    with proxy.breaking(only_half), pytest.raises(OSError, match="ClientPayloadError") as caught:
        check_holds(index, CONTENTS["build"])
    assert not isinstance(caught.value, CorruptIndexError)
    assert not [path for path in (tmp_path / "fresh").rglob("*") if path.is_file() and path.suffix != ".lock"]
    check_holds(index, CONTENTS["build"])

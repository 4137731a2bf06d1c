"""What was killed is finished by running it again: only what is missing is made, and what is found is verified.

The processes are real, and killed with SIGKILL while they halt at a chosen point.
"""

from __future__ import annotations

import datetime
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
from click.testing import CliRunner
from dask_annoy_test_halting import SHARD_ROWS, TREES
from dask_annoy_test_rows import FailingOnce
from numpy.typing import NDArray

from dask_annoy import ShardedIndex, build_index, open_index, plan_index
from dask_annoy.cli import annoy
from dask_annoy.errors import (
    IndexExistsError,
    IndexNotFoundError,
    InvalidIdsError,
    InvalidVectorsError,
    UnfinishedBuildWarning,
)
from dask_annoy.planning import plan as plan_module
from dask_annoy.shard import read_receipts
from dask_annoy.storage import IndexFolder
from dask_annoy.storage.document import sealed
from dask_annoy.vectors.flat_rows import FlatRows
from dask_annoy.vectors.stored_file import ByteReader

from .conftest import fingerprint

OPTIONS: dict[str, Any] = {"shard_rows": SHARD_ROWS, "n_trees": TREES}
PROGRAM = Path(__file__).with_name("importable") / "dask_annoy_test_halting.py"


@pytest.fixture(scope="module")
def undisturbed(npy: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return fingerprint(build_index(npy, tmp_path_factory.mktemp("undisturbed"), **OPTIONS, client=False))


@pytest.fixture(params=["local", "s3"])
def url_and_options(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, dict[str, Any]]:
    """An empty place for an index: on S3 for builds, and with --faults=full for all."""
    if request.param == "local":
        return str(tmp_path / "index"), {}
    if request.config.getoption("--faults") == "short" and "a_killed_build" not in request.node.name:
        pytest.skip("on S3 with --faults=full")
    bucket = request.getfixturevalue("s3")
    return f"{bucket.url}/index", bucket.options


def kill_at(point: str, count: int, tmp_path: Path, *arguments: object) -> None:
    """Start the program, wait until it halts at the point, and kill it."""
    told = tmp_path / f"told {point} {count}"
    process = subprocess.Popen(
        [sys.executable, "-P", PROGRAM, point, str(count), told, *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        while not told.exists() and process.poll() is None:  # pytest-timeout ends what never comes true
            time.sleep(0.01)
        ended = process.poll()
    finally:
        with suppress(ProcessLookupError):  # it has failed: its output says how
            os.killpg(process.pid, signal.SIGKILL)
        output = process.communicate()[0]
    assert ended is None, output
    assert process.returncode == -signal.SIGKILL


def command(name: str, *arguments: object, options: dict[str, Any]) -> list[str]:
    storage = ["--storage-options", json.dumps(options)] if options else []
    return [name, *map(str, arguments), *storage, "-q"]


def run(*arguments: str) -> str:
    done = CliRunner().invoke(annoy, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def receipts(url: str, options: dict[str, Any]) -> dict[str, list[str]]:
    """The uuids of shards that have a receipt, by build and slot."""
    found: dict[str, list[str]] = {}
    for file in IndexFolder(url, options).files("builds"):
        build, name = file.name.split("/")[1:]
        if name[0].isdigit():
            found.setdefault(f"{build[:4]} {name.split('.')[0]}", []).append(name.split(".")[1])
    return found


def flat(found: dict[str, list[str]]) -> set[str]:
    return {uuid for uuids in found.values() for uuid in uuids}


def used(index: ShardedIndex) -> set[str]:
    return {shard.uuid for shard in index.manifest.shards}


# Builds


@pytest.mark.parametrize(
    ("point", "count", "finished"),
    [
        ("a shard is half uploaded", 2, 0),
        ("a receipt is about to be written", 1, 0),
        ("a receipt is written", 3, 3),
        ("the commit is near", 1, 8),
    ],
)
def test_a_killed_build_is_finished_by_the_same_command(
    npy: Path, tmp_path: Path, url_and_options: Any, point: str, count: int, finished: int, undisturbed: Any
) -> None:
    url, options = url_and_options
    build = command(
        "build", npy, url, "--shard-rows", SHARD_ROWS, "--n-trees", TREES, "--metric", "angular", options=options
    )
    kill_at(point, count, tmp_path, "annoy", *build)
    with pytest.raises(IndexNotFoundError):
        open_index(url, storage_options=options)
    before = receipts(url, options)
    assert len(before) == finished
    run(*build)
    index = open_index(url, storage_options=options)
    assert fingerprint(index) == undisturbed
    assert flat(before) <= used(index)  # what was done was not done again
    assert {len(attempts) for attempts in receipts(url, options).values()} == {1}
    assert index.verify("full").ok


def test_a_build_killed_after_its_commit_is_found_and_what_it_left_goes_with_gc(
    npy: Path, rows: Any, tmp_path: Path, undisturbed: Any
) -> None:
    url = tmp_path / "index"
    kill_at("the commit is done", 1, tmp_path, "collection", npy, url, "{}")
    standing = open_index(url, client=False)
    assert list(url.glob("staging/*/*.npy"))
    assert list(url.glob("work/*.json"))
    index = build_index(da.from_array(rows, chunks=(400, 16)), url, **OPTIONS, client=False)
    assert index.manifest == standing.manifest
    assert fingerprint(index) == undisturbed
    garbage = index.gc(older_than=datetime.timedelta(0), dry_run=False)
    assert garbage.versions == ()
    assert not list(url.glob("staging/*/*"))
    assert index.verify("full").ok


@pytest.mark.parametrize("form", ["array", "collection", "cluster"])
def test_rows_from_memory_go_on_too_by_their_content(
    npy: Path, rows: Any, tmp_path: Path, url_and_options: Any, form: str, undisturbed: Any, process_client: Any
) -> None:
    url, options = url_and_options
    # On the cluster the tasks are in other processes; the coordinator is killed, and its workers with it.
    point, count, least = ("the commit is near", 1, 8) if form == "cluster" else ("a receipt is written", 2, 2)
    kill_at(point, count, tmp_path, form, npy, url, json.dumps(options))
    before = receipts(url, options)
    assert len(before) == least
    # Chunked in another way, in another interpreter: Dask's tokens would tell the two apart.
    again = rows if form == "array" else da.from_array(rows.copy(), chunks=(170, 5))
    client = False if form == "collection" else process_client
    index = build_index(again, url, **OPTIONS, storage_options=options, client=client)
    assert fingerprint(index) == undisturbed
    assert flat(before) <= used(index)


def test_a_build_killed_in_staging_is_finished(npy: Path, rows: Any, tmp_path: Path, undisturbed: Any) -> None:
    url = tmp_path / "index"
    kill_at("a part is staged", 3, tmp_path, "collection", npy, url, "{}")
    assert list(url.glob("staging/*/*.npy"))
    assert not list(url.glob("builds/*"))
    index = build_index(da.from_array(rows, chunks=(400, 16)), url, **OPTIONS, client=False)
    assert fingerprint(index) == undisturbed


@pytest.fixture
def halfway(npy: Path, tmp_path: Path, url_and_options: Any) -> Callable[[], ShardedIndex]:
    """A build that has failed in its last slot, and how to repeat it."""
    url, options = url_and_options
    trouble = tmp_path / "trouble"
    trouble.touch()
    source = FailingOnce(npy, 1999, trouble, RuntimeError("no luck"))
    with pytest.raises(RuntimeError):
        build_index(source, url, **OPTIONS, storage_options=options, client=False)
    trouble.unlink()
    return lambda: build_index(source, url, **OPTIONS, storage_options=options, client=False)


@pytest.mark.parametrize(
    ("harm", "name"), [("a bit flipped", "forest.ann"), ("cut", "cells.bin"), ("missing", "ids.run-items.npy")]
)
def test_a_receipt_whose_files_are_damaged_is_not_believed(
    halfway: Any, url_and_options: Any, undisturbed: Any, harm: str, name: str
) -> None:
    url, options = url_and_options
    before = receipts(url, options)
    assert 0 < len(before) < 8
    folder, victim = IndexFolder(url, options), min(flat(before))
    file = f"shards/{victim}/{name}"
    payload = bytearray(folder.read_bytes(file))
    folder.delete([file])
    if harm == "a bit flipped":
        payload[len(payload) // 2] ^= 8
    if harm != "missing":
        folder.write_bytes(file, bytes(payload[:-3] if harm == "cut" else payload))
    index = halfway()
    assert fingerprint(index) == undisturbed
    assert used(index) & flat(before) == flat(before) - {victim}
    assert index.verify("full").ok


def test_the_same_content_in_the_cache_does_not_speak_for_a_damaged_file(
    npy: Path, rows: Any, tmp_path: Path, s3: Any, undisturbed: Any
) -> None:
    options = {**OPTIONS, "storage_options": s3.options, "source_options": {}, "client": False}
    build_index(npy, f"{s3.url}/other", **options).query(rows[:3])  # the same bytes: they are in the cache now
    url = f"{s3.url}/index"
    arguments = ("--shard-rows", SHARD_ROWS, "--n-trees", TREES)
    kill_at("the commit is near", 1, tmp_path, "annoy", *command("build", npy, url, *arguments, options=s3.options))
    folder, victim = IndexFolder(url, s3.options), min(flat(receipts(url, s3.options)))
    payload = bytearray(folder.read_bytes(f"shards/{victim}/forest.ann"))
    payload[99] ^= 1
    folder.write_bytes(f"shards/{victim}/forest.ann", bytes(payload))
    index = build_index(npy, url, **options)
    assert victim not in used(index)
    assert fingerprint(index) == undisturbed


def test_a_forged_receipt_is_not_believed(npy: Path, tmp_path: Path, undisturbed: Any) -> None:
    url = tmp_path / "index"
    kill_at("the commit is near", 1, tmp_path, "annoy", *command(
        "build", npy, url, "--shard-rows", SHARD_ROWS, "--n-trees", TREES, options={}))  # fmt: skip
    first, second, *_ = sorted(url.glob("builds/*/[0-9]*.json"))
    slot, other = (int(path.name.split(".")[0]) for path in (first, second))
    receipt = read_receipts(IndexFolder(str(url)), first.parent.name)[other]
    entry = receipt.entry.model_copy(update={"slot": slot})  # sound files, of other rows
    first.write_bytes(sealed(receipt.model_copy(update={"entry": entry})))
    assert fingerprint(build_index(npy, url, **OPTIONS, client=False)) == undisturbed


def test_receipts_of_another_builder_version_are_not_used(
    halfway: Any, url_and_options: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = receipts(*url_and_options)
    monkeypatch.setattr(plan_module, "BUILDER_VERSION", plan_module.BUILDER_VERSION + 1)
    with pytest.warns(UnfinishedBuildWarning, match=r"the builder's version was \d+ and is \d+"):
        index = halfway()
    assert not used(index) & flat(before)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 5}, "seed was 0 and is 5"),
        ({"n_trees": 3}, "n_trees was 4 and is 3"),
        ({"shard_rows": 600}, "shard_rows was 250 and is 600"),
        ({"metric": "euclidean"}, "metric was angular and is euclidean"),
        ({"target_recall": 0.8}, r"target_recall was 0\.9 and is 0\.8"),
        ({"ids": np.arange(2000) + 7}, "the ids of the input changed|the number of row numbers of the ids"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_changed_parameter_is_named(npy: Path, tmp_path: Path, change: dict[str, Any], named: str) -> None:
    url = tmp_path / "index"
    trouble = tmp_path / "trouble"
    trouble.touch()
    with pytest.raises(RuntimeError):
        build_index(FailingOnce(npy, 1999, trouble, RuntimeError("no luck")), url, **OPTIONS, client=False)
    with pytest.warns(UnfinishedBuildWarning, match=named) as caught:
        build_index(npy, url, **OPTIONS | change, client=False)
    assert "of its 8 shards, is not continued" in str(caught[0].message)
    with pytest.raises(IndexExistsError, match=r"was \d|was [a-z]|changed"):
        build_index(npy, url, **OPTIONS, client=False)


def test_a_changed_input_is_named(rows: NDArray[np.float32], tmp_path: Path) -> None:
    url, file = tmp_path / "index", tmp_path / "rows.npy"
    np.save(file, rows)
    build = command("build", file, url, "--shard-rows", SHARD_ROWS, "--n-trees", TREES, options={})
    kill_at("a receipt is written", 2, tmp_path, "annoy", *build)
    np.save(file, rows[::-1])
    told = run(*build)
    assert "Note: an unfinished build of" in told
    assert "the version (checksum, etag or time) of the vectors was mtime_ns:" in told
    assert "2 of its 8 shards" in told
    np.save(file, rows[:1500])
    refused = CliRunner().invoke(annoy, build)
    assert refused.exit_code == 1
    assert "n_rows was 2000 and is 1500" in refused.output


def test_an_input_that_changes_while_a_shard_reads_it_gets_no_receipt_for_what_was_mixed(
    rows: NDArray[np.float32], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, file = tmp_path / "index", tmp_path / "rows.npy"
    np.save(file, rows)
    os.utime(file, (1e9, 1e9))
    read, changed = FlatRows._read, threading.Event()

    def reading(table: FlatRows, reader: ByteReader, first: int, stop: int) -> Any:
        block = read(table, reader, first, stop)
        if not changed.is_set():
            changed.set()
            np.save(file, rows[::-1])
        return block

    with monkeypatch.context() as patched:
        patched.setattr(FlatRows, "_read", reading)
        with pytest.raises(InvalidVectorsError, match=r"rows\.npy has changed since it was looked at"):
            build_index(file, url, **OPTIONS, client=False)
    assert receipts(str(url), {}) == {}
    with pytest.raises(IndexNotFoundError):
        open_index(url)


def test_the_same_build_in_two_processes_at_once_gives_one_version(npy: Path, tmp_path: Path, undisturbed: Any) -> None:
    url = tmp_path / "index"
    build = command("build", npy, url, "--shard-rows", SHARD_ROWS, "--n-trees", TREES, options={})
    processes = [
        subprocess.Popen([sys.executable, "-P", "-m", "dask", "annoy", *build], stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in processes:
        errors = process.communicate()[1]
        assert process.returncode == 0, errors
    assert [path.name for path in url.glob("versions/*")] == ["00000000000000000001.json"]
    assert fingerprint(open_index(url, client=False)) == undisturbed


def test_a_plan_says_the_build_id_that_the_build_will_have(
    npy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(npy.parent)
    planned = plan_index(npy.name, **OPTIONS, client=False)
    assert planned.build_id == build_index(npy, tmp_path, **OPTIONS, client=False).manifest.build_id


# Appends


@pytest.fixture
def more(rows: Any, tmp_path: Path) -> Path:
    """A file of the rows from 1,000 on, and beside it one of ids."""
    np.save(tmp_path / "ids.npy", np.arange(5000, 6000))
    np.save(tmp_path / "more.npy", rows[1000:])
    return tmp_path / "more.npy"


@pytest.mark.parametrize(("point", "count", "finished"), [("a receipt is written", 2, 2), ("the commit is near", 1, 4)])
def test_a_killed_append_is_finished_by_the_same_command(
    more: Path, rows: Any, tmp_path: Path, url_and_options: Any, point: str, count: int, finished: int
) -> None:
    url, options = url_and_options
    build_index(rows[:1000], url, **OPTIONS, storage_options=options, client=False)
    expected = build_index(rows[:1000], tmp_path / "other", **OPTIONS, client=False).append(more)
    before = flat(receipts(url, options))
    append = command("append", more, url, options=options)
    kill_at(point, count, tmp_path, "annoy", *append)
    done = flat(receipts(url, options)) - before
    assert (len(done), open_index(url, storage_options=options).version) == (finished, 1)
    run(*append)
    index = open_index(url, storage_options=options, client=False)
    assert fingerprint(index) == fingerprint(expected)
    assert done <= used(index)
    assert (len(index), index.version) == (2000, 2)


def test_an_append_killed_after_its_commit_is_not_done_twice(more: Path, rows: Any, tmp_path: Path) -> None:
    url = tmp_path / "index"
    build_index(rows[:1000], url, **OPTIONS, client=False)
    kill_at("the commit is done", 1, tmp_path, "annoy", "append", more, url, "-q")
    assert "nothing to change: version 2" in run("append", str(more), str(url), "-q")
    assert len(open_index(url, client=False)) == 2000


def test_a_killed_append_goes_on_though_others_have_changed_the_index(more: Path, rows: Any, tmp_path: Path) -> None:
    url, ids = tmp_path / "index", tmp_path / "ids.npy"
    build_index(rows[:1000], url, **OPTIONS, client=False)
    before = flat(receipts(str(url), {}))
    kill_at("a receipt is written", 2, tmp_path, "annoy", "append", more, url, "--ids", ids, "-q")
    done = flat(receipts(str(url), {})) - before
    open_index(url, client=False).delete([3, 4])
    run("append", str(more), str(url), "--ids", str(ids), "-q")
    index = open_index(url, client=False)
    assert (len(done), len(index), index.version) == (2, 1998, 3)
    assert done <= used(index)


def test_the_same_append_twice_at_the_same_time_is_one(rows: Any, tmp_path: Path) -> None:
    index = build_index(rows[:500], tmp_path, **OPTIONS, client=False)
    for kind in ("raise", "keep", "replace"):
        number = index.manifest.totals.items
        ids, barrier = np.arange(300) + 10_000 + number, threading.Barrier(3)

        def append(_: int, index: Any = index, kind: Any = kind, ids: Any = ids, barrier: Any = barrier) -> Any:
            barrier.wait()
            return index.append(rows[500:800], ids, on_duplicate=kind)

        with ThreadPoolExecutor(3) as pool:
            made = list(pool.map(append, range(3)))
        index = open_index(tmp_path, client=False)
        assert len(index) == number + 300
        assert {one.version for one in made} == {index.version}
        assert index.verify("full").ok


def test_an_append_that_was_undone_can_be_done_again(rows: Any, tmp_path: Path) -> None:
    ids = np.arange(300) + 10_000
    index = build_index(rows[:500], tmp_path, **OPTIONS, client=False).append(rows[500:800], ids)
    again = index.delete(ids).append(rows[500:800], ids)  # the shards of the first append are still named, all deleted
    assert (len(again), again.version) == (800, 4)
    assert again.verify("full").ok
    made = receipts(str(tmp_path), {})
    back = again.rollback(1).append(rows[500:800], ids)  # and here they are not: they are used again
    assert len(back) == 800
    assert receipts(str(tmp_path), {}) == made
    assert used(index) & used(back) >= used(open_index(tmp_path, version=1, client=False))
    with pytest.raises(InvalidIdsError, match="are in the index"):
        back.delete([1]).append(rows[500:800], ids)


# Compactions and copies


def test_a_killed_compaction_is_finished_by_the_same_command(rows: Any, tmp_path: Path, url_and_options: Any) -> None:
    url, options = url_and_options
    for place, storage in ((url, options), (str(tmp_path / "other"), {})):
        index = build_index(rows[:1000], place, **OPTIONS, storage_options=storage, client=False)
        index = index.delete(np.arange(0, 1000, 3))
    undisturbed = index.compact()
    before = flat(receipts(url, options))
    compact = command("compact", url, options=options)
    kill_at("a receipt is written", 1, tmp_path, "annoy", *compact)
    done = flat(receipts(url, options)) - before
    assert len(done) == 1
    kill_at("the commit is near", 1, tmp_path, "annoy", *compact)
    assert len(flat(receipts(url, options)) - before) == undisturbed.n_shards
    run(*compact)
    index = open_index(url, storage_options=options, client=False)
    assert fingerprint(index) == fingerprint(undisturbed)
    assert done <= used(index)
    assert "nothing to change" in run(*compact)


def test_a_compaction_goes_on_though_its_sample_is_damaged(rows: Any, tmp_path: Path) -> None:
    url = tmp_path / "index"
    index = build_index(rows[:1000], url, **OPTIONS, client=False).delete(np.arange(0, 1000, 2))
    kill_at("the commit is near", 1, tmp_path, "annoy", "compact", url, "-q")
    for path in url.glob("builds/*/sample.npy"):
        path.write_bytes(path.read_bytes()[:-9])
    assert len(index.compact()) == 500


def test_the_same_compaction_twice_at_the_same_time_is_one(rows: Any, tmp_path: Path) -> None:
    index = build_index(rows[:1000], tmp_path, **OPTIONS, client=False).delete(np.arange(0, 1000, 2))
    barrier = threading.Barrier(2)

    def compact(_: int) -> Any:
        barrier.wait()
        return index.compact()

    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(compact, range(2)))
    assert [one.version for one in made] == [3, 3]
    assert len(made[0]) == 500


@pytest.mark.parametrize(("point", "finished"), [("a shard is copied", 2), ("the commit is near", 4)])
def test_a_killed_copy_goes_on(rows: Any, tmp_path: Path, url_and_options: Any, point: str, finished: int) -> None:
    target, options = url_and_options
    source = tmp_path / "source"
    index = build_index(rows[:1000], source, **OPTIONS, client=False).delete([1, 500])
    copy = ["copy", str(source), target, "-q", *(["--target-options", json.dumps(options)] if options else [])]
    kill_at(point, 2 if finished == 2 else 1, tmp_path, "annoy", *copy)
    before = receipts(target, options)
    assert len(before) == finished
    with pytest.raises(IndexNotFoundError):
        open_index(target, storage_options=options)
    folder, victim = IndexFolder(target, options), min(flat(before))
    file = f"shards/{victim}/forest.ann"
    payload = bytearray(folder.read_bytes(file))
    payload[77] ^= 1
    folder.write_bytes(file, bytes(payload))
    run(*copy)
    copied = open_index(target, storage_options=options)
    assert flat(before) - used(copied) == {victim}
    assert [shard.files for shard in copied.manifest.shards] == [shard.files for shard in index.manifest.shards]
    assert (len(copied), copied.version) == (998, 1)
    assert copied.verify("full").ok
    files = len(folder.files())
    run(*copy)  # done already
    assert (open_index(target, storage_options=options).version, len(folder.files())) == (1, files)
    index.append(rows[1000:1100])
    refused = CliRunner().invoke(annoy, copy)  # what would be copied now is another version
    assert "holds an index already" in refused.output

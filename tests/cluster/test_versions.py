"""A build is continued, found again, or refused; a version is there whole or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
from dask_annoy_test_rows import FailingOnce, Halting
from distributed import Client, LocalCluster

from dask_annoy import build_index, open_index
from dask_annoy.cluster.staging import stage_block, staging_for
from dask_annoy.errors import (
    CommitConflictError,
    IndexExistsError,
    IndexNotFoundError,
    InvalidIdsError,
    InvalidVectorsError,
    UnfinishedBuildWarning,
)
from dask_annoy.storage import IndexFolder

from .conftest import TREES, fingerprint, names_below

OPTIONS: dict[str, Any] = {"shard_rows": 250, "n_trees": TREES}


@pytest.fixture(scope="module")
def undisturbed(npy: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return fingerprint(build_index(npy, tmp_path_factory.mktemp("undisturbed"), **OPTIONS, client=False))


def wait_until(condition: Callable[[], bool]) -> None:
    while not condition():  # pytest-timeout ends what never comes true
        time.sleep(0.01)


def test_the_same_build_again_returns_the_version_and_builds_nothing(npy: Path, tmp_path: Path, client: Any) -> None:
    first = build_index(npy, tmp_path, **OPTIONS, client=client)
    before = names_below(tmp_path)
    again = build_index(npy, tmp_path, **OPTIONS, client=client)
    assert again.manifest == first.manifest
    assert names_below(tmp_path) == before
    again = build_index(npy, tmp_path, **OPTIONS, overwrite=True, client=client)
    assert (again.manifest, names_below(tmp_path)) == (first.manifest, before)


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"n_trees": 3}, {"metric": "euclidean"}, {"ids": range(1, 2001)}], ids=str
)
def test_another_build_is_refused_and_changes_nothing(npy: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    build_index(npy, tmp_path, **OPTIONS, client=False)
    before = names_below(tmp_path)
    with pytest.raises(IndexExistsError, match=r"version 1 of another index.*overwrite=True"):
        build_index(npy, tmp_path, **{**OPTIONS, **change}, client=False)
    assert names_below(tmp_path) == before


def test_overwriting_commits_a_version_beside_the_old_one(npy: Path, rows: Any, tmp_path: Path, client: Any) -> None:
    old = build_index(npy, tmp_path, **OPTIONS, client=client)
    answers = old.query(rows[:10], k=3)
    before = {name: (tmp_path / name).read_bytes() for name in names_below(tmp_path)}
    new = build_index(rows[:500], tmp_path, **OPTIONS, overwrite=True, client=client)
    assert (new.version, new.manifest.parent, new.manifest.index_id) == (2, 1, old.manifest.index_id)
    assert len(open_index(tmp_path, client=client)) == 500
    first = open_index(tmp_path, version=1, client=client)
    assert first.manifest == old.manifest
    np.testing.assert_array_equal(first.query(rows[:10], k=3).ids, answers.ids)
    assert all((tmp_path / name).read_bytes() == payload for name, payload in before.items())
    third = build_index(npy, tmp_path, **OPTIONS, overwrite=True, client=client)  # back, with the shards that are there
    assert third.version == 3
    assert third.manifest.shards == old.manifest.shards


def test_what_is_not_there_is_said_so(tmp_path: Path, npy: Path) -> None:
    with pytest.raises(IndexNotFoundError, match="no index at"):
        open_index(tmp_path)
    build_index(npy, tmp_path, client=False)
    with pytest.raises(IndexNotFoundError, match="no version 7"):
        open_index(tmp_path, version=7)


@pytest.mark.parametrize("error", [OSError("the disk is gone"), KeyboardInterrupt()], ids=["error", "ctrl-c"])
def test_an_interrupted_build_goes_on_with_the_missing_slots(
    npy: Path, tmp_path: Path, error: BaseException, undisturbed: Any
) -> None:
    trouble = tmp_path / "trouble"
    trouble.touch()
    url = tmp_path / "index"
    source = FailingOnce(npy, 1700, trouble, error)
    with pytest.raises(type(error)):
        build_index(source, url, **OPTIONS, client=False)
    assert not (url / "versions").exists()
    finished = {path.name: path.stat().st_mtime_ns for path in url.glob("shards/*")}
    receipts = {path.name for path in url.glob("builds/*/[0-9]*.json")}
    assert 0 < len(receipts) < 8
    trouble.unlink()
    index = build_index(source, url, **OPTIONS, client=False)
    assert fingerprint(index) == undisturbed
    used = {shard.uuid for shard in index.manifest.shards}
    assert {name.split(".")[1] for name in receipts} <= used  # what was done was not done again
    assert all((url / "shards" / name).stat().st_mtime_ns == changed for name, changed in finished.items())


def test_a_build_that_failed_on_a_cluster_goes_on(
    npy: Path, tmp_path: Path, process_client: Client, undisturbed: Any
) -> None:
    trouble = tmp_path / "trouble"
    trouble.touch()
    source = FailingOnce(npy, 1999, trouble, RuntimeError("no luck"))
    with pytest.raises(RuntimeError, match="no luck"):
        build_index(source, tmp_path / "index", **OPTIONS, client=process_client)
    trouble.unlink()
    index = build_index(source, tmp_path / "index", **OPTIONS, client=process_client)
    assert fingerprint(index) == undisturbed


def test_resume_false_builds_every_shard_anew(npy: Path, tmp_path: Path) -> None:
    trouble = tmp_path / "trouble"
    trouble.touch()
    source = FailingOnce(npy, 1999, trouble, RuntimeError("no luck"))
    with pytest.raises(RuntimeError):
        build_index(source, tmp_path / "index", **OPTIONS, client=False)
    old = {path.name for path in (tmp_path / "index").glob("shards/*")}
    assert old
    trouble.unlink()
    index = build_index(source, tmp_path / "index", **OPTIONS, resume=False, client=False)
    assert old.isdisjoint(shard.uuid for shard in index.manifest.shards)


def test_a_shard_that_was_damaged_between_two_runs_is_built_again(
    npy: Path, tmp_path: Path, undisturbed: Any, rows: Any
) -> None:
    trouble = tmp_path / "trouble"
    trouble.touch()
    url = tmp_path / "index"
    source = FailingOnce(npy, 1999, trouble, RuntimeError("no luck"))
    with pytest.raises(RuntimeError):
        build_index(source, url, **OPTIONS, client=False)
    cut = next(iter(url.glob("shards/*/forest.ann")))
    cut.write_bytes(cut.read_bytes()[:-5])
    trouble.unlink()
    index = build_index(source, url, **OPTIONS, client=False)
    assert fingerprint(index) == undisturbed
    assert cut.parent.name not in {shard.uuid for shard in index.manifest.shards}


_BUILD = """
    import sys
    sys.path.append(sys.argv[1])
    from pathlib import Path
    from dask_annoy import build_index
    from dask_annoy_test_rows import Halting
    source = Halting(Path(sys.argv[2]), 1999, Path(sys.argv[4]), Path(sys.argv[5]))
    build_index(source, sys.argv[3], shard_rows=250, n_trees=4, client=False)
"""


def test_a_build_whose_whole_process_was_killed_goes_on(npy: Path, tmp_path: Path, undisturbed: Any) -> None:
    url, told, go = tmp_path / "index", tmp_path / "told", tmp_path / "go"
    told.mkdir()
    importable = str(Path(__file__).with_name("importable"))
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_BUILD), importable, npy, url, told, go], cwd=tmp_path
    )
    wait_until(lambda: any(told.iterdir()) or process.poll() is not None)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done = {path.name.split(".")[1] for path in url.glob("builds/*/[0-9]*.json")}
    with pytest.raises(IndexNotFoundError):
        open_index(url)
    index = build_index(npy, url, **OPTIONS, client=False)
    assert fingerprint(index) == undisturbed
    assert done <= {shard.uuid for shard in index.manifest.shards}


def test_a_worker_killed_in_the_middle_of_a_build_costs_time_only(
    npy: Path, tmp_path: Path, undisturbed: Any, rows: Any
) -> None:
    told, go = tmp_path / "told", tmp_path / "go"
    told.mkdir()
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        pids = set(client.run(os.getpid).values())

        def kill() -> None:
            wait_until(lambda: any(told.iterdir()))
            victim = int(next(iter(told.iterdir())).name)
            assert victim in pids
            os.kill(victim, signal.SIGKILL)
            go.touch()

        with ThreadPoolExecutor(1) as pool:
            killing = pool.submit(kill)
            index = build_index(Halting(npy, 900, told, go), tmp_path / "index", **OPTIONS, client=client)
            killing.result()
        assert fingerprint(index) == undisturbed
        # And while it answers.
        expected = open_index(tmp_path / "index", client=False).query(rows, k=5)
        client.wait_for_workers(2)
        lazy = index.query(da.from_array(rows, chunks=100), k=5)
        future = client.compute(lazy.ids)
        victim = next(iter(client.run(os.getpid).values()))
        os.kill(victim, signal.SIGKILL)
        np.testing.assert_array_equal(index.query(rows, k=5).ids, expected.ids)
        np.testing.assert_array_equal(future.result(), expected.ids)


def test_two_equal_builds_at_once_both_succeed_with_one_version(rows: Any, tmp_path: Path) -> None:
    barrier = threading.Barrier(3)

    def build(_: int) -> Any:
        barrier.wait()
        return build_index(da.from_array(rows, chunks=500), tmp_path, **OPTIONS, client=False)

    with ThreadPoolExecutor(3) as pool:
        built = list(pool.map(build, range(3)))
    assert built[0].manifest == built[1].manifest == built[2].manifest
    assert len(list((tmp_path / "versions").iterdir())) == 1
    assert not list((tmp_path / "staging").rglob("*.npy"))


def test_what_another_writer_commits_meanwhile_is_not_built_upon(npy: Path, rows: Any, tmp_path: Path) -> None:
    told, go = tmp_path / "told", tmp_path / "go"
    told.mkdir()
    for overwrite in (False, True):
        slow = Halting(npy, 900, told, go)
        url = tmp_path / str(overwrite)
        with ThreadPoolExecutor(1) as pool:
            building = pool.submit(build_index, slow, url, **OPTIONS, overwrite=overwrite, client=False)
            wait_until(lambda building=building: any(told.iterdir()) or building.done())
            with pytest.warns(UnfinishedBuildWarning):  # of the one that runs
                other = build_index(rows[:300], url, client=False)
            go.touch()
            with pytest.raises(CommitConflictError, match="version 1"):
                building.result()
        assert open_index(url).manifest == other.manifest
        go.unlink()
        next(told.iterdir()).unlink()


def test_rows_and_ids_are_staged_no_longer_than_they_are_needed(rows: Any, tmp_path: Path, client: Any) -> None:
    seen = set()

    def watch(label: str, done: int, total: int) -> None:
        if label == "build":
            seen.update(path.name.split(".")[-2] for path in (tmp_path / "staging").rglob("*.npy"))

    ids = da.from_array(np.arange(2000), chunks=400)
    build_index(da.from_array(rows, chunks=400), tmp_path, ids=ids, **OPTIONS, client=client, progress=watch)
    assert seen == {"rows", "ids"}
    assert not list((tmp_path / "staging").rglob("*.npy"))


@pytest.mark.parametrize("trouble", ["vectors", "ids", "repeated ids"])
@pytest.mark.parametrize("chunk", [2000, 50])
def test_staging_is_removed_after_a_failure_too(
    rows: Any, tmp_path: Path, trouble: str, chunk: int, client: Any
) -> None:
    bad, ids = rows.copy(), np.arange(2000, dtype=object)
    if trouble == "vectors":
        bad[500, 3] = np.nan
    else:
        ids[500] = "x" if trouble == "ids" else 7
    with pytest.raises((InvalidVectorsError, InvalidIdsError)):
        build_index(
            da.from_array(bad, chunks=(chunk, 16)), tmp_path, ids=da.from_array(ids, chunks=chunk), **OPTIONS,
            client=client,
        )  # fmt: skip
    # On a cluster the tasks that were running then end later, and delete what they have written.
    wait_until(lambda: not list(tmp_path.glob("staging/*/*.npy")))
    assert not (tmp_path / "versions").exists()


def test_a_part_that_comes_too_late_deletes_itself(rows: Any, tmp_path: Path) -> None:
    staging = staging_for(IndexFolder(str(tmp_path)), "rows", "angular", 16, False)
    stage_block(staging, 0, 0, rows[:5])
    assert list(tmp_path.glob("staging/*/*.rows.npy"))
    staging.remove()
    with pytest.raises(FileNotFoundError, match="the build has ended"):
        stage_block(staging, 1, 5, rows[5:10], np.arange(5))
    assert not list(tmp_path.glob("staging/*/*"))


@pytest.mark.parametrize("form", ["numpy", "dask"])
@pytest.mark.parametrize("kind", ["int64", "string"])
@pytest.mark.parametrize("other", [1100, 10], ids=["across shards", "within a shard"])
def test_ids_given_twice_are_refused(rows: Any, tmp_path: Path, client: Any, form: str, kind: str, other: int) -> None:
    ids: Any = np.arange(2000)
    ids[other] = 3
    if kind == "string":
        ids = np.array([f"id {one}" for one in ids], object)
    vectors = rows if form == "numpy" else da.from_array(rows, chunks=300)
    given = ids if form == "numpy" else da.from_array(ids, chunks=450)
    for _ in range(2):  # also when the receipts of the first attempt are found
        with pytest.raises(InvalidIdsError, match=r"the id (3|'id 3') is given to more than one vector"):
            build_index(vectors, tmp_path, ids=given, shard_rows=1000, n_trees=2, client=client)
    assert not (tmp_path / "versions").exists()


def test_progress_is_told_from_nothing_to_all(rows: Any, tmp_path: Path, client: Any) -> None:
    told: dict[str, list[tuple[int, int]]] = {}
    build_index(
        da.from_array(rows, chunks=400), tmp_path, ids=np.arange(2000)[::-1], **OPTIONS, client=client,
        progress=lambda label, done, total: told.setdefault(label, []).append((done, total)),
    )  # fmt: skip
    assert list(told) == ["stage", "sample", "build", "ids"]
    for steps in told.values():
        assert steps[0][0] == 0
        assert steps[-1][0] == steps[-1][1]
        assert [done for done, _ in steps] == sorted(done for done, _ in steps)
        assert len({total for _, total in steps}) == 1
    assert told["build"][-1] == (2000, 2000)

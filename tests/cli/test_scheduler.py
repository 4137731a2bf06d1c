from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from distributed import LocalCluster

from dask_annoy import open_index


@pytest.fixture(scope="module")
def one_worker() -> Iterator[LocalCluster]:
    with LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, protocol="tcp", dashboard_address=":0"
    ) as cluster:
        yield cluster


def tasks_of(one_worker: LocalCluster, label: str) -> int:
    """How many tasks of a kind the scheduler has seen finished."""
    return len({entry[0] for entry in one_worker.scheduler.transition_log if f"annoy-{label}-" in str(entry[0])})


def test_a_scheduler_address_is_where_the_work_runs(
    process, one_worker: LocalCluster, files: Path, tmp_path: Path
) -> None:
    vectors, queries, url = files / "vectors.npy", files / "queries.npy", tmp_path / "index"
    at = ("--scheduler", one_worker.scheduler_address)
    built = process("build", vectors, url, "--metric", "euclidean", "--shard-rows", 500, *at)
    assert built.returncode == 0, built.stderr
    assert "Traceback" not in built.stderr
    assert tasks_of(one_worker, "build") == 4
    assert len(open_index(url, client=False)) == 1697

    measured = process("query", url, queries, "--exact", vectors, "--json", "--output", tmp_path / "a.npz", *at)
    assert measured.returncode == 0, measured.stderr
    assert json.loads(measured.stdout)["summary"]["recall"] >= 0.88
    assert tasks_of(one_worker, "search") == 4
    assert tasks_of(one_worker, "exact") == 1


def test_a_scheduler_file_does_as_well(
    call, one_worker: LocalCluster, files: Path, index: Path, tmp_path: Path
) -> None:
    file = tmp_path / "scheduler.json"
    file.write_text(json.dumps({"address": one_worker.scheduler_address}))
    seen = tasks_of(one_worker, "search")
    there = call("query", index, files / "queries.npy", "--scheduler-file", file)
    assert there.exit_code == 0, there.stderr
    assert there.stdout == call("query", index, files / "queries.npy").stdout
    assert tasks_of(one_worker, "search") == seen + 4


def test_a_scheduler_without_workers_is_said_and_waited_for(call, files: Path, index: Path) -> None:
    with LocalCluster(n_workers=0, processes=False, protocol="tcp", dashboard_address=":0") as empty:
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(call, "query", index, files / "queries.npy", "--scheduler", empty.scheduler_address)
            while not empty.scheduler.tasks and not asked.done():  # the question is there, and waits
                time.sleep(0.01)
            empty.scale(1)
        done = asked.result()
    assert done.exit_code == 0, done.stderr
    assert "no workers yet" in done.stderr

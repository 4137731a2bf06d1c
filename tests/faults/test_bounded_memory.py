"""Shards of several times a worker's memory limit are built and asked: no worker is paused for good, or killed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dask_annoy_fault_threads import build_and_count
from distributed import Client, LocalCluster

from dask_annoy import build_index, open_index
from dask_annoy.cluster.executor import ClusterExecutor

WIDTH = 750
GB = 10**9


def write_rows(path: Path, rows: int) -> None:
    """Vectors around some centres, a block at a time."""
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(100, WIDTH)).astype(np.float32)
    array = np.lib.format.open_memmap(path, "w+", np.float32, (rows, WIDTH))
    for first in range(0, rows, 20_000):
        count = min(20_000, rows - first)
        array[first : first + count] = centres[rng.integers(0, 100, count)]
        array[first : first + count] += rng.standard_normal((count, WIDTH), np.float32)
        array.flush()


def worker_processes(client: Client) -> dict[str, int]:
    return dict(client.run(os.getpid))


def statuses(client: Client) -> set[str]:
    return set(client.run(lambda dask_worker: dask_worker.status.name).values())


def worst_memory(client: Client) -> dict[str, int]:
    """The most that each worker's process has had in memory, in bytes; pages of mapped files among it."""

    def peak() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

    return dict(client.run(peak))


def check_bounded(tmp_path: Path, n_rows: int, memory_limit: str, queries: int, **rules: Any) -> str:
    """Build and ask on two workers of a memory limit; return what it took, for people."""
    source = tmp_path / "rows.npy"
    write_rows(source, n_rows)
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, memory_limit=memory_limit, dashboard_address=None
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        before = worker_processes(client)
        index = build_index(str(source), tmp_path / "index", metric="euclidean", client=client, **rules)
        built = worst_memory(client)
        assert worker_processes(client) == before, "a worker was killed or restarted in the build"
        assert statuses(client) == {"running"}
        rows = np.load(source, mmap_mode="r")
        chosen = np.linspace(0, n_rows - 1, queries).astype(np.int64)
        found = open_index(index.url, client=client).query(np.asarray(rows[chosen]), k=3)
        assert (found.ids[:, 0] == chosen).mean() >= 0.9
        exhaustive = index.query(np.asarray(rows[chosen[:20]]), k=3, search_k=n_rows)
        np.testing.assert_array_equal(exhaustive.ids[:, 0], chosen[:20])
        asked = worst_memory(client)
        assert worker_processes(client) == before, "a worker was killed or restarted by queries"
        assert statuses(client) == {"running"}
        shards = len(index.manifest.shards)
    return (
        f"{index.manifest.totals.bytes / GB:.2f} GB in {shards} shards, {memory_limit} a worker: at most "
        f"{max(built.values()) / GB:.2f} GB after the build, {max(asked.values()) / GB:.2f} GB after queries"
    )


@pytest.mark.large
@pytest.mark.timeout(3000)
def test_three_gigabytes_are_built_and_asked_by_workers_of_one(tmp_path: Path) -> None:
    print(check_bounded(tmp_path, 3 * GB // (WIDTH * 4), "1GB", 200, n_trees=4))


def test_shards_that_together_exceed_a_workers_memory_are_searched_whole(tmp_path: Path, is_full: bool) -> None:
    if not is_full:
        pytest.skip("runs with --faults=full")
    source = tmp_path / "rows.npy"
    n_rows = 200_000  # 600 MB, and codes of a quarter of that
    write_rows(source, n_rows)
    index = build_index(
        str(source), tmp_path / "index", metric="euclidean", n_trees=1, shard_rows=n_rows // 8, client=False
    )
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=True, memory_limit="600MB", dashboard_address=None
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        before = worker_processes(client)
        rows = np.load(source, mmap_mode="r")
        chosen = np.linspace(0, n_rows - 1, 50).astype(np.int64)
        for _ in range(2):
            found = open_index(index.url, client=client).query(np.asarray(rows[chosen]), k=3, search_k=n_rows)
            np.testing.assert_array_equal(found.ids[:, 0], chosen)
        assert worker_processes(client) == before, "the worker was killed or restarted by queries"
        assert statuses(client) == {"running"}
        (peak,) = worst_memory(client).values()
        assert peak < 0.8 * 600e6, "the worker was paused"


# Threads


@pytest.fixture(scope="module")
def two_threads() -> Iterator[Client]:
    """One worker of two threads."""
    with (
        LocalCluster(n_workers=1, threads_per_worker=2, processes=True, dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.mark.parametrize("tasks", [1, 2, 5])
def test_the_threads_of_tasks_together_are_those_of_their_worker(two_threads: Client, tasks: int) -> None:
    found = ClusterExecutor(two_threads).run(build_and_count, [6000] * tasks, label="count")
    assert {each.n_jobs for each in found} == {2 if tasks == 1 else 1}
    assert {each.when_unasked for each in found} == {1}, "n_jobs=-1 takes more than a task's share"
    assert max(each.running_threads for each in found) <= 2


def test_threads_beyond_a_tasks_share_would_be_noticed(two_threads: Client) -> None:
    (found,) = ClusterExecutor(two_threads).run(build_and_count, [-20_000], label="count")
    assert found.running_threads > 2

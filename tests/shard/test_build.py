from __future__ import annotations

import dataclasses
import gc
import subprocess
import sys
import textwrap
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from annoy import AnnoyIndex as Oracle

from dask_annoy import AnnoyIndex
from dask_annoy._native import metric_names
from dask_annoy.errors import InvalidIdsError, InvalidVectorsError
from dask_annoy.shard import build_shard, forest_seed, read_receipts, working_memory
from dask_annoy.storage import IndexFolder, shard_folder
from dask_annoy.vectors import ArraySource, RowSource

from .conftest import MakeTask, digests

SHARD_FILES = ("forest.ann", "cells.bin", "ids.npy", "ids.run-items.npy", "ids.run-keys.npy")
ROWS = np.random.default_rng(5).normal(size=(900, 12)).astype(np.float32)
METRICS = metric_names()


class WatchedSource(ArraySource):
    """Hands out copies and counts how many of them are alive."""

    def __init__(self, array: npt.NDArray[Any]) -> None:
        super().__init__(array)
        self.alive: weakref.WeakSet[Any] = weakref.WeakSet()
        self.most_alive = self.blocks_given = 0

    def _blocks(self, start: int, stop: int, max_bytes: int) -> Iterator[tuple[int, Any]]:
        for first, rows in super()._blocks(start, stop, max_bytes):
            block = rows.copy().view(_Tracked)
            self.alive.add(block)
            self.most_alive = max(self.most_alive, len(self.alive))
            self.blocks_given += 1
            yield first, block
            del block


class _Tracked(np.ndarray[Any, Any]):
    """An array that can be told apart from another of the same content, as a weak set needs."""

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> Any:
        return self is other


class FailingSource(ArraySource):
    def __init__(self, array: npt.NDArray[Any], error: BaseException) -> None:
        super().__init__(array)
        self._error = error

    def _blocks(self, start: int, stop: int, max_bytes: int) -> Iterator[tuple[int, Any]]:
        blocks = super()._blocks(start, stop, max_bytes)
        yield next(blocks)
        raise self._error


@pytest.mark.parametrize("metric", METRICS)
def test_the_bytes_do_not_depend_on_threads_or_blocks(make_task: MakeTask, folder: IndexFolder, metric: str) -> None:
    receipts = [
        build_shard(make_task(ROWS, metric=metric, block_bytes=block_bytes), n_jobs=n_jobs)
        for n_jobs, block_bytes in [(1, 1 << 20), (2, 1), (4, 1000), (-1, 4096)]
    ]
    assert {name: len(found) for name, found in digests(folder).items()} == dict.fromkeys(SHARD_FILES, 1)
    assert len({receipt.trace for receipt in receipts}) == 1
    assert len({receipt.entry.uuid for receipt in receipts}) == len(receipts)


@pytest.mark.parametrize("metric", METRICS)
def test_annoy_opens_the_forest_and_answers_alike(make_task: MakeTask, folder: IndexFolder, metric: str) -> None:
    entry = build_shard(make_task(ROWS, metric=metric)).entry
    path = str(folder.local_path(f"{shard_folder(entry.uuid)}/forest.ann"))
    oracle, ours = Oracle(12, metric), AnnoyIndex(12, metric)
    assert oracle.load(path)
    assert ours.load(path)
    assert oracle.get_n_items() == 900
    assert oracle.get_n_trees() == 5
    for row in range(0, 900, 90):
        vector = ROWS[row] > 0.5 if metric == "hamming" else ROWS[row]
        expected = oracle.get_nns_by_vector(vector.tolist(), 10, 2000, include_distances=True)[1]
        found = ours.get_nns_by_vector(vector.tolist(), 10, 2000, include_distances=True)[1]
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-3)  # near 0 its rounding shows


def test_a_block_is_in_memory_and_not_the_shard(make_task: MakeTask) -> None:
    source = WatchedSource(ROWS)
    build_shard(make_task(ROWS, vectors=source, block_bytes=50 * 12 * 4), n_jobs=1)
    gc.collect()
    assert source.blocks_given == 18
    assert source.most_alive <= 2
    assert len(source.alive) == 0


_MEASURE = """
    import sys, numpy as np
    from pathlib import Path
    from dask_annoy.shard import ShardTask, build_shard, write_sample
    from dask_annoy.storage import IndexFolder
    from dask_annoy.vectors import NpySource, RowNumberIds

    def anonymous():  # kibibytes; pages of mapped files are the system's to take back
        for line in open("/proc/self/status"):
            if line.startswith("RssAnon"):
                return int(line.split()[1])

    folder, rows = IndexFolder(sys.argv[1]), NpySource(sys.argv[2])
    write_sample(folder, "b", rows.take([0, 1, 2]))
    peak, before = 0, anonymous()
    def look(n):
        global peak
        peak = max(peak, anonymous())
    n = rows.n_rows
    build_shard(ShardTask(
        folder=folder, build_id="b", slot=0, row_start=0, row_stop=n, vectors=rows, vectors_start=0,
        ids=RowNumberIds(n), ids_start=0, source_name="x", metric="euclidean", width=rows.width, packed=False,
        n_trees=1, seed=0, sample_rows=(0, 1, 2), k=10, block_bytes=1 << 20), n_jobs=1, on_rows=look)
    look(0)
    print(peak - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's account of memory")
def test_memory_does_not_grow_with_the_shard(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(60_000, 256)).astype(np.float32)  # 60 MB
    np.save(tmp_path / "rows.npy", rows)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_MEASURE), str(tmp_path / "index"), str(tmp_path / "rows.npy")],
        capture_output=True, text=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    assert int(done.stdout) * 1024 < rows.nbytes / 4


@pytest.mark.parametrize("error", [OSError("disk gone"), KeyboardInterrupt()], ids=["error", "ctrl-c"])
def test_a_failed_attempt_leaves_no_receipt_and_no_scratch(
    make_task: MakeTask, folder: IndexFolder, tmp_path: Path, error: BaseException
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    task = make_task(ROWS, block_bytes=4096)
    with pytest.raises(type(error)):
        build_shard(dataclasses.replace(task, vectors=FailingSource(ROWS, error)), scratch=scratch)
    assert read_receipts(folder, task.build_id) == {}
    assert list(scratch.iterdir()) == []
    build_shard(task, scratch=scratch)
    assert list(read_receipts(folder, task.build_id)) == [0]
    assert list(scratch.iterdir()) == []


_ATTEMPT = """
    import os, pickle, signal, sys
    from dask_annoy.shard import build_shard
    task = pickle.load(open(sys.argv[1], "rb"))
    if sys.argv[2] == "killed":
        task.folder.__class__.upload = lambda *args: os.kill(os.getpid(), signal.SIGKILL)
    build_shard(task)
"""


def test_attempts_in_other_processes_may_overlap_or_be_killed(
    make_task: MakeTask, folder: IndexFolder, tmp_path: Path
) -> None:
    import pickle

    task = make_task(ROWS)
    (tmp_path / "task").write_bytes(pickle.dumps(task))
    attempts = [
        subprocess.Popen([sys.executable, "-c", textwrap.dedent(_ATTEMPT), tmp_path / "task", fate], cwd=tmp_path)
        for fate in ("well", "killed", "well")
    ]
    assert [attempt.wait(60) for attempt in attempts] == [0, -9, 0]
    assert {name: len(found) for name, found in digests(folder).items()} == dict.fromkeys(SHARD_FILES, 1)
    assert list(read_receipts(folder, task.build_id)) == [0]


def test_attempts_in_threads_may_overlap(make_task: MakeTask, folder: IndexFolder) -> None:
    task = make_task(ROWS, ids=[f"id {row}" for row in range(900)])
    with ThreadPoolExecutor(4) as pool:
        receipts = list(pool.map(lambda _: build_shard(task, n_jobs=1), range(4)))
    assert set(map(len, digests(folder).values())) == {1}
    standing = read_receipts(folder, task.build_id)[0]
    assert standing in receipts
    assert standing == read_receipts(folder, task.build_id)[0]


@pytest.mark.parametrize("metric", METRICS)
def test_the_traced_budget_is_the_least_with_which_a_search_finds_the_neighbour(
    make_task: MakeTask, folder: IndexFolder, metric: str
) -> None:
    rows = ROWS[:300]
    task = make_task(rows, metric=metric, n_trees=2)
    receipt = build_shard(task)
    forest = AnnoyIndex(12, metric)
    forest.load(str(folder.local_path(f"{shard_folder(receipt.entry.uuid)}/forest.ann")))
    forest._open_cells(str(folder.local_path(f"{shard_folder(receipt.entry.uuid)}/cells.bin")))
    item_of = np.argsort(np.load(folder.local_path(f"{shard_folder(receipt.entry.uuid)}/ids.npy")))  # ids are the rows
    distances, budgets = receipt.trace.distance_array(), receipt.trace.budget_array()
    assert distances.shape == budgets.shape == (300, 10)
    for row in task.sample_rows[::30]:
        sample = (rows[row] > 0.5 if metric == "hamming" else rows[row]).tolist()
        its = int(item_of[row])
        own = sorted((forest.get_distance(its, other) for other in range(300) if other != its), reverse=metric == "dot")
        assert distances[row] == pytest.approx(own[:10], rel=1e-4, abs=1e-4)
        # Few of the metrics have no ties: what is compared is how many of the neighbours a budget reaches.
        for budget in sorted(set(budgets[row].tolist())):
            for spent in (budget - 1, budget):
                if spent < 1:
                    continue
                met = forest.get_nns_by_vector(sample, 300, spent, include_distances=True, method="cells")
                reach = [distance for item, distance in zip(*met, strict=True) if item != its]
                found = sum(0 < one <= spent for one in budgets[row].tolist())
                within = (
                    sum(one >= distances[row, -1] for one in reach)
                    if metric == "dot"
                    else sum(one <= distances[row, -1] for one in reach)
                )
                assert (found == within) if metric not in ("hamming",) else found <= within


@pytest.mark.parametrize("n", [1, 2, 5, 11, 12, 23])
@pytest.mark.parametrize("shard_rows", [1, 2, 3, 10, 11])
def test_shards_of_a_few_rows_are_traced_too(make_task: MakeTask, n: int, shard_rows: int) -> None:
    rows = ROWS[:n]
    for slot in range(-(-n // shard_rows)):
        task = make_task(rows, metric="euclidean", shard_rows=shard_rows, slot=slot)
        trace = build_shard(task, n_jobs=1).trace
        for number, row in enumerate(task.sample_rows):
            others = np.array([r for r in range(task.row_start, task.row_stop) if r != row], int)
            truth = np.sort(np.linalg.norm(rows[others] - rows[row], axis=1))[:10]
            found = trace.distance_array()[number]
            assert found[np.isfinite(found)] == pytest.approx(truth, rel=1e-5)
            assert (trace.budget_array()[number] > 0).sum() == len(truth)


@pytest.mark.parametrize("rows", [np.ones((500, 4)), np.zeros((500, 4))], ids=["equal", "zero"])
@pytest.mark.parametrize("metric", METRICS)
def test_vectors_that_are_all_equal_can_be_built(make_task: MakeTask, rows: npt.NDArray[Any], metric: str) -> None:
    receipt = build_shard(make_task(rows, metric=metric))
    assert receipt.entry.items == 500


def test_string_ids_are_files_of_the_shard(make_task: MakeTask) -> None:
    ids = [f"é{row}\0" for row in range(900)]
    entry = build_shard(make_task(ROWS, ids=ids)).entry
    assert [file.name for file in entry.files] == [
        "forest.ann",
        "cells.bin",
        "ids.offsets.npy",
        "ids.utf8.npy",
        "ids.run-keys.npy",
        "ids.run-items.npy",
    ]


def test_a_repeated_id_in_the_shard_is_refused(make_task: MakeTask, folder: IndexFolder) -> None:
    task = make_task(ROWS, ids=[*range(899), 7])
    with pytest.raises(InvalidIdsError, match="the id 7 "):
        build_shard(task)
    assert read_receipts(folder, task.build_id) == {}


def test_a_bad_row_is_named_by_its_number_in_the_whole_input(make_task: MakeTask) -> None:
    bad = ROWS.copy()
    bad[777, 3] = np.nan
    task = make_task(ROWS, shard_rows=300, slot=2, block_bytes=480, vectors=ArraySource(bad))
    with pytest.raises(InvalidVectorsError, match="test rows: row 777, column 3 is nan"):
        build_shard(task)
    shifted = dataclasses.replace(task, vectors=ArraySource(bad[600:]), vectors_start=0)
    with pytest.raises(InvalidVectorsError, match="test rows: row 777, column 3 is nan"):
        build_shard(shifted)


class ShortSource(ArraySource):
    def _blocks(self, start: int, stop: int, max_bytes: int) -> Iterator[tuple[int, Any]]:
        return super()._blocks(start, stop - 3, max_bytes)


def test_rows_that_do_not_come_are_missed(make_task: MakeTask, folder: IndexFolder) -> None:
    source: RowSource = ShortSource(ROWS)
    task = make_task(ROWS, vectors=source)
    with pytest.raises(InvalidVectorsError, match="rows 0 to 900 were planned, but only 897"):
        build_shard(task)
    assert read_receipts(folder, task.build_id) == {}


def test_seeds_of_slots_differ_and_fit_63_bits() -> None:
    seeds = {forest_seed(seed, slot) for seed in range(20) for slot in range(50)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_shard_too_large_for_its_working_memory_has_the_same_bytes_and_leaves_no_scratch_file(
    folder: IndexFolder, make_task: MakeTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = np.random.default_rng(6).normal(size=(20_000, 256)).astype(np.float32)
    (tmp_path / "scratch").mkdir()
    for _ in range(2):
        build_shard(make_task(rows, metric="euclidean"), scratch=tmp_path / "scratch")
        monkeypatch.setattr("dask_annoy.shard.build._WORKING_MEMORY", 0)  # then the least that does
    assert len(digests(folder)["forest.ann"]) == 1
    assert not list((tmp_path / "scratch").iterdir())


def test_working_memory_is_what_the_shard_needs_where_that_is_more_than_usual() -> None:
    usual = working_memory("euclidean", 128, 100_000, 20)
    assert working_memory("euclidean", 128, 300_000, 20) == usual
    assert working_memory("euclidean", 1024, 100_000_000, 1) > usual

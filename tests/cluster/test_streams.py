"""Many tasks with large arguments: few of them are under way at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import distributed
import numpy as np
import pytest

from dask_annoy import build_index, exact_neighbors
from dask_annoy.cluster import exact as exact_module
from dask_annoy.cluster import executor as executor_module
from dask_annoy.cluster import id_check as id_check_module
from dask_annoy.cluster import query as query_module
from dask_annoy.cluster.executor import ClusterExecutor, LocalExecutor, Place
from dask_annoy.shard import FAN_IN

from .conftest import TREES


class UnderWay:
    """Counts the tasks that a client has submitted and not got the results of."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.submitted = self.now = self.most = 0
        submit, following = distributed.Client.submit, distributed.as_completed.__next__

        def counted_submit(client: Any, function: Any, *args: Any, **kwargs: Any) -> Any:
            self.submitted += 1
            self.now += 1
            self.most = max(self.most, self.now)
            return submit(client, function, *args, **kwargs)

        def counted_next(completed: Any) -> Any:
            found = following(completed)
            self.now -= 1
            return found

        monkeypatch.setattr(distributed.Client, "submit", counted_submit)
        monkeypatch.setattr(distributed.as_completed, "__next__", counted_next)


@pytest.fixture
def under_way(monkeypatch: pytest.MonkeyPatch) -> UnderWay:
    return UnderWay(monkeypatch)


def threads_of(client: Any) -> int:
    return sum(client.nthreads().values())


def negated(task: int, place: Place) -> int:
    if task < 0:
        raise ValueError(f"{task} is negative")
    return -task


def test_results_are_handed_out_in_order_and_no_more_are_made_than_are_taken(
    threaded_client: Any, under_way: UnderWay
) -> None:
    at_once = threads_of(threaded_client) + 3
    results = ClusterExecutor(threaded_client).stream(
        negated, range(40), label="negate", task_bytes=executor_module._BYTES_UNDER_WAY // at_once
    )
    for taken, result in enumerate(results):
        assert result == -taken
        assert under_way.submitted <= taken + at_once
    assert taken == 39
    assert under_way.submitted == 40


@pytest.mark.parametrize("task_bytes", [0, 1, 2**40])
def test_a_stream_of_any_size_ends(threaded_client: Any, task_bytes: int) -> None:
    for executor in (ClusterExecutor(threaded_client), LocalExecutor()):
        for n_tasks in (0, 1, 7):
            stream = executor.stream(negated, range(n_tasks), label="negate", task_bytes=task_bytes)
            assert list(stream) == [-number for number in range(n_tasks)]


def test_an_error_stops_a_stream_and_is_raised_as_it_is(threaded_client: Any, under_way: UnderWay) -> None:
    tasks = [*range(10), -5, *range(1000)]
    with pytest.raises(ValueError, match="-5 is negative"):
        list(ClusterExecutor(threaded_client).stream(negated, tasks, label="negate", task_bytes=2**40))
    assert under_way.submitted < 100


def test_queries_of_many_blocks_are_few_tasks_at_a_time_with_the_same_answers(
    rows: Any, tmp_path: Path, threaded_client: Any, monkeypatch: Any, under_way: UnderWay
) -> None:
    index = build_index(rows, tmp_path / "i", n_trees=TREES, shard_rows=200, client=threaded_client)
    n_shards = len(index.manifest.shards)
    assert n_shards > FAN_IN
    expected = index.query(rows[:300], 5)
    monkeypatch.setattr(query_module, "_QUERIES_OF_TASK", 10)
    monkeypatch.setattr(executor_module, "_BYTES_UNDER_WAY", 1)
    under_way.submitted = under_way.most = 0
    answers = index.query(rows[:300], 5)
    assert under_way.submitted == 30 * n_shards
    assert under_way.most <= threads_of(threaded_client)
    assert answers.ids.tobytes() == expected.ids.tobytes()
    assert answers.distances.tobytes() == expected.distances.tobytes()
    assert answers.methods is not None
    assert sum(answers.methods.values()) == 30 * n_shards


def test_exact_answers_of_many_ranges_are_few_at_a_time_and_the_same(
    rows: Any, npy: Path, threaded_client: Any, monkeypatch: Any, under_way: UnderWay
) -> None:
    expected = exact_neighbors(npy, rows[:50], 5, client=threaded_client)
    monkeypatch.setattr(exact_module, "_ROWS_OF_TASK", 70)
    monkeypatch.setattr(executor_module, "_BYTES_UNDER_WAY", 1)
    under_way.submitted = under_way.most = 0
    found = exact_neighbors(npy, rows[:50], 5, client=threaded_client)
    assert under_way.submitted == -(-len(rows) // 70) > FAN_IN
    assert under_way.most <= threads_of(threaded_client)
    assert found.ids.tobytes() == expected.ids.tobytes()
    assert found.distances.tobytes() == expected.distances.tobytes()


@pytest.mark.parametrize("kind", ["int64", "string"])
def test_ids_of_many_blocks_are_looked_for_by_few_tasks_at_a_time(
    rows: Any, tmp_path: Path, threaded_client: Any, monkeypatch: Any, under_way: UnderWay, kind: str
) -> None:
    ids = np.arange(len(rows)) * 3
    if kind == "string":
        ids = np.array([f"item {number}" for number in ids], object)
    index = build_index(rows, tmp_path / "i", n_trees=TREES, shard_rows=500, ids=ids, client=threaded_client)
    monkeypatch.setattr(id_check_module, "_FOUND_AT_ONCE", 20)
    monkeypatch.setattr(executor_module, "_BYTES_UNDER_WAY", 1)
    under_way.submitted = under_way.most = 0
    changed = index.delete(ids[5:405])
    assert under_way.submitted >= 20 * len(index.manifest.shards)
    assert under_way.most <= threads_of(threaded_client)
    assert len(changed) == len(rows) - 400
    assert not np.isin(changed.query(rows[5:405], 1).ids, ids[5:405]).any()

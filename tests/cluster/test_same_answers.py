"""Answers do not depend on where they are computed, nor on where the index lies."""

from __future__ import annotations

import pickle
import uuid
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
from annoy import AnnoyIndex as Oracle
from distributed import Client

from dask_annoy import ShardedIndex, build_index, exact_neighbors, open_index, recall
from dask_annoy._native import metric_names
from dask_annoy.errors import InvalidVectorsError, UnsupportedStorageError

from .conftest import SHARD_ROWS, TREES, fingerprint

METRICS = metric_names()
OPTIONS: dict[str, Any] = {"shard_rows": SHARD_ROWS, "n_trees": TREES}


@pytest.fixture(scope="module")
def reference(rows: Any) -> ShardedIndex:
    """Built and asked without a cluster, in memory."""
    return build_index(rows, f"memory://{uuid.uuid4().hex}", **OPTIONS, client=False)


@pytest.mark.parametrize("storage", ["local", "s3"])
def test_every_scheduler_and_storage_gives_the_same_shards_and_answers(
    storage: str, client: Any, rows: Any, tmp_path: Path, request: pytest.FixtureRequest, reference: ShardedIndex
) -> None:
    url, options = str(tmp_path / "index"), None
    if storage == "s3":
        bucket = request.getfixturevalue("s3")
        url, options = f"{bucket.url}/some/index", bucket.options
    build_index(rows, url, **OPTIONS, storage_options=options, client=client)
    index = open_index(url, storage_options=options, client=client)
    assert fingerprint(index) == fingerprint(reference)
    assert index.manifest.tuning == reference.manifest.tuning
    expected = reference.query(rows[:100], k=7)
    found = index.query(rows[:100], k=7)
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_array_equal(found.distances, expected.distances)
    lazy = index.query(da.from_array(rows[:100], chunks=33), k=7)
    computed = client.compute(lazy.ids).result() if client else lazy.ids.compute(scheduler="threads")
    np.testing.assert_array_equal(computed, expected.ids)


def test_vectors_are_read_from_the_same_bucket_with_the_same_options(
    rows: Any, s3: Any, process_client: Client, reference: ShardedIndex
) -> None:
    import fsspec

    with fsspec.open(f"{s3.url}/rows.npy", "wb", **s3.options) as file:
        np.save(file, rows)
    index = build_index(
        f"{s3.url}/rows.npy", f"{s3.url}/index", **OPTIONS, storage_options=s3.options, client=process_client
    )
    assert fingerprint(index) == fingerprint(reference)
    assert index.manifest.source == f"{s3.url}/rows.npy"


@pytest.mark.parametrize("metric", METRICS)
def test_every_shard_opens_in_annoy_and_the_merged_answers_of_all_are_ours(
    metric: str, rows: Any, tmp_path: Path
) -> None:
    values = rows > 0.5 if metric == "hamming" else rows
    index = build_index(values, tmp_path, metric=metric, **OPTIONS, client=False)
    budget = 100_000  # all of it
    ours = index.query(values[:20], k=10, search_k=budget)
    everything: list[list[float]] = [[] for _ in range(20)]
    for shard in index.manifest.shards:
        oracle = Oracle(16, metric)
        assert oracle.load(str(tmp_path / "shards" / shard.uuid / "forest.ann"))
        assert oracle.get_n_items() == shard.items
        for number in range(20):
            vector = values[number].astype(float).tolist()
            everything[number] += oracle.get_nns_by_vector(vector, 10, budget, include_distances=True)[1]
    for number in range(20):
        best = sorted(everything[number], reverse=metric == "dot")[:10]
        assert ours.distances[number] == pytest.approx(best, rel=1e-4, abs=1e-3)


@pytest.mark.parametrize("metric", METRICS)
def test_with_a_full_budget_the_answers_are_exact(metric: str, rows: Any, client: Any, tmp_path: Path) -> None:
    values = rows > 0.5 if metric == "hamming" else rows
    index = build_index(values, tmp_path, metric=metric, **OPTIONS, client=client)
    queries = values[:50]
    truth = exact_neighbors(values, queries, 8, metric=metric, client=client)
    found = index.query(queries, k=8, search_k=10**6)
    np.testing.assert_array_equal(found.distances, truth.distances)
    if metric == "hamming":  # of equally near rows any may be answered
        differing = (values[found.ids] != queries[:, None]).sum(axis=2)
        np.testing.assert_array_equal(differing, found.distances)
    else:
        np.testing.assert_array_equal(found.ids, truth.ids)
    ordered = np.sort(found.distances, axis=1)
    np.testing.assert_array_equal(found.distances, ordered[:, ::-1] if metric == "dot" else ordered)


@pytest.mark.parametrize("metric", ["dot", "euclidean"])
@pytest.mark.parametrize("id_type", ["int64", "string"])
def test_answers_that_are_not_there_are_marked(
    metric: str, id_type: str, rows: Any, client: Any, tmp_path: Path
) -> None:
    ids = None if id_type == "int64" else [f"x{row}" for row in range(12)]
    index = build_index(rows[:12], tmp_path, ids=ids, metric=metric, shard_rows=5, client=client)
    result = index.query(rows[:3], k=20, search_k=10**5)
    assert result.ids.shape == result.distances.shape == (3, 20)
    missing = -1 if id_type == "int64" else None
    assert all(one is None or one == -1 for one in result.ids[:, 12:].ravel())
    assert all(one == missing for one in result.ids[:, 12:].ravel())
    assert (result.distances[:, 12:] == (-np.inf if metric == "dot" else np.inf)).all()
    assert (result.ids[:, :12] != missing).all()
    truth = exact_neighbors(rows[:12], rows[:3], 20, metric=metric, client=client)
    np.testing.assert_array_equal(truth.distances, result.distances)


def test_one_query_is_a_row_and_no_queries_are_no_rows(rows: Any, client: Any, reference: ShardedIndex) -> None:
    one = reference.query(rows[5], k=3)
    assert one.ids.shape == one.distances.shape == (3,)
    assert one.ids[0] == 5
    assert reference.query(rows[5].tolist(), k=3).ids.tolist() == one.ids.tolist()
    for result in (reference.query(rows[:0], k=3), reference.query([rows[5].tolist()], k=3)):
        assert result.ids.shape[1] == 3


def test_no_queries_on_a_cluster(rows: Any, tmp_path: Path, process_client: Client) -> None:
    index = build_index(rows[:50], tmp_path, client=process_client)
    assert index.query(rows[:0], k=3).ids.shape == (0, 3)


def test_many_queries_are_answered_in_parts(
    rows: Any, process_client: Client, threaded_client: Client, tmp_path: Path
) -> None:
    index = build_index(rows, tmp_path, **OPTIONS, client=False)
    many = np.tile(rows, (5, 1))  # more than a task takes
    expected = index.query(many, k=2, search_k=50)
    for client in (process_client, threaded_client):
        found = open_index(tmp_path, client=client).query(many, k=2, search_k=50)
        np.testing.assert_array_equal(found.ids, expected.ids)
        np.testing.assert_array_equal(found.distances, expected.distances)


def test_exact_neighbours_are_the_same_in_every_form(rows: Any, client: Any, npy: Path) -> None:
    queries = rows[:30]
    distances = np.linalg.norm(rows[None].astype(float) - queries[:, None], axis=2)
    truth = np.argsort(distances, axis=1, kind="stable")[:, :5]
    for vectors in (rows, npy, da.from_array(rows, chunks=(301, 7))):
        found = exact_neighbors(vectors, queries, 5, metric="euclidean", client=client)
        np.testing.assert_array_equal(found.ids, truth)
        assert found.distances == pytest.approx(np.take_along_axis(distances, truth, axis=1), abs=1e-3)
    assert recall(found.ids, truth) == 1.0
    assert recall(np.full((30, 5), -1), truth) == 0.0


def test_exact_neighbours_of_an_array_are_numbered_over_all_parts(rows: Any, client: Any, monkeypatch: Any) -> None:
    from dask_annoy.cluster import exact

    monkeypatch.setattr(exact, "_ROWS_OF_TASK", 300)
    found = exact_neighbors(rows, rows[::100], 1, metric="euclidean", client=client)
    assert found.ids[:, 0].tolist() == list(range(0, 2000, 100))
    bad = rows.copy()
    bad[1234, 2] = np.inf
    with pytest.raises(InvalidVectorsError, match="row 1,234, column 2 is inf"):
        exact_neighbors(bad, rows[:1], 1, client=client)


def test_an_index_in_memory_is_refused_to_other_processes(rows: Any, process_client: Client) -> None:
    with pytest.raises(UnsupportedStorageError, match=r"memory of this process.*cluster do not share"):
        build_index(rows, f"memory://{uuid.uuid4().hex}", client=process_client)


def test_an_index_in_memory_is_fine_with_threads(rows: Any, threaded_client: Client, reference: ShardedIndex) -> None:
    index = build_index(rows, f"memory://{uuid.uuid4().hex}", **OPTIONS, client=threaded_client)
    assert fingerprint(index) == fingerprint(reference)


def test_the_current_client_is_taken_if_none_is_given(rows: Any, tmp_path: Path, process_client: Client) -> None:
    with process_client.as_current(), pytest.raises(UnsupportedStorageError, match="cluster"):
        build_index(rows, f"memory://{uuid.uuid4().hex}")
    build_index(rows, f"memory://{uuid.uuid4().hex}")  # there is none now


def test_an_asynchronous_client_is_refused(rows: Any, tmp_path: Path) -> None:
    import asyncio

    async def build() -> None:
        async with Client(processes=False, n_workers=1, dashboard_address=":0", asynchronous=True) as client:
            with pytest.raises(TypeError, match="asynchronous"):
                build_index(rows, tmp_path, client=client)

    asyncio.run(build())


def test_an_index_travels_small_and_answers_on_a_worker(rows: Any, tmp_path: Path, process_client: Client) -> None:
    from dask_annoy_test_rows import ask

    index = build_index(rows, tmp_path, shard_rows=500, n_trees=TREES, client=process_client)
    assert index.n_shards == 4
    assert len(pickle.dumps(index)) < 50_000
    copy = pickle.loads(pickle.dumps(index))
    assert copy.manifest == index.manifest
    expected = index.query(rows[:10], k=5)
    np.testing.assert_array_equal(copy.query(rows[:10], k=5).ids, expected.ids)
    on_worker = process_client.submit(ask, index, rows[:10]).result(60)
    np.testing.assert_array_equal(on_worker.ids, expected.ids)
    np.testing.assert_array_equal(on_worker.distances, expected.distances)


def test_an_index_is_built_and_asked_inside_tasks_that_fill_the_cluster(rows: Any, tmp_path: Path) -> None:
    from dask_annoy_test_rows import build_and_query

    with Client(n_workers=1, threads_per_worker=1, dashboard_address=":0", set_as_default=False) as client:
        for number, inner in enumerate((None, "given")):
            futures = [
                client.submit(build_and_query, rows, str(tmp_path / f"{number}-{part}"), inner) for part in range(2)
            ]
            ids = [future.result(60) for future in futures]
            assert [found[:, 0].tolist() for found in ids] == [list(range(10))] * 2

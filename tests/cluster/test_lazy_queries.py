"""A Dask array of queries stays lazy, knows what it will be, and gives numpy's answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from distributed import Client

from dask_annoy import ShardedIndex, build_index, open_index
from dask_annoy.errors import InvalidVectorsError

from .conftest import SHARD_ROWS, TREES


@pytest.fixture(scope="module")
def folder(rows: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("index")
    build_index(rows, path, shard_rows=SHARD_ROWS, n_trees=TREES, client=False)
    return path


@pytest.fixture
def index(folder: Path) -> ShardedIndex:
    return open_index(folder)


def refuse(*_: Any, **__: Any) -> Any:
    raise AssertionError("something was computed")


@pytest.mark.parametrize("chunks", [(300, 16), ((0, 1, 499, 0, 1500), (5, 11)), (2000, 16)], ids=str)
def test_nothing_is_computed_and_the_answers_are_numpys(index: ShardedIndex, rows: Any, chunks: Any) -> None:
    queries = da.from_array(rows).rechunk(chunks)
    with dask.config.set(scheduler=refuse):
        lazy = index.query(queries, k=6)
        assert lazy.ids.shape == lazy.distances.shape == (2000, 6)
        assert lazy.ids.chunks == lazy.distances.chunks == (queries.chunks[0], (6,))
        assert (lazy.ids.dtype, lazy.distances.dtype) == (np.int64, np.float32)
    with dask.config.set(scheduler="threads"):
        ids, distances = dask.compute(*lazy)
    expected = index.query(rows, k=6)
    np.testing.assert_array_equal(ids, expected.ids)
    np.testing.assert_array_equal(distances, expected.distances)


def test_unknown_chunks_stay_unknown(index: ShardedIndex, rows: Any) -> None:
    queries = da.from_array(rows, chunks=(500, 16))
    some = queries[queries[:, 0] > 0]
    with dask.config.set(scheduler=refuse):
        lazy = index.query(some, k=3)
    assert np.isnan(lazy.ids.shape[0])
    assert lazy.ids.shape[1] == 3
    ids = lazy.ids.compute(scheduler="sync")
    np.testing.assert_array_equal(ids, index.query(rows[rows[:, 0] > 0], k=3).ids)


def test_answers_can_be_worked_on_lazily(index: ShardedIndex, rows: Any, process_client: Client) -> None:
    lazy = index.query(da.from_array(rows, chunks=(400, 16)) * 2, k=4)
    expected = index.query(rows * 2, k=4)
    mean, first = process_client.compute([lazy.distances.mean(), lazy.ids[450:460, 0]], sync=True)
    assert mean == pytest.approx(expected.distances.mean(), rel=1e-5)
    np.testing.assert_array_equal(first, expected.ids[450:460, 0])
    with process_client.as_current():
        persisted = lazy.ids.persist()
        np.testing.assert_array_equal(persisted.compute(), expected.ids)


def test_queries_that_wait_for_other_queries(index: ShardedIndex, rows: Any) -> None:
    queries = dask.persist(da.from_array(rows[:200], chunks=(50, 16)), scheduler="sync")[0]
    nearest = index.query(queries, k=2, search_k=10**5).ids[:, 1]
    expected = index.query(rows[:200], k=2, search_k=10**5).ids[:, 1]
    again = index.query(da.from_array(rows, chunks=(1000, 16))[nearest.compute(scheduler="sync")], k=1)
    assert (again.ids.compute(scheduler="sync")[:, 0] == expected).mean() > 0.9


def test_versions_that_share_shards_do_not_share_answers(rows: Any, tmp_path: Path, process_client: Client) -> None:
    whole = build_index(rows, tmp_path, shard_rows=SHARD_ROWS, n_trees=TREES, client=process_client)
    less = whole.delete(np.arange(0, 2000, 2))
    queries = da.from_array(rows[:40], chunks=(20, 16))
    expected = [version.query(rows[:40], k=k).ids for version in (whole, less) for k in (1, 3)]
    for order in (1, -1):  # the scheduler takes tasks of one key for one
        lazy = [version.query(queries, k=k).ids for version in (whole, less) for k in (1, 3)]
        held = process_client.persist(lazy[0] if order == 1 else lazy[2])
        found = process_client.gather(process_client.compute(lazy[::order]))[::order]
        for got, wanted in zip(found, expected, strict=True):
            np.testing.assert_array_equal(got, wanted)
        del held


def test_strings_are_lazy_too(rows: Any, tmp_path: Path, client: Any) -> None:
    ids = [f"row {row}\0" for row in range(300)]
    index = build_index(rows[:300], tmp_path, ids=ids, shard_rows=100, client=client)
    lazy = index.query(da.from_array(rows[:40], chunks=(15, 16)), k=400, search_k=10**5)
    assert lazy.ids.dtype == object
    found = client.compute(lazy.ids).result() if client else lazy.ids.compute(scheduler="threads")
    expected = index.query(rows[:40], k=400, search_k=10**5)
    assert found.tolist() == expected.ids.tolist()
    assert found[:, 0].tolist() == ids[:40]
    assert found[0, 300:].tolist() == [None] * 100


def test_a_wrong_shape_or_type_shows_at_once(index: ShardedIndex, rows: Any) -> None:
    with dask.config.set(scheduler=refuse):
        for queries, said in [
            (da.ones((5, 7)), "7 columns"),
            (da.ones(16), "dimensions"),
            (da.ones((2, 2, 16)), "dimensions"),
            (da.ones((5, 16)).astype("U3"), "strings"),
        ]:
            with pytest.raises(InvalidVectorsError, match=said):
                index.query(queries, k=3)


def test_a_bad_query_is_named_by_its_row_among_all(index: ShardedIndex, rows: Any) -> None:
    bad = rows.copy()
    bad[1234, 5] = np.nan
    with pytest.raises(InvalidVectorsError, match="queries: row 1,234, column 5 is nan"):
        index.query(bad)
    lazy = index.query(da.from_array(bad, chunks=(300, 16)))
    with pytest.raises(InvalidVectorsError, match="queries: row 1,234, column 5 is nan"):
        lazy.ids.compute(scheduler="sync")
    with pytest.raises(InvalidVectorsError, match="does not fit float32"):
        index.query(np.full((1, 16), 1e300))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"k": 0}, "k must"), ({"k": -1}, "k must"), ({"k": 1.5}, "k must"), ({"k": True}, "k must"),
        ({"search_k": 0}, "search_k"), ({"search_k": -1}, "search_k"), ({"search_k": 2.5}, "search_k"),
        ({"target_recall": 0}, "target_recall"), ({"target_recall": 1.1}, "target_recall"),
        ({"search_k": 5, "target_recall": 0.5}, "not both"),
    ],
    ids=str,
)  # fmt: skip
def test_a_bad_argument_is_named(index: ShardedIndex, rows: Any, arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        index.query(rows[:1], **arguments)


def test_no_budget_is_too_large(index: ShardedIndex, rows: Any) -> None:
    everything = index.query(rows[:5], k=4, search_k=10**6)
    np.testing.assert_array_equal(index.query(rows[:5], k=4, search_k=10**30).ids, everything.ids)


@pytest.mark.parametrize(
    "form",
    [
        lambda rows: rows.astype(">f4"),
        np.asfortranarray,
        lambda rows: np.repeat(rows, 2, axis=1)[:, ::2],
        lambda rows: rows.astype(np.float64),
        lambda rows: rows.tolist(),
        lambda rows: np.ma.masked_array(rows),
    ],
    ids=["big-endian", "fortran", "strided", "float64", "list", "nothing masked"],
)
def test_queries_come_in_any_form(index: ShardedIndex, rows: Any, form: Any) -> None:
    queries = rows[:20].copy()
    queries.flags.writeable = False
    np.testing.assert_array_equal(index.query(form(queries), k=3).ids, index.query(rows[:20], k=3).ids)


def test_a_lazy_query_of_a_remote_index_loads_each_shard_about_once(rows: Any, s3: Any, process_client: Client) -> None:
    index = build_index(
        rows, f"{s3.url}/index", shard_rows=249, n_trees=2, seed=1, storage_options=s3.options, client=process_client
    )
    expected = index.query(rows[:300], k=4)
    before = downloads(process_client)
    for _ in range(3):
        lazy = index.query(da.from_array(rows[:300], chunks=(30, 16)), k=4)
        np.testing.assert_array_equal(process_client.compute(lazy.ids).result(), expected.ids)
    # The queries before have loaded all shards; at most a few are loaded by the other worker too.
    assert downloads(process_client) - before <= 8 * 2


def downloads(client: Client) -> int:
    from dask_annoy.storage import shared_cache

    return sum(stats.downloads for stats in client.run(lambda: shared_cache().stats()).values())


def test_repeated_queries_load_each_remote_shard_about_once(rows: Any, s3: Any, process_client: Client) -> None:
    index = build_index(
        rows, f"{s3.url}/index", shard_rows=300, n_trees=2, seed=2, storage_options=s3.options, client=process_client
    )
    before = downloads(process_client)  # no file is one of another test's: the cache goes by checksums
    for number in range(6):
        index.query(rows[number * 10 : number * 10 + 10], k=4)
    files = 2 * index.n_shards
    assert files <= downloads(process_client) - before <= 1.5 * files

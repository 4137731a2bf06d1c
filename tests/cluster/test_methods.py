"""How shards are searched can be said, and is told; shards without cells are searched by their trees."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
from numpy.typing import NDArray

from dask_annoy import QueryResult, build_index, exact_neighbors, open_index, plan_index, recall
from dask_annoy.storage import CELLS_FILE

WIDTH = 16


def clustered(n: int, seed: int) -> NDArray[np.float32]:
    centres = np.random.default_rng(9).normal(size=(50, WIDTH))
    rng = np.random.default_rng(seed)
    return (centres[rng.integers(0, 50, n)] + 0.5 * rng.normal(size=(n, WIDTH))).astype(np.float32)


@pytest.fixture(scope="module")
def vectors() -> NDArray[np.float32]:
    return clustered(12_000, 1)


@pytest.fixture(scope="module")
def url(vectors: NDArray[np.float32], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("methods") / "index"
    build_index(vectors, folder, metric="euclidean", shard_rows=6000, n_trees=5, client=False)
    return folder


@pytest.fixture(scope="module")
def without(vectors: NDArray[np.float32], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("methods") / "without"
    build_index(vectors, folder, metric="euclidean", shard_rows=6000, n_trees=5, cells=False, client=False)
    return folder


@pytest.mark.parametrize("method", ["exact", "trees", "leaves", "cells"])
def test_a_method_that_is_asked_for_is_taken_by_all_shards(
    method: Any, url: Path, vectors: NDArray[np.float32]
) -> None:
    queries = clustered(40, 2)
    result = open_index(url, client=False).query(queries, k=5, search_k=2000, method=method)
    assert result.methods == {method: 2}
    truth = exact_neighbors(vectors, queries, 5, metric="euclidean", client=False)
    assert recall(result.ids, truth.ids) == pytest.approx(1.0, abs=0 if method == "exact" else 0.15)


def test_a_result_is_still_two_arrays_and_goes_through_pickle(url: Path) -> None:
    result = open_index(url, client=False).query(clustered(3, 2), k=5)
    ids, distances = result
    assert ids.shape == distances.shape == (3, 5)
    again = pickle.loads(pickle.dumps(result))
    assert isinstance(again, QueryResult)
    assert again.methods == result.methods
    one = open_index(url, client=False).query(clustered(1, 2)[0], k=5)
    assert one.ids.shape == (5,)
    assert sum(one.methods.values()) == 2


def test_answers_do_not_depend_on_how_queries_are_split(url: Path) -> None:
    index, queries = open_index(url, client=False), clustered(90, 2)
    for search_k in (100, 1500, 5900):
        together = index.query(queries, k=5, search_k=search_k)
        for chunk in (1, 40):
            lazy = index.query(da.from_array(queries, chunks=(chunk, WIDTH)), k=5, search_k=search_k)
            assert lazy.methods is None
            np.testing.assert_array_equal(lazy.ids.compute(scheduler="threads"), together.ids)


def test_the_exact_scan_is_taken_where_it_costs_no_more_than_the_budget_for_the_recall(
    url: Path, vectors: NDArray[np.float32]
) -> None:
    index, queries = open_index(url, client=False), clustered(40, 2)
    assert index.query(queries, k=5, search_k=300).methods == {"cells": 2}
    assert index.query(queries, k=5, search_k=5999).methods == {"exact": 2}
    few = build_index(vectors[:900], f"memory://few-{id(url)}", metric="euclidean", n_trees=2, client=False)
    result = few.query(queries, k=5, target_recall=0.5)
    assert result.methods == {"exact": 1}
    truth = exact_neighbors(vectors[:900], queries, 5, metric="euclidean", client=False)
    np.testing.assert_array_equal(result.ids, truth.ids)


def test_shards_without_cells_are_searched_by_their_trees_at_the_recall_of_trees(
    without: Path, vectors: NDArray[np.float32]
) -> None:
    index, queries = open_index(without, client=False), clustered(300, 2)
    assert all(CELLS_FILE not in [file.name for file in shard.files] for shard in index.manifest.shards)
    assert index.manifest.rules.cells is False
    assert index.info()["cells"] == 0
    assert index.info()["tuning"]["method"] == "forest"
    result = index.query(queries, k=10)
    assert set(result.methods) <= {"trees", "leaves"}
    truth = exact_neighbors(vectors, queries, 10, metric="euclidean", client=False)
    assert recall(result.ids, truth.ids) >= 0.88
    with pytest.raises(ValueError, match="2 of 2 have none"):
        index.query(queries, method="cells")
    with pytest.raises(ValueError, match="method must be one of 'auto', 'exact'"):
        index.query(queries, method="graph")  # type: ignore[arg-type]


def test_cells_are_part_of_the_plan_and_of_what_is_added_later(tmp_path: Path, vectors: NDArray[np.float32]) -> None:
    some = vectors[:2000]
    plans = {cells: plan_index(some, metric="euclidean", cells=cells, client=False) for cells in ("auto", False, 7)}
    assert len({plan.build_id for plan in plans.values()}) == 3
    assert plans[False].estimate.shard_bytes < plans["auto"].estimate.shard_bytes
    assert "cells           none" in str(plans[False])
    assert "cells           about 7 a shard" in str(plans[7])
    for cells in (True, 0, -1, "none", 2.0):
        with pytest.raises(ValueError, match="cells must be"):
            plan_index(some, cells=cells, client=False)  # type: ignore[arg-type]
    index = build_index(some, tmp_path / "x", metric="euclidean", cells=False, n_trees=3, client=False)
    index = index.append(vectors[2000:3000]).append(vectors[3000:4000])
    assert index.info()["cells"] == 0
    assert index.compact(max_deleted=0).info()["cells"] == 0
    few = build_index(some, tmp_path / "y", metric="euclidean", cells=7, n_trees=3, client=False)
    assert few.manifest.rules.cells == 7
    assert few.info()["cells"] == 1

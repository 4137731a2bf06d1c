"""How searches go about it: forced methods answer rightly, the automatic one is one of them, and it is told which."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from dask_annoy import AnnoyIndex
from dask_annoy._native import available_kernels, use_kernels
from tests.native.conftest import ANNOYS_METRICS

WIDTH, N_ITEMS, N = 24, 3000, 10
METHODS = ("exact", "trees", "leaves", "cells")


def rows(metric: str, n: int, seed: int) -> NDArray[np.float32]:
    centres = np.random.default_rng(9).normal(size=(30, WIDTH))
    rng = np.random.default_rng(seed)
    vectors = centres[rng.integers(0, 30, n)] + 0.6 * rng.normal(size=(n, WIDTH))
    return (vectors > 0 if metric == "hamming" else vectors).astype(np.float32)


def distances_of(metric: str, queries: NDArray[np.float32], items: NDArray[np.float32]) -> NDArray[np.float64]:
    """All of them, by numpy: what is nearest is smallest."""
    a, b = queries.astype(np.float64)[:, None], items.astype(np.float64)[None]
    if metric == "angular":
        cosine = (a * b).sum(2) / np.linalg.norm(a, axis=2) / np.linalg.norm(b, axis=2)
        return np.sqrt(np.maximum(0, 2 - 2 * cosine))
    if metric == "dot":
        return -(a * b).sum(2)
    if metric == "euclidean":
        return np.linalg.norm(a - b, axis=2)
    return np.abs(a - b).sum(2)


def index_of(metric: str, *, cells: bool = True, n_items: int = N_ITEMS) -> AnnoyIndex:
    index = AnnoyIndex(WIDTH, metric)
    index.add_items(rows(metric, n_items, 1))
    index.build(8)
    if cells:
        index.build_cells()
    return index


@pytest.mark.parametrize("metric", ANNOYS_METRICS)
@pytest.mark.parametrize("n_queries", [1, 2, 40])
def test_a_forced_exact_scan_finds_the_nearest(metric: str, n_queries: int) -> None:
    index, queries = index_of(metric), rows(metric, n_queries, 2)
    all_distances = distances_of(metric, queries, rows(metric, N_ITEMS, 1))
    ids, found = index.get_nns_by_vectors(queries, N, 1, include_distances=True, method="exact")
    sign = -1 if metric == "dot" else 1
    np.testing.assert_allclose(sign * found, np.sort(all_distances, axis=1)[:, :N], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(np.take_along_axis(all_distances, ids, 1), sign * found, rtol=1e-4, atol=1e-4)
    passing = np.arange(N_ITEMS) % 2 == 0
    _, found = index.get_nns_by_vectors(queries, N, 1, include_distances=True, method="exact", include=passing)
    expected = np.sort(all_distances[:, passing], axis=1)[:, :N]
    np.testing.assert_allclose(sign * found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("metric", ANNOYS_METRICS)
def test_forced_methods_find_most_and_what_they_find_is_as_near_as_they_say(metric: str) -> None:
    index, queries = index_of(metric), rows(metric, 60, 2)
    all_distances = distances_of(metric, queries, rows(metric, N_ITEMS, 1))
    worst = np.sort(all_distances, axis=1)[:, N - 1 : N]
    for method in METHODS:
        ids, found = index.get_nns_by_vectors(queries, N, 800, include_distances=True, method=method)
        told = -found if metric == "dot" else found
        np.testing.assert_allclose(np.take_along_axis(all_distances, ids, 1), told, rtol=1e-4, atol=1e-4)
        assert (told <= worst + 1e-4).mean() > 0.8, method


@pytest.mark.parametrize("metric", ANNOYS_METRICS)
@pytest.mark.parametrize("passing", [None, 0.5, 0.01])
def test_leaves_answer_as_trees_and_as_each_query_alone(metric: str, passing: float | None) -> None:
    index, queries = index_of(metric), rows(metric, 30, 2)
    include = None if passing is None else np.random.default_rng(3).random(N_ITEMS) < passing
    by_trees = index.get_nns_by_vectors(queries, N, 200, include_distances=True, method="trees", include=include)
    if passing != 0.01:  # of few that pass, leaves are not walked to
        by_leaves = index.get_nns_by_vectors(queries, N, 200, include_distances=True, method="leaves", include=include)
        np.testing.assert_array_equal(by_leaves, by_trees)
    alone = [
        index.get_nns_by_vector(query, N, 200, include_distances=True, method="trees", include=include)
        for query in queries
    ]
    assert [ids[ids >= 0].tolist() for ids in by_trees[0]] == [ids for ids, _ in alone]


@pytest.mark.parametrize("metric", ANNOYS_METRICS)
@pytest.mark.parametrize("cells", [False, True])
def test_the_automatic_method_gives_the_answers_of_the_one_that_is_told(metric: str, cells: bool) -> None:
    index = index_of(metric, cells=cells)
    some = np.random.default_rng(3).random(N_ITEMS)
    for n_queries in (1, 50, 400):
        queries = rows(metric, n_queries, 2)
        for search_k in (-1, 0, 20, 900, 10**6, -2):
            for include in (None, some < 0.6, some < 0.02):
                plan = index.explain_search(n_queries, N, search_k, include=include)
                assert plan.method in METHODS
                asked = {"include_distances": True, "include": include}
                answer = index.get_nns_by_vectors(queries, N, search_k, **asked)
                told = index.get_nns_by_vectors(queries, N, search_k, method=plan.method, **asked)
                np.testing.assert_array_equal(answer, told)


@pytest.mark.parametrize("metric", ANNOYS_METRICS)
def test_without_cells_the_answers_are_those_of_a_walk(metric: str) -> None:
    index = index_of(metric, cells=False)
    for n_queries in (1, 50, 1500):
        queries = rows(metric, n_queries, 2)
        assert index.explain_search(n_queries, N, 300).method in ("trees", "leaves")
        for search_k in (-1, 300, 8 * N_ITEMS):
            by_trees = index.get_nns_by_vectors(queries, N, search_k, include_distances=True, method="trees")
            np.testing.assert_array_equal(
                index.get_nns_by_vectors(queries, N, search_k, include_distances=True), by_trees
            )


def test_an_exact_scan_is_taken_where_it_costs_no_more_than_cells() -> None:
    index, few = index_of("euclidean"), index_of("euclidean", n_items=900)
    for n_queries in (1, 100):
        assert few.explain_search(n_queries, N, 50).method == "exact"
        plan = index.explain_search(n_queries, N, N_ITEMS)
        assert (plan.method, plan.reason) == ("exact", "the search budget is all items")
    by_cells = index.explain_search(1, N, 100)
    assert by_cells.method == "cells"
    assert by_cells.seconds["cells"] < by_cells.seconds["exact"]
    assert index.explain_search(10**6, N, 2900).method == "exact"
    assert index.explain_search(1, N, 100, include=np.arange(500)).method == "exact"


def test_the_choice_does_not_depend_on_threads_or_kernels() -> None:
    index = index_of("angular")
    asked = [(n_queries, search_k) for n_queries in (1, 30, 1000) for search_k in (50, 500, 2000)]
    expected = [index.explain_search(*one[:1], N, one[1]).method for one in asked]
    try:
        for kernels in available_kernels():
            use_kernels(kernels)
            for n_jobs in (1, 7):
                assert [index.explain_search(q, N, k, n_jobs=n_jobs).method for q, k in asked] == expected
    finally:
        use_kernels(available_kernels()[-1])


@pytest.mark.parametrize("metric", ANNOYS_METRICS)
def test_few_that_pass_are_found_alike_by_few_queries_and_by_many(metric: str) -> None:
    index, queries = index_of(metric), rows(metric, 300, 2)
    few = np.arange(0, N_ITEMS, 150)
    many_at_once = index.get_nns_by_vectors(queries, N, 5, include_distances=True, include=few)
    for n_queries in (1, 3):
        some = index.get_nns_by_vectors(queries[:n_queries], N, 5, include_distances=True, include=few)
        for found, expected in zip(some, many_at_once, strict=True):
            np.testing.assert_array_equal(found, expected[:n_queries])


def test_a_plan_says_what_was_asked_and_can_be_read() -> None:
    index = index_of("dot", cells=False)
    plan = index.explain_search(20, 5, 400, method="exact")
    assert (plan.method, plan.reason) == ("exact", "asked for")
    assert (plan.n_queries, plan.n, plan.search_k) == (20, 5, 400)
    assert plan.seconds.keys() == {"exact", "trees", "leaves"}
    assert "exact: asked for" in str(plan)
    assert "trees   about" in str(plan)
    assert index_of("dot").explain_search(1, 5).seconds.keys() == set(METHODS)


def test_what_cannot_be_had_is_refused() -> None:
    index = index_of("angular", cells=False)
    query = rows("angular", 1, 2)
    for ask in (
        lambda method: index.get_nns_by_vector(query[0], 3, method=method),
        lambda method: index.get_nns_by_item(0, 3, method=method),
        lambda method: index.get_nns_by_vectors(query, 3, method=method),
        lambda method: index.get_nns_by_items([0], 3, method=method),
        lambda method: index.explain_search(1, 3, method=method),
    ):
        with pytest.raises(RuntimeError, match=r"has no cells, .*call build_cells\(\)"):
            ask("cells")
        with pytest.raises(
            ValueError, match="method must be 'auto', 'exact', 'trees', 'leaves' or 'cells', got 'hnsw'"
        ):
            ask("hnsw")
    empty = AnnoyIndex(WIDTH, "angular")
    assert empty.get_nns_by_vector(query[0], 3, method="exact") == []
    with pytest.raises(RuntimeError, match="without trees"):
        empty.explain_search(1, 3)
    with pytest.raises(ValueError, match="n_queries must not be negative"):
        index.explain_search(-1, 3)

"""AnnoyIndex: its answers, one by one and in batches, and the budgets that find them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dask_annoy import AnnoyIndex

from .conftest import METRICS, built, filled, vectors_of


def test_answers_are_lists_of_python_numbers_nearest_first() -> None:
    index = built()
    ids, distances = index.get_nns_by_item(3, 5, include_distances=True)
    assert ids[0] == 3
    assert distances == sorted(distances)
    assert {type(i) for i in ids} == {int}
    assert {type(d) for d in distances} == {float}
    assert index.get_nns_by_item(3, 5) == ids == index.get_nns_by_vector(index.get_item_vector(3), 5)


def test_dot_answers_come_largest_first() -> None:
    distances = built(metric="dot").get_nns_by_item(3, 20, 10**6, include_distances=True)[1]
    assert distances == sorted(distances, reverse=True)


@pytest.mark.parametrize("i", [-1, 50, 2**40])
def test_numbers_that_are_no_items_are_index_errors(i: int) -> None:
    for index in (filled(), built()):
        for call in (
            lambda index=index: index.get_nns_by_item(i, 1),
            lambda index=index: index.get_nns_by_items([0, i], 1),
            lambda index=index: index.get_item_vector(i),
            lambda index=index: index.get_distance(0, i),
            lambda index=index: index.get_distance(i, 0),
        ):
            with pytest.raises(IndexError):
                call()


def test_an_index_without_trees_answers_with_nothing() -> None:
    index = filled()
    assert index.get_nns_by_item(0, 3) == []
    assert index.get_nns_by_item(0, 3, include_distances=True) == ([], [])
    assert index.get_nns_by_vector([0] * 4, 3) == []
    ids, distances = index.get_nns_by_items([0], 2, -1, True)
    assert ids.tolist() == [[-1, -1]]
    assert distances.tolist() == [[np.inf, np.inf]]
    assert index.get_distance(1, 1) == 0.0
    with pytest.raises(RuntimeError, match="build"):
        index.budgets_to_find(vectors_of(1), np.zeros((1, 1), np.int64))


@pytest.mark.parametrize("metric", METRICS)
def test_batches_answer_as_single_calls_do_padded(metric: str) -> None:
    index = built(30, metric, 6)
    X = vectors_of(17, 6, seed=1)
    missing = -np.inf if metric == "dot" else np.inf
    for n in (0, 1, 10, 40):
        ids, distances = index.get_nns_by_vectors(X, n, 10**6, True)
        assert ids.shape == distances.shape == (17, n)
        assert (ids.dtype, distances.dtype) == (np.int64, np.float32)
        np.testing.assert_array_equal(ids, index.get_nns_by_vectors(X, n, 10**6))
        for row in range(17):
            expected = index.get_nns_by_vector(X[row], n, 10**6, True)
            found = len(expected[0])
            assert ids[row].tolist() == expected[0] + [-1] * (n - found)
            np.testing.assert_array_equal(distances[row], expected[1] + [missing] * (n - found))
    by_items = index.get_nns_by_items([3, 7, 3], 4, -1, True)
    for row, item in enumerate([3, 7, 3]):
        assert (by_items[0][row].tolist(), by_items[1][row].tolist()) == index.get_nns_by_item(item, 4, -1, True)


def test_batches_are_the_same_for_any_number_of_threads() -> None:
    index = built(500)
    X = vectors_of(100, seed=1)
    expected = index.get_nns_by_vectors(X, 5, n_jobs=1)
    for n_jobs in (-1, 2, 7, 1000):
        np.testing.assert_array_equal(index.get_nns_by_vectors(X, 5, n_jobs=n_jobs), expected)


@pytest.mark.parametrize("n", [-1, -100])
def test_a_negative_number_of_neighbours_is_refused(n: int) -> None:
    index = built()
    for call in (
        lambda: index.get_nns_by_item(0, n),
        lambda: index.get_nns_by_vector([0] * 4, n),
        lambda: index.get_nns_by_items([0], n),
        lambda: index.get_nns_by_vectors(vectors_of(1), n),
    ):
        with pytest.raises(ValueError, match="n must not be negative"):
            call()


def test_more_neighbours_than_any_machine_holds_are_all_items_or_a_memory_error() -> None:
    index = built()
    assert sorted(index.get_nns_by_item(0, 2**62)) == list(range(50))
    with pytest.raises((MemoryError, ValueError)):
        index.get_nns_by_items([0], 2**62)


@pytest.mark.parametrize("ids", [[0.5], ["a"], [[0]], 0, None])
def test_items_to_ask_for_must_be_a_list_of_integers(ids: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        built().get_nns_by_items(ids, 1)


@pytest.mark.parametrize(
    ("metric", "a", "b", "expected"),
    [
        ("angular", [1, 0], [0, 2], 2**0.5),
        ("angular", [1, 0], [-1, 0], 2.0),
        ("angular", [0, 0], [1, 0], 2**0.5),
        ("euclidean", [1, 2], [4, 6], 5.0),
        ("manhattan", [1, 2], [4, 6], 7.0),
        ("hamming", [1, 0], [0, 0], 1.0),
        ("dot", [1, 2], [4, 6], 16.0),
    ],
)
def test_distances_are_annoys(metric: str, a: list[float], b: list[float], expected: float) -> None:
    index = AnnoyIndex(2, metric)
    index.add_item(0, a)
    index.add_item(1, b)
    assert index.get_distance(0, 1) == index.get_distance(1, 0) == pytest.approx(expected, rel=1e-6)
    index.build(1)
    ids, distances = index.get_nns_by_item(0, 2, -2, include_distances=True)
    assert dict(zip(ids, distances, strict=True))[1] == index.get_distance(0, 1)


def test_what_looks_equally_far_is_ordered_by_number() -> None:
    """Squares that differ may have one root: the order must be of what users see."""
    index = built(3000, "euclidean", 3)
    ids, distances = index.get_nns_by_vectors(vectors_of(50, 3, seed=2), 3000, 10**7, True)
    ties = np.diff(distances, axis=1) == 0
    assert ties.any()
    assert (np.diff(ids, axis=1)[ties] > 0).all()


@pytest.mark.parametrize("metric", METRICS)
def test_budgets_to_find_are_the_least_that_find(metric: str) -> None:
    index = built(200, metric, 6)
    X = vectors_of(10, 6, seed=3)
    targets = index.get_nns_by_vectors(X, 4, -2)
    targets[:, 3] = -1
    budgets = index.budgets_to_find(X, targets)
    assert (budgets.dtype, budgets.shape) == (np.int64, (10, 4))
    assert (budgets[:, 3] == -1).all()
    for row in range(10):
        for target, budget in zip(targets[row, :3].tolist(), budgets[row, :3].tolist(), strict=True):
            assert target in index.get_nns_by_vector(X[row], 200, budget)
            assert target not in index.get_nns_by_vector(X[row], 200, budget - 1)


@pytest.mark.parametrize("targets", [np.zeros(1, np.int64), np.zeros((2, 1), np.int64), np.int64(0)])
def test_targets_of_another_shape_are_refused(targets: Any) -> None:
    with pytest.raises(ValueError, match=r"shape \(1, k\)"):
        built().budgets_to_find(vectors_of(1), targets)

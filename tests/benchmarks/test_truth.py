from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import dask_annoy
from benchmarks import truth as module
from benchmarks.truth import Truth, exact_truth

K = 3


def brute_force(items: np.ndarray, queries: np.ndarray, metric: str, k: int) -> list[set[int]]:
    """Every pair in float64, one by one; small whole numbers, so that all but angular is exact."""
    accepted = []
    for query in queries:
        if metric == "hamming":
            far = [float(np.bitwise_count(query ^ item).sum()) for item in items]
        elif metric == "dot":
            far = [-float(np.dot(query.astype(float), item.astype(float))) for item in items]
        elif metric == "euclidean":
            far = [float(np.square(query.astype(float) - item).sum()) for item in items]
        else:
            far = [float(1 - cosine(query, item)) for item in items]
        limit = sorted(far)[k - 1] + (1e-6 if metric == "angular" else 0)
        accepted.append({number for number, distance in enumerate(far) if distance <= limit})
    return accepted


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.sqrt(float(one @ one) * float(other @ other)))


def sets(truth: Truth) -> list[set[int]]:
    return [set(part.tolist()) for part in np.split(truth.ids, truth.offsets[1:-1])]


@pytest.mark.parametrize("metric", ["euclidean", "dot", "hamming", "angular"])
@given(data=st.data())
def test_all_items_tied_with_the_kth_nearest_are_right_answers(metric: str, data: st.DataObject) -> None:
    n, m = data.draw(st.integers(K, 30)), data.draw(st.integers(1, 5))
    if metric == "hamming":
        rows = data.draw(arrays.arrays(np.uint8, (n + m, 2)))
    else:
        rows = data.draw(arrays.arrays(np.int8, (n + m, 4), elements=st.integers(1, 3))).astype(np.float32)
    items, queries = rows[:n], rows[n:]
    assert sets(exact_truth(items, queries, metric, K)) == brute_force(items, queries, metric, K)


def test_blocks_of_queries_make_no_difference(digits: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    items, queries = digits[:1000], digits[1000:1100]
    whole = exact_truth(items, queries, "euclidean")
    monkeypatch.setattr(module, "BLOCK_VALUES", 7 * len(items))
    parts = exact_truth(items, queries, "euclidean")
    np.testing.assert_array_equal(whole.ids, parts.ids)
    np.testing.assert_array_equal(whole.offsets, parts.offsets)


@pytest.mark.parametrize("metric", ["angular", "euclidean", "dot"])
def test_an_exact_search_by_other_means_has_a_recall_of_one(metric: str, text_vectors: np.ndarray) -> None:
    items, queries = text_vectors[:1500], text_vectors[1500:]
    found = dask_annoy.exact_neighbors(items, queries, metric=metric, client=False)
    assert exact_truth(items, queries, metric).recall(found.ids) == 1.0


def tied() -> Truth:
    """Two queries: the first has five right answers for three places, the second three."""
    return Truth(3, 10, np.array([0, 5, 8]), np.array([0, 1, 2, 3, 4, 7, 8, 9]))


@pytest.mark.parametrize("first", [[0, 1, 2], [4, 3, 2], [1, 0, 4]])
def test_recall_does_not_depend_on_how_ties_are_broken(first: list[int]) -> None:
    assert tied().recall([first, [9, 8, 7]]) == 1.0


def test_an_item_that_is_named_twice_counts_once() -> None:
    assert tied().recall([[0, 0, 0], [7, 8, 9]]) == pytest.approx(4 / 6)


def test_places_left_empty_find_nothing() -> None:
    assert tied().recall([[0, -1, -1], [-1, -1, -1]]) == pytest.approx(1 / 6)


def test_a_neighbour_of_another_query_is_no_hit() -> None:
    assert tied().recall([[7, 8, 9], [0, 1, 2]]) == 0.0


def test_answers_longer_than_k_are_worth_no_more_than_k() -> None:
    assert tied().recall([[0, 1, 2, 3, 4], [5, 6, 5, 6, 5]]) == pytest.approx(3 / 6)


def test_answers_to_another_number_of_queries_are_refused() -> None:
    with pytest.raises(ValueError, match="1 rows of answers; expected one for each of 2"):
        tied().recall([[0, 1, 2]])


def test_fewer_items_than_places_are_refused() -> None:
    with pytest.raises(ValueError, match="2 items; expected at least k = 3"):
        exact_truth(np.ones((2, 4)), np.ones((1, 4)), "euclidean", 3)


def test_a_truth_comes_back_from_its_file(tmp_path: Path) -> None:
    tied().save(tmp_path / "truth.npz")
    again = Truth.load(tmp_path / "truth.npz")
    assert (again.k, again.n_items) == (3, 10)
    np.testing.assert_array_equal(again.offsets, tied().offsets)
    np.testing.assert_array_equal(again.ids, tied().ids)

"""Exact search, merging and digests against numpy and scikit-learn."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from dask_annoy import AnnoyIndex
from dask_annoy._native import ExactSearch, digest_rows, merge_rows

quick = settings(deadline=None, derandomize=True, max_examples=60)


def exact(
    queries: NDArray[np.float32], rows: NDArray[np.float32], metric: str, k: int, block: int = 1000
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    search = ExactSearch(queries, metric, rows.shape[1], k)
    for first in range(0, len(rows), block):
        search.add(rows[first : first + block], first)
    return search.answers()


def all_distances(queries: NDArray[np.float32], rows: NDArray[np.float32], metric: str) -> NDArray[np.float64]:
    """By the formulas, in double precision; for dot negated."""
    q, x = queries.astype(np.float64), rows.astype(np.float64)
    if metric == "dot":
        return -(q @ x.T)
    if metric == "angular":
        q, x = q / np.linalg.norm(q, axis=1)[:, None], x / np.linalg.norm(x, axis=1)[:, None]
    difference = q[:, None, :] - x[None, :, :]
    if metric == "manhattan":
        return np.abs(difference).sum(axis=2)
    if metric == "hamming":
        return (difference != 0).sum(axis=2).astype(np.float64)
    return np.sqrt((difference**2).sum(axis=2))


@pytest.mark.parametrize("metric", ["angular", "euclidean", "manhattan", "hamming", "dot"])
@pytest.mark.parametrize("width", [1, 31, 64, 100])
def test_exact_neighbours_are_numpys(metric: str, width: int) -> None:
    rng = np.random.default_rng(width)
    rows, queries = rng.normal(size=(600, width)).astype("f4"), rng.normal(size=(30, width)).astype("f4")
    if metric == "hamming":
        rows, queries = (rows > 0).astype("f4"), (queries > 0).astype("f4")
    ids, distances = exact(queries, rows, metric, 12, block=77)
    truth = all_distances(queries, rows, metric)
    expected = np.sort(truth, axis=1)[:, :12]
    returned = -distances if metric == "dot" else distances
    np.testing.assert_allclose(returned, expected, rtol=1e-5, atol=1e-3 if metric == "angular" else 1e-4)
    np.testing.assert_allclose(np.take_along_axis(truth, ids, 1), expected, rtol=1e-5, atol=1e-4)
    # The order is (distance, id).
    ties = np.diff(distances, axis=1) == 0
    assert (np.diff(ids, axis=1)[ties] > 0).all()


@pytest.mark.parametrize("metric", ["euclidean", "manhattan"])
def test_exact_neighbours_are_scikit_learns(metric: str) -> None:
    rng = np.random.default_rng(3)
    rows, queries = rng.normal(size=(1000, 20)).astype("f4"), rng.normal(size=(40, 20)).astype("f4")
    expected = NearestNeighbors(n_neighbors=10, algorithm="brute", metric=metric).fit(rows)
    distances, ids = expected.kneighbors(queries)
    found = exact(queries, rows, metric, 10)
    np.testing.assert_array_equal(found[0], ids)
    np.testing.assert_allclose(found[1], distances, rtol=1e-4)


@pytest.mark.parametrize("metric", ["angular", "euclidean", "manhattan", "hamming", "dot"])
def test_an_index_searched_without_bound_returns_the_exact_answer_to_the_last_bit(metric: str) -> None:
    rng = np.random.default_rng(4)
    rows, queries = rng.normal(size=(500, 17)).astype("f4"), rng.normal(size=(20, 17)).astype("f4")
    index = AnnoyIndex(17, metric)
    index.add_items(rows)
    index.build(2)
    for mine, its in zip(index.get_nns_by_vectors(queries, 9, -2, True), exact(queries, rows, metric, 9), strict=True):
        np.testing.assert_array_equal(mine, its)


def test_fewer_rows_than_neighbours_are_padded() -> None:
    for metric, missing in (("euclidean", np.inf), ("dot", -np.inf)):
        ids, distances = exact(np.ones((2, 3), "f4"), np.ones((1, 3), "f4"), metric, 3)
        np.testing.assert_array_equal(ids, [[0, -1, -1]] * 2)
        np.testing.assert_array_equal(distances[:, 1:], np.full((2, 2), missing))
    assert exact(np.empty((0, 3), "f4"), np.ones((1, 3), "f4"), "dot", 3)[0].shape == (0, 3)
    assert exact(np.ones((2, 3), "f4"), np.ones((1, 3), "f4"), "dot", 0)[0].shape == (2, 0)


def test_packed_bits_mean_what_unpacked_ones_do() -> None:
    rng = np.random.default_rng(5)
    for width in (1, 7, 8, 63, 64, 65, 100):
        rows, queries = rng.integers(0, 2, (200, width)), rng.integers(0, 2, (10, width))
        plain = exact(queries.astype("f4"), rows.astype("f4"), "hamming", 5)
        search = ExactSearch(np.packbits(queries.astype(bool), axis=1), "hamming", width, 5, packed=True)
        search.add(np.packbits(rows.astype(bool), axis=1), 0, packed=True)
        for a, b in zip(plain, search.answers(), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e39])
def test_values_that_are_not_finite_are_refused_with_their_place(bad: float) -> None:
    rows = np.ones((5, 3))
    rows[3, 1] = bad
    search = ExactSearch(np.ones((1, 3)), "euclidean", 3, 1)
    with np.errstate(over="ignore"), pytest.raises(ValueError, match="row 3, column 1"):
        search.add(rows, 0)
    with np.errstate(over="ignore"), pytest.raises(ValueError, match="row 3, column 1"):
        ExactSearch(rows, "euclidean", 3, 1)


def test_arguments_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="width"):
        ExactSearch(np.empty((1, 0)), "hamming", 0, 1)
    with pytest.raises(ValueError, match="No such metric"):
        ExactSearch(np.ones((1, 3)), "cosine", 3, 1)
    search = ExactSearch(np.ones((1, 3)), "euclidean", 3, 1)
    for shape in ((3,), (2, 4), (1, 2, 3), ()):
        with pytest.raises(ValueError, match=r"shape \(n, 3\)"):
            search.add(np.ones(shape), 0)
    for n_jobs in (0, -2):
        with pytest.raises(ValueError, match="n_jobs"):
            search.add(np.ones((1, 3)), 0, n_jobs=n_jobs)
    with pytest.raises(ValueError, match="hamming"):
        search.add(np.ones((1, 1), np.uint8), 0, packed=True)


@quick
@given(
    rows=st.integers(0, 4),
    columns=st.integers(0, 9),
    k=st.integers(0, 12),
    larger=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_merging_is_numpys_sort_by_distance_and_key(rows: int, columns: int, k: int, larger: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    distances = rng.choice(np.array([0, 1, 2, np.inf, -np.inf, np.nan], "f4"), (rows, columns))
    keys = np.array([rng.permutation(columns) for _ in range(rows)], np.int64).reshape(rows, columns)
    keys[rng.random((rows, columns)) < 0.2] = -1
    picked = merge_rows(distances, keys, k, larger_is_better=larger)
    assert picked.dtype == np.int32
    assert picked.shape == (rows, k)
    for row in range(rows):
        hits = [c for c in range(columns) if keys[row, c] >= 0 and not np.isnan(distances[row, c])]
        hits.sort(key=lambda c: (-distances[row, c] if larger else distances[row, c], keys[row, c]))
        assert picked[row].tolist() == (hits + [-1] * k)[:k]


def test_merging_refuses_arrays_that_do_not_fit() -> None:
    for distances, keys in (((2, 3), (2, 4)), ((2, 3), (3, 3)), ((3,), (3,))):
        with pytest.raises(ValueError, match="one shape"):
            merge_rows(np.zeros(distances, "f4"), np.zeros(keys, "i8"), 1)


@quick
@given(cuts=st.lists(st.integers(0, 50), max_size=6), first=st.integers(0, 2**40), seed=st.integers(0, 99))
def test_a_digest_does_not_depend_on_how_rows_were_cut(cuts: list[int], first: int, seed: int) -> None:
    rows = np.random.default_rng(seed).normal(size=(50, 5)).astype("f4")
    edges = [0, *sorted(cuts), 50]
    parts = [digest_rows(rows[a:b], first + a) for a, b in itertools.pairwise(edges)]
    assert sum(parts) % 2**128 == digest_rows(rows, first)


def test_a_digest_tells_changed_moved_and_missing_rows() -> None:
    rows = np.arange(40, dtype="f4").reshape(8, 5)
    changed = rows.copy()
    changed[7, 4] = np.nextafter(changed[7, 4], np.float32(100))
    digests = {
        digest_rows(rows),
        digest_rows(rows, 1),
        digest_rows(changed),
        digest_rows(rows[::-1].copy()),
        digest_rows(rows[:7]),
        digest_rows(rows.reshape(5, 8)),
    }
    assert len(digests) == 6
    assert digest_rows(rows[:0]) == 0
    assert 0 <= digest_rows(rows) < 2**128


def test_a_digest_refuses_what_has_no_rows_in_sequence() -> None:
    with pytest.raises(ValueError, match="contiguous"):
        digest_rows(np.ones((4, 4))[:, ::2])
    with pytest.raises(ValueError, match="two dimensions"):
        digest_rows(np.ones(4))

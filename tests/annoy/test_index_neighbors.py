"""Neighbours are scikit-learn's, in its order, and always as many as there are."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from dask_annoy import AnnoyIndex, Index

Vectors = NDArray[np.float32]
EXACT = 10**6  # a search budget of many times all items


def pair(answer: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    assert isinstance(answer, tuple)
    return cast("tuple[NDArray[Any], NDArray[Any]]", answer)


@pytest.mark.parametrize("metric", ["euclidean", "manhattan", "cosine"])
@pytest.mark.parametrize("own", [False, True])
def test_kneighbors_are_those_of_scikit_learn(metric: str, own: bool, vectors: Vectors) -> None:
    index = Index(metric=metric, n_neighbors=7).fit(vectors, n_trees=5)
    truth = NearestNeighbors(n_neighbors=7, metric=metric, algorithm="brute").fit(vectors.astype(np.float64))
    X = None if own else vectors[:50] + np.float32(0.1)
    distances, ids = pair(index.kneighbors(X, search_k=EXACT))
    expected_distances, expected = truth.kneighbors(X)
    if metric == "cosine":  # Annoy's angular distance is the square root of twice scikit-learn's
        expected_distances = np.sqrt(2 * expected_distances)
    np.testing.assert_array_equal(ids, expected)
    np.testing.assert_allclose(distances, expected_distances, rtol=1e-3, atol=1e-3)
    assert (ids.dtype, distances.dtype) == (np.int64, np.float32)
    np.testing.assert_array_equal(index.kneighbors(X, return_distance=False, search_k=EXACT), expected)
    np.testing.assert_array_equal(index.kneighbors(X, 3, False, search_k=EXACT), expected[:, :3])
    graph = index.kneighbors_graph(X, search_k=EXACT)
    assert graph.shape == (len(ids), 500)
    np.testing.assert_array_equal(graph.toarray(), truth.kneighbors_graph(X).toarray())
    weighted = index.kneighbors_graph(X, 3, "distance", search_k=EXACT)
    np.testing.assert_allclose(np.sort(weighted.data.reshape(-1, 3)), distances[:, :3], rtol=1e-6)


def test_dot_products_come_largest_first(vectors: Vectors) -> None:
    index = Index(metric="dot").fit(vectors)
    distances, ids = pair(index.kneighbors(vectors[:20], 4, search_k=EXACT))
    products = vectors[:20] @ vectors.T
    np.testing.assert_array_equal(ids, np.argsort(-products, axis=1)[:, :4])
    np.testing.assert_allclose(distances, -np.sort(-products, axis=1)[:, :4], rtol=1e-4)


def test_a_batch_is_one_native_search(vectors: Vectors, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    search = AnnoyIndex.get_nns_by_vectors

    def counted(self: Any, X: Any, *args: Any, **options: Any) -> Any:
        calls.append(len(X))
        return search(self, X, *args, **options)

    index = Index().fit(vectors)
    monkeypatch.setattr(AnnoyIndex, "get_nns_by_vectors", counted, raising=False)
    index.kneighbors(vectors)
    index.transform(vectors)
    assert calls == [500, 500]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_queries_are_checked(value: float, vectors: Vectors) -> None:
    index = Index().fit(vectors)
    bad = vectors[:3].copy()
    bad[1, 2] = value
    for ask in (index.kneighbors, index.transform, index.kneighbors_graph):
        with pytest.raises(ValueError, match="row 1, column 2"):
            ask(bad)
    with pytest.raises(ValueError, match="column 2"):
        index.query_by_vector(bad[1])
    with pytest.raises(ValueError, match="shape"):
        index.kneighbors(vectors[:, :5])


@pytest.mark.parametrize("search_k", [1, 5, -1])
@pytest.mark.parametrize("metric", ["euclidean", "hamming", "dot"])
def test_rows_are_full_however_small_the_budget(search_k: int, metric: str, vectors: Vectors) -> None:
    index = Index(metric=metric)
    index.add_items(vectors, np.arange(500) * 3)
    index.build(1)
    for n in (1, 300, 500):
        _, ids = pair(index.kneighbors(vectors[:5], n, search_k=search_k))
        assert all(len(set(row)) == n for row in ids.tolist())
        assert set(ids.ravel().tolist()) <= set(index)
    kept = np.arange(0, 300, 3)
    _, ids = pair(index.kneighbors(vectors[:5], 100, search_k=search_k, include_item_ids=kept))
    np.testing.assert_array_equal(np.sort(ids, axis=1), np.tile(kept, (5, 1)))
    _, ids = pair(index.kneighbors(vectors[:5], 400, search_k=search_k, exclude_item_ids=kept))
    np.testing.assert_array_equal(np.sort(ids, axis=1), np.tile(np.setdiff1d(list(index), kept), (5, 1)))


def test_too_few_items_are_an_error_and_a_short_answer_for_one_query(vectors: Vectors) -> None:
    index = Index().fit(vectors[:10])
    with pytest.raises(ValueError, match="11 neighbours were asked for, but for row 0 only 10"):
        index.kneighbors(vectors[:2], 11)
    with pytest.raises(ValueError, match="only 9"):
        index.kneighbors(n_neighbors=10)
    with pytest.raises(ValueError, match="only 6"):
        index.transform(vectors[:2], n_neighbors=7, exclude_items=[1, 2, 3, 4])
    with pytest.raises(ValueError, match="only 9"):
        index.transform([3], n_neighbors=10, input_type="item", exclude_self=True)
    assert len(index.query_by_item(0, 50)) == 10
    assert len(index.query_by_item(0, 50, exclude_self=True)) == 9


def test_an_index_that_is_not_built_refuses_to_answer(vectors: Vectors) -> None:
    index = Index()
    index.add_items(vectors)
    for ask in (
        index.kneighbors,
        index.transform,
        lambda X: index.query_by_vector(X[0]),
        lambda _: index.query_by_item(0),
    ):
        with pytest.raises(RuntimeError, match="hasn't been built: call build"):
            ask(vectors)


@pytest.mark.parametrize("metric", ["angular", "euclidean", "manhattan", "hamming", "dot"])
def test_an_item_is_left_out_of_its_own_neighbours(metric: str, vectors: Vectors) -> None:
    twins = np.repeat(vectors[:20], 4, axis=0)
    index = Index(metric=metric).fit(twins, n_trees=3)
    for n in (1, 3, 60):
        for ids in (
            index.kneighbors(n_neighbors=n, return_distance=False),
            index.transform(np.arange(80), n_neighbors=n, input_type="item", exclude_self=True),
        ):
            assert ids.shape == (80, n)  # type: ignore[union-attr]
            assert not (ids == np.arange(80)[:, None]).any()
    assert 5 not in index.query_by_item(5, 79, exclude_self=True)


@pytest.mark.parametrize("metric", ["angular", "euclidean", "manhattan", "hamming", "dot"])
def test_a_vector_that_is_there_loses_one_hit_and_another_none(metric: str, vectors: Vectors) -> None:
    index = Index(metric=metric).fit(vectors, n_trees=3)
    stored = index.to_numpy()
    found = index.query_by_vector(stored[7], 500, search_k=EXACT, exclude_self=True)
    assert len(found) == 499
    left_out = set(range(500)) - set(np.asarray(found).tolist())
    assert all((stored[item] == stored[7]).all() for item in left_out)
    absent = np.where(stored[7] > 0.5, 0, 1).astype(np.float32) if metric == "hamming" else stored[7] * 1.5
    if not (stored == absent).all(axis=1).any():
        for n in (1, 5):
            kept = index.query_by_vector(absent, n, search_k=EXACT, exclude_self=True)
            assert len(kept) == n  # not n + 1
            np.testing.assert_array_equal(kept, index.query_by_vector(absent, n, search_k=EXACT))


@given(st.data())
def test_queries_obey_their_exclusions(data: st.DataObject) -> None:
    rows = np.random.default_rng(1).integers(0, 3, (40, 3))
    index = Index(metric="l2").fit(rows, n_trees=2)
    excluded = data.draw(st.lists(st.integers(0, 39), unique=True, max_size=38))
    own = data.draw(st.booleans())
    item = data.draw(st.integers(0, 39))
    n = data.draw(st.integers(1, 40))
    allowed = [i for i in range(40) if i not in excluded and not (own and i == item)]
    expected = sorted(allowed, key=lambda i: (((rows[i] - rows[item]) ** 2).sum(), i))[:n]
    ids, distances = pair(
        index.query_by_item(
            item, n, search_k=EXACT, include_distances=True, exclude_self=own, exclude_item_ids=np.array(excluded, int)
        )
    )
    assert ids.tolist() == expected
    np.testing.assert_allclose(distances, np.linalg.norm(rows[expected] - rows[item], axis=1), rtol=1e-6)


def test_neighbours_come_as_vectors_when_asked(vectors: Vectors) -> None:
    index = Index().fit(vectors, n_trees=3)
    _, ids = pair(index.kneighbors(vectors[:4]))
    np.testing.assert_array_equal(index.kneighbors(vectors[:4], output_type="vector")[1], vectors[ids])
    np.testing.assert_array_equal(index.query_vectors_by_item(3), vectors[index.query_by_item(3)])
    neighbors, distances = pair(index.query_vectors_by_vector(vectors[3], 4, include_distances=True))
    np.testing.assert_array_equal(neighbors, vectors[index.query_by_vector(vectors[3], 4)])
    assert distances.shape == (4,)
    np.testing.assert_array_equal(
        index.query_vectors_by_item(3, output_type="item", exclude_self=True), index.query_by_item(3, exclude_self=True)
    )
    with pytest.raises(ValueError, match="output_type"):
        index.kneighbors(vectors, output_type=cast("Any", "id"))
    with pytest.raises(ValueError, match="mode"):
        index.kneighbors_graph(vectors, mode=cast("Any", "weights"))


def test_numbers_that_are_no_items_are_refused(vectors: Vectors) -> None:
    index = Index().fit(vectors)
    for number in (500, -1, 2**40):
        with pytest.raises(IndexError):
            index.query_by_item(number)
        with pytest.raises(IndexError):
            index.transform([number], input_type="item")
        with pytest.raises(IndexError):
            index.kneighbors(vectors, exclude_item_ids=[number])
    for far in (2**70, np.uint64(2**63 + 4), np.uint64(2**64 - 1)):
        with pytest.raises(IndexError, match=str(far)):
            index.query_by_item(far)
        with pytest.raises(IndexError, match=str(far)):
            index.add_items(vectors[:1], ids=[far])
    with pytest.raises(ValueError, match="integers"):
        index.query_by_item(1.5)  # type: ignore[arg-type]


def test_the_columns_of_a_graph_are_item_numbers(vectors: Vectors) -> None:
    index = Index()
    index.add_items(vectors[:5], [0, 10, 20, 30, 40])
    graph = index.build(2).kneighbors_graph(n_neighbors=4)
    assert graph.shape == (5, 41)
    assert sorted(set(graph.indices.tolist())) == [0, 10, 20, 30, 40]


def test_no_queries_have_no_neighbours(vectors: Vectors) -> None:
    index = Index().fit(vectors)
    for own in (False, True):
        distances, ids = pair(index.kneighbors(np.zeros((0, 12)), 3, exclude_self=own))
        assert distances.shape == ids.shape == (0, 3)
    assert index.kneighbors_graph(np.zeros((0, 12))).shape == (0, 500)


def test_a_budget_spent_on_repeated_candidates_does_not_leave_rows_short(vectors: Vectors) -> None:
    index = Index(metric="l2").fit(vectors[:200], n_trees=50)
    for search_k in (200, 201, 1000):  # at least the items, but each is a candidate of every tree
        ids = index.transform(vectors[:20], n_neighbors=200, search_k=search_k)
        np.testing.assert_array_equal(np.sort(ids, axis=1), np.tile(np.arange(200), (20, 1)))

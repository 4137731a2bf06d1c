"""Searches restricted to some items, or kept from some."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dask_annoy import AnnoyIndex

from .conftest import METRICS

N, WIDTH = 3000, 8


def index_and_vectors(metric: str, n: int = N) -> tuple[AnnoyIndex, np.ndarray]:
    vectors = np.random.default_rng(0).normal(size=(n, WIDTH)).astype(np.float32)
    index = AnnoyIndex(WIDTH, metric)
    index.add_items(vectors)
    index.build(5)
    return index, vectors


def exact(index: AnnoyIndex, query: np.ndarray, n: int, passing: np.ndarray) -> list[int]:
    ids = index.get_nns_by_vector(query, index.get_n_items(), -2)
    return [i for i in ids if passing[i]][:n]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("share", [0.001, 0.1, 0.6, 1.0])
def test_masks_and_numbers_included_or_excluded_say_the_same(metric: str, share: float) -> None:
    index, vectors = index_and_vectors(metric)
    passing = np.random.default_rng(1).random(N) < share
    inside, outside = np.flatnonzero(passing), np.flatnonzero(~passing)
    forms: list[dict[str, Any]] = [
        {"include": passing},
        {"include": inside.tolist()},
        {"include": np.repeat(inside, 2).astype(np.uint16)},
        {"exclude": ~passing},
        {"exclude": outside},
        {"include": np.ones(N, bool), "exclude": list(~passing)},
    ]
    expected = [exact(index, query, 10, passing) for query in vectors[:5]]
    for search_k in (-2, 5 * N):
        for form in forms:
            assert [index.get_nns_by_vector(q, 10, search_k, **form) for q in vectors[:5]] == expected
            assert [index.get_nns_by_item(i, 10, search_k, **form) for i in range(5)] == expected
            padded = [ids + [-1] * (10 - len(ids)) for ids in expected]
            assert index.get_nns_by_vectors(vectors[:5], 10, search_k, **form).tolist() == padded
            assert index.get_nns_by_items(range(5), 10, search_k, **form).tolist() == padded


def test_a_small_budget_answers_with_items_that_pass_only() -> None:
    index, vectors = index_and_vectors("angular")
    passing = np.arange(N) % 2 == 0
    ids = index.get_nns_by_vectors(vectors[:50], 10, 100, include=passing)
    assert (ids >= 0).all()
    assert passing[ids].all()


def test_few_items_that_pass_are_answered_exactly_with_the_smallest_budget() -> None:
    index, vectors = index_and_vectors("euclidean")
    passing = np.zeros(N, bool)
    passing[::4] = True
    for query in vectors[:20]:
        assert index.get_nns_by_vector(query, 10, 1, include=passing) == exact(index, query, 10, passing)


def test_nothing_passes() -> None:
    index, vectors = index_and_vectors("dot", 100)
    assert index.get_nns_by_item(0, 3, include=[]) == []
    assert index.get_nns_by_item(0, 3, exclude=range(100)) == []
    ids, distances = index.get_nns_by_vectors(vectors[:2], 3, include=[], include_distances=True)
    assert (ids == -1).all()
    assert (distances == -np.inf).all()


def test_an_item_can_be_kept_from_its_own_answer() -> None:
    index, _ = index_and_vectors("euclidean", 200)
    assert index.get_nns_by_item(7, 4, exclude=[7]) == index.get_nns_by_item(7, 5, -2)[1:]


def test_holes_are_not_answered_even_if_included() -> None:
    index = AnnoyIndex(2, "euclidean")
    index.add_items([[1, 0], [2, 0]], [2, 5])
    index.build(2)
    assert index.get_nns_by_vector([0, 0], 6, include=range(6)) == [2, 5]
    assert index.get_nns_by_vector([0, 0], 6, include=[0, 5]) == [5]


@pytest.mark.parametrize("name", ["include", "exclude"])
@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ([1, 100], IndexError, "item 100"),
        ([-1], IndexError, "item -1"),
        (np.ones(99, bool), ValueError, "99 values, the index 100 items"),
        ([1.5], TypeError, "mask of bool or item numbers"),
        (["a"], TypeError, "mask of bool or item numbers"),
        ([[1]], TypeError, "one dimension"),
        (3, TypeError, "one dimension"),
    ],
)
def test_what_names_no_items_is_refused(name: str, value: object, error: type[Exception], message: str) -> None:
    index, vectors = index_and_vectors("euclidean", 100)
    form: dict[str, Any] = {name: value}
    with pytest.raises(error, match=message):
        index.get_nns_by_item(0, 3, **form)
    with pytest.raises(error, match=message):
        index.get_nns_by_vector(vectors[0], 3, **form)
    with pytest.raises(error, match=message):
        index.get_nns_by_vectors(vectors[:2], 3, **form)
    with pytest.raises(error, match=message):
        index.get_nns_by_items([0, 1], 3, **form)


def test_an_index_without_trees_answers_with_nothing_but_checks_the_numbers() -> None:
    index = AnnoyIndex(2, "euclidean")
    index.add_items(np.zeros((3, 2), np.float32))
    assert index.get_nns_by_item(0, 3, include=[1]) == []
    with pytest.raises(IndexError, match="item 3"):
        index.get_nns_by_item(0, 3, include=[3])

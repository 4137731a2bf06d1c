"""All items within a distance."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dask_annoy import AnnoyIndex

from .conftest import METRICS

N, WIDTH = 2000, 12


def index_and_vectors(metric: str) -> tuple[AnnoyIndex, np.ndarray]:
    vectors = np.random.default_rng(0).normal(size=(N, WIDTH)).astype(np.float32)
    index = AnnoyIndex(WIDTH, metric)
    index.add_items(vectors)
    index.build(5)
    return index, vectors


@pytest.mark.parametrize("metric", METRICS)
def test_everything_within_the_radius_is_found_nearest_first(metric: str) -> None:
    index, vectors = index_and_vectors(metric)
    for i in range(10):
        ids, distances = index.get_nns_by_item(i, N, -2, include_distances=True)
        radius = distances[150]
        inside = [d >= radius if metric == "dot" else d <= radius for d in distances]
        expected = (ids[: sum(inside)], distances[: sum(inside)])
        assert index.get_nns_within_by_item(i, radius, include_distances=True) == expected
        assert index.get_nns_within_by_vector(vectors[i], radius) == expected[0]
        assert index.get_nns_within_by_vector(vectors[i], radius, 20, include_distances=True) == (
            ids[:20],
            distances[:20],
        )


def test_a_budget_bounds_the_search() -> None:
    index, vectors = index_and_vectors("euclidean")
    some = index.get_nns_within_by_vector(vectors[0], math.inf, search_k=200)
    assert 0 < len(some) < N
    assert len(index.get_nns_within_by_vector(vectors[0], math.inf)) == N


def test_the_radius_reaches_nothing_below_zero_and_everything_at_infinity() -> None:
    index, _ = index_and_vectors("euclidean")
    assert index.get_nns_within_by_item(3, -1.0) == []
    assert index.get_nns_within_by_item(3, 0.0) == [3]
    assert len(index.get_nns_within_by_item(3, math.inf)) == N


def test_include_and_exclude_apply() -> None:
    index, _ = index_and_vectors("dot")
    passing = np.arange(N) % 3 == 0
    expected = [i for i in index.get_nns_within_by_item(0, 2.0) if passing[i]]
    assert index.get_nns_within_by_item(0, 2.0, include=passing) == expected
    assert index.get_nns_within_by_item(0, 2.0, exclude=~passing) == expected


def test_a_radius_of_nan_and_a_negative_limit_are_refused() -> None:
    index, vectors = index_and_vectors("euclidean")
    with pytest.raises(ValueError, match="radius must be a number, got NaN"):
        index.get_nns_within_by_vector(vectors[0], math.nan)
    with pytest.raises(ValueError, match="radius must be a number, got NaN"):
        index.get_nns_within_by_item(0, math.nan)
    with pytest.raises(ValueError, match="limit must be"):
        index.get_nns_within_by_item(0, 1.0, -2)
    with pytest.raises(IndexError):
        index.get_nns_within_by_item(N, 1.0)

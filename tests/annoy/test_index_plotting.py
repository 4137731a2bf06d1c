"""Pictures of an index show its items where their principal components put them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from dask_annoy import Index
from dask_annoy.annoy.plotting import principal_components

Vectors = NDArray[np.float32]


@pytest.fixture(autouse=True)
def closed_figures() -> Iterator[None]:
    mpl.use("agg")
    from matplotlib import pyplot as plt

    yield
    plt.close("all")


@given(st.integers(3, 40), st.integers(2, 9), st.integers(0, 99))
def test_components_are_those_of_scikit_learn(n: int, width: int, seed: int) -> None:
    rows = np.random.default_rng(seed).normal(size=(n, width)) * np.arange(1, width + 1) ** 2
    dims = min(n - 1, width)
    ours = principal_components(rows, tuple(range(dims)))
    theirs = PCA(dims).fit_transform(rows)
    # An axis may point either way.
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), atol=1e-6 * np.abs(rows).max())


def test_components_that_are_not_there_are_zero() -> None:
    assert principal_components([[1.0], [2.0]]).tolist() == [[-0.5, 0.0], [0.5, 0.0]]
    assert principal_components(np.zeros((0, 3))).shape == (0, 2)
    assert principal_components(np.ones((3, 2))).tolist() == [[0.0, 0.0]] * 3
    np.testing.assert_allclose(principal_components([[3.0, 4.0]], center=False), [[5.0, 0.0]])


def test_a_plot_shows_the_items_and_says_where(vectors: Vectors) -> None:
    index = Index()
    index.add_items(vectors, np.arange(500) * 2)
    points, ids, ax = index.plot_index()
    np.testing.assert_allclose(points, principal_components(vectors))
    assert ids.tolist() == list(index)
    np.testing.assert_allclose(ax.collections[0].get_offsets(), points)
    assert ax.get_title() == "500 items, angular"
    some, ids, same = index.plot_index(ids=[4, 0], dims=(1, 2), ax=ax, title="two", plot_kwargs={"s": 50})
    assert (ids.tolist(), some.shape, same is ax, ax.get_title()) == ([4, 0], (2, 2), True, "two")
    assert ax.collections[1].get_sizes().tolist() == [50]
    assert ax.get_xlabel() == "component 1"


def test_rows_are_scaled_as_wanted(vectors: Vectors) -> None:
    rows = vectors * np.arange(12)
    index = Index(metric="l2").fit(rows)
    largest = np.abs(rows).max(axis=0)
    scaled = rows / np.where(largest == 0, 1, largest)
    unit = scaled / np.linalg.norm(scaled, axis=1, keepdims=True)
    points, _, _ = index.plot_index(maxabs=True, l2_normalize=True, center=False)
    np.testing.assert_allclose(points, principal_components(unit, center=False), atol=1e-5)


@pytest.mark.parametrize("labels", [["b", "a"] * 250, np.arange(500) % 2 == 0, np.arange(500) % 2])
def test_labels_are_colours(labels: Any, vectors: Vectors) -> None:
    for ax in (Index().fit(vectors).plot_index(labels)[2], Index().fit(vectors, labels).plot_index()[2]):
        colours = ax.collections[0].get_array()
        assert len(set(colours[::2].tolist())) == len(set(colours[1::2].tolist())) == 1
        assert colours[0] != colours[1]


def test_edges_join_the_points_of_neighbours(vectors: Vectors) -> None:
    index = Index(metric="l2").fit(vectors[:40], n_trees=5)
    points, _, ax = index.plot_index()
    assert index.plot_knn_edges(points, k=3, search_k=10**5, line_kwargs={"linewidths": 2}) is ax
    neighbors: Any = index.kneighbors(n_neighbors=3, return_distance=False, search_k=10**5)
    pairs = {tuple(sorted((i, int(j)))) for i, row in enumerate(neighbors) for j in row}
    drawn = {tuple(map(tuple, segment)) for segment in ax.collections[1].get_segments()}
    assert drawn == {(tuple(points[i]), tuple(points[j])) for i, j in pairs}
    index.plot_knn_edges(points, k=3, search_k=10**5, ax=ax, undirected=False)
    assert len(ax.collections[2].get_segments()) == 120


def test_edges_to_items_that_are_not_shown_are_left_out(vectors: Vectors) -> None:
    index = Index(metric="l2").fit(vectors, n_trees=5)
    points, ids, ax = index.plot_index(ids=[9, 3, 400])
    index.plot_knn_edges(points, ids=ids, k=499, search_k=10**6, ax=ax)
    assert len(ax.collections[1].get_segments()) == 3
    index.plot_knn_edges(np.zeros((0, 2)), ids=np.zeros(0, int), ax=ax)
    assert len(ax.collections[2].get_segments()) == 0


def test_what_cannot_be_drawn_is_refused(vectors: Vectors) -> None:
    index = Index().fit(vectors)
    other: Any = "umap"
    with pytest.raises(ValueError, match="projection must be 'pca'"):
        index.plot_index(projection=other)
    with pytest.raises(ValueError, match="dims"):
        index.plot_index(dims=(0, -1))
    with pytest.raises(ValueError, match="2 labels were given for 500 items"):
        index.plot_index([1, 2])
    with pytest.raises(ValueError, match=r"points has the shape \(3, 2\), but there are 500 items"):
        index.plot_knn_edges(np.zeros((3, 2)))

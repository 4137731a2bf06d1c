"""Pictures of an index: its items projected to two dimensions, and the edges between neighbours. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dask_annoy.annoy.extras import optional

if TYPE_CHECKING:
    from dask_annoy.annoy.index import Index

__all__ = ["plot_index", "plot_knn_edges", "principal_components"]


def principal_components(
    rows: ArrayLike, dims: tuple[int, ...] = (0, 1), *, center: bool = True
) -> NDArray[np.float64]:
    """Coordinates of rows along principal components.

    Parameters
    ----------
    rows : array of shape (n, f)
    dims : tuple of int
        Which components, by decreasing variance.
    center : bool
        Take the mean off first.

    Returns
    -------
    float64 array of shape (n, len(dims))
        Each component points so that its largest loading is positive. Components beyond the f-th are zero.
    """
    table = np.asarray(rows, np.float64)
    if center and len(table):
        table = table - table.mean(axis=0)
    # The f × f matrix, and not a decomposition of all rows: there are many more of them than dimensions.
    _, vectors = np.linalg.eigh(table.T @ table)
    vectors = vectors[:, ::-1]
    largest = np.abs(vectors).argmax(axis=0)
    vectors = vectors * np.sign(vectors[largest, np.arange(vectors.shape[1])])
    projected = np.zeros((len(table), len(dims)))
    for place, dim in enumerate(dims):
        if dim < vectors.shape[1]:
            projected[:, place] = table @ vectors[:, dim]
    return projected


def plot_index(
    self: Index,
    labels: ArrayLike | None = None,
    *,
    ids: ArrayLike | None = None,
    projection: Literal["pca"] = "pca",
    dims: tuple[int, int] = (0, 1),
    center: bool = True,
    maxabs: bool = False,
    l2_normalize: bool = False,
    ax: Any = None,
    title: str | None = None,
    plot_kwargs: Mapping[str, Any] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.int64], Any]:
    """Scatter the items over two of their principal components.

    Parameters
    ----------
    labels : array of n values, optional
        Colours: numbers are taken as they are, anything else as classes. The labels of `fit` if not given.
    ids : array of n integers, optional
        The items to show; all of them if not given.
    projection : {"pca"}
    dims : tuple of two int
        Which components, by decreasing variance.
    center : bool
        Take the mean off first.
    maxabs : bool
        Divide each dimension by its largest absolute value.
    l2_normalize : bool
        Divide each vector by its norm.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure if not given.
    title : str, optional
    plot_kwargs : mapping, optional
        Passed on to ``ax.scatter``.

    Returns
    -------
    points : float64 array of shape (n, 2)
    ids : int64 array of shape (n,)
    ax : matplotlib.axes.Axes

    Raises
    ------
    MissingExtraError
        (an ImportError) without matplotlib.
    """
    if projection != "pca":
        raise ValueError(f"projection must be 'pca', got {projection!r}")
    if len(dims) != 2 or min(dims) < 0:
        raise ValueError(f"dims must be two numbers of components, counted from 0; got {dims}")
    with self._lock.shared():
        rows, numbers = self.to_numpy(ids, dtype=np.float64, return_ids=True)
        if labels is None and self.y is not None:
            labels = self._labels_of(numbers)
    if labels is not None and len(np.asarray(labels)) != len(numbers):
        raise ValueError(f"{len(np.asarray(labels))} labels were given for {len(numbers)} items")
    if maxabs:
        rows = _divided(rows, np.abs(rows).max(axis=0, initial=0.0))
    if l2_normalize:
        rows = _divided(rows, np.linalg.norm(rows, axis=1, keepdims=True))
    points = principal_components(rows, dims, center=center)
    axes = _axes(ax)
    style: dict[str, Any] = {"s": 8, **(plot_kwargs or {})}
    if labels is not None:
        style.setdefault("c", _colours(np.asarray(labels)))
    axes.scatter(points[:, 0], points[:, 1], **style)
    axes.set_xlabel(f"component {dims[0]}")
    axes.set_ylabel(f"component {dims[1]}")
    axes.set_title(f"{len(numbers)} items, {self.metric}" if title is None else title)
    return points, numbers, axes


def plot_knn_edges(
    self: Index,
    points: ArrayLike,
    *,
    ids: ArrayLike | None = None,
    k: int = 10,
    search_k: int = -1,
    ax: Any = None,
    line_kwargs: Mapping[str, Any] | None = None,
    undirected: bool = True,
) -> Any:
    """Draw lines from each item to its nearest neighbours, over the points of `plot_index`.

    Parameters
    ----------
    points : array of shape (n, 2)
    ids : array of n integers, optional
        The items at the points; all of the index if not given. Neighbours that are not among them are left out.
    k : int
        Neighbours of an item.
    search_k : int
        Search budget.
    ax : matplotlib.axes.Axes, optional
        Where to draw; the current axes if not given.
    line_kwargs : mapping, optional
        Passed on to matplotlib's ``LineCollection``.
    undirected : bool
        Draw a pair of items that are neighbours of each other once.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    MissingExtraError
        (an ImportError) without matplotlib.
    """
    collections = optional("matplotlib.collections", "drawing edges")
    numbers = self._item_numbers(ids)
    places = np.asarray(points, np.float64)
    if places.shape != (len(numbers), 2):
        raise ValueError(
            f"points has the shape {places.shape}, but there are {len(numbers)} items: ({len(numbers)}, 2)"
        )
    edges = _edges(self, numbers, k, search_k)
    if undirected:
        edges = np.unique(np.sort(edges, axis=1), axis=0)
    axes = optional("matplotlib.pyplot", "drawing edges").gca() if ax is None else ax
    style: dict[str, Any] = {"linewidths": 0.4, "colors": "0.6", "zorder": 0, **(line_kwargs or {})}
    axes.add_collection(collections.LineCollection(places[edges], **style))
    axes.update_datalim(places)
    axes.autoscale_view()
    return axes


def _edges(index: Index, numbers: NDArray[np.int64], k: int, search_k: int) -> NDArray[np.int64]:
    """Pairs of places in `numbers`, from each item to its neighbours."""
    found = index.get_nns_by_items(numbers, k + 1, search_k)
    order = np.argsort(numbers)
    begin = np.repeat(np.arange(len(numbers)), found.shape[1])
    end = found.ravel()
    place = np.searchsorted(numbers[order], end)
    place = order[np.minimum(place, len(numbers) - 1)] if len(numbers) else place
    shown = (numbers[place] == end) & (end != numbers[begin]) if len(numbers) else np.zeros(0, bool)
    return np.stack([begin[shown], place[shown]], axis=1)


def _divided(rows: NDArray[np.float64], by: NDArray[np.float64]) -> NDArray[np.float64]:
    return rows / np.where(by == 0, 1.0, by)


def _colours(labels: NDArray[Any]) -> NDArray[Any]:
    if np.issubdtype(labels.dtype, np.number):
        return labels
    return np.unique(labels.astype(str), return_inverse=True)[1]


def _axes(ax: Any) -> Any:
    if ax is not None:
        return ax
    return optional("matplotlib.pyplot", "plotting").subplots()[1]

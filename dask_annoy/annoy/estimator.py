"""`Index` as scikit-learn sees an estimator: fit, transform, tags, names. It is imported only to answer it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dask_annoy.annoy.extras import optional
from dask_annoy.annoy.labels import Labels
from dask_annoy.annoy.neighbors import OutputType, as_output
from dask_annoy.annoy.rows import checked_feature_names, read_rows
from dask_annoy.annoy.search import ItemQueries, Queries, VectorQueries, find_neighbors, require_full_rows

if TYPE_CHECKING:
    from dask_annoy.annoy.index import Index

__all__ = [
    "build_metadata_router",
    "fit",
    "fit_transform",
    "get_feature_names_out",
    "get_metadata_routing",
    "sklearn_tags",
    "transform",
]

AnyIndex = TypeVar("AnyIndex", bound="Index")


def fit(
    self: AnyIndex,
    X: Any = None,
    y: ArrayLike | None = None,
    *,
    n_trees: int = -1,
    n_jobs: int = -1,
    reset: bool = True,
    start_index: int | None = None,
    missing_value: float | None = None,
    feature_names: Sequence[str] | None = None,
) -> AnyIndex:
    """Add vectors and build the forest.

    Parameters
    ----------
    X : rows, shape (m, f), optional
        An array, a dataframe, a sparse matrix, or a sequence of dictionaries by feature. Only the forest is built if it
        is not given.
    y : array of m labels, optional
        For `transform` with ``return_labels`` and for plots.
    n_trees, n_jobs : int
        As in `build`.
    reset : bool
        Begin anew; what the index held is kept until the new forest is complete, and if that fails. False adds to it.
    start_index : int, optional
        Number of the first vector: 0 with ``reset``, else after the last item, if not given.
    missing_value : float, optional
        Stands for None, NaN and missing keys in ``X``.
    feature_names : sequence of f str, optional
        Names of the dimensions; a dataframe's columns and the keys of dictionaries, sorted, if not given.

    Returns
    -------
    Index
        Itself.

    Raises
    ------
    ValueError
        For rows or labels that do not fit: see the message.
    RuntimeError
        With ``reset=False``, if the index is loaded and so cannot grow.
    """
    with self._lock.exclusive():
        if X is None:
            labels = self._labels if y is None else Labels.of(y, self._item_numbers())
            self.build(n_trees, n_jobs)
            self._labels = labels
            return self
        known = tuple(feature_names) if feature_names is not None else None if reset else self._feature_names
        rows = read_rows(X, missing_value=missing_value, feature_names=known, accept_sparse="toarray")
        width = rows.values.shape[1]
        names = None if (given := known or rows.feature_names) is None else checked_feature_names(given, width)
        first = start_index if start_index is not None else 0 if reset else self.get_n_items()
        ids = first + np.arange(len(rows.values))
        labels = None if y is None else Labels.of(y, ids)
        if reset:
            fresh = self._new_index(width, on_disk=True)
            fresh.add_items(rows.values, ids)
            fresh.build(n_trees, n_jobs)
            self._make_cells(fresh, n_jobs)
            self._hold(fresh)
        else:
            if labels is not None and self._labels is not None:
                labels = self._labels.followed_by(labels)
            if self.is_built:
                self.unbuild()
            self.add_items(rows.values, ids)
            self.build(n_trees, n_jobs)
            labels = labels if labels is not None else self._labels
        self._labels, self._feature_names = labels, names
        return self


def transform(
    self: Index,
    X: Any,
    *,
    n_neighbors: int | None = None,
    search_k: int = -1,
    include_distances: bool = False,
    return_labels: bool = False,
    y_fill_value: Any = None,
    input_type: Literal["vector", "item"] = "vector",
    output_type: OutputType = "item",
    exclude_self: bool = False,
    exclude_items: ArrayLike | None = None,
    missing_value: float | None = None,
    n_jobs: int = -1,
) -> Any:
    """Turn queries into their neighbours.

    Parameters
    ----------
    X : rows as in `fit`, shape (m, f), or m item numbers
        See ``input_type``.
    n_neighbors : int, optional
        The index's own `n_neighbors` if not given.
    search_k : int
        Search budget; it is raised for the queries that find too few.
    include_distances, return_labels : bool
        What to return beside the neighbours.
    y_fill_value : object
        The label of items that have none.
    input_type : {"vector", "item"}
    output_type : {"item", "vector"}
        Neighbours as item numbers, or as their vectors.
    exclude_self : bool
        Leave out the item asked for, or the nearest item that holds the query's very vector.
    exclude_items : item numbers or mask of bool, optional
        Items that must not be answered.
    missing_value : float, optional
        Stands for None, NaN and missing keys in ``X``.
    n_jobs : int
        Threads; -1 means all.

    Returns
    -------
    neighbors : int64 array of shape (m, n_neighbors), or float32 array of shape (m, n_neighbors, f)
    distances : float32 array of shape (m, n_neighbors)
        With ``include_distances``.
    labels : array of shape (m, n_neighbors)
        With ``return_labels``.

    Raises
    ------
    ValueError
        If the exclusions leave fewer items than ``n_neighbors``; or labels are wanted and there are none.
    RuntimeError
        If the index is not built.
    """
    if input_type not in ("vector", "item"):
        raise ValueError(f"input_type must be 'vector' or 'item', got {input_type!r}")
    with self._lock.shared():
        n = self._n_neighbors_or(n_neighbors)
        if return_labels and self._labels is None:
            raise ValueError("return_labels=True needs labels: give y to fit()")
        queries: Queries
        if input_type == "item":
            queries = ItemQueries(self._item_numbers(X))
        else:
            names = self._feature_names
            rows = read_rows(X, missing_value=missing_value, feature_names=names, accept_sparse="toarray")
            queries = VectorQueries(rows.values)
        ids, distances = find_neighbors(
            self, queries, n, search_k=search_k, exclude_self=exclude_self, exclude=exclude_items, n_jobs=n_jobs
        )
        require_full_rows(ids, n)
        answer: list[NDArray[Any]] = [as_output(self, ids, output_type)]
        if include_distances:
            answer.append(distances)
        if return_labels:
            answer.append(self._labels_of(ids, y_fill_value))
    return answer[0] if len(answer) == 1 else tuple(answer)


def fit_transform(
    self: Index,
    X: Any,
    y: ArrayLike | None = None,
    *,
    n_trees: int = -1,
    n_jobs: int = -1,
    missing_value: float | None = None,
    feature_names: Sequence[str] | None = None,
    **options: Any,
) -> Any:
    """Index vectors and return the neighbours of each, itself among them.

    Parameters
    ----------
    X, y, n_trees, n_jobs, missing_value, feature_names
        As in `fit`.
    **options
        As in `transform`.
    """
    with self._lock.exclusive():
        self.fit(X, y, n_trees=n_trees, n_jobs=n_jobs, missing_value=missing_value, feature_names=feature_names)
        return self.transform(X, missing_value=missing_value, n_jobs=n_jobs, **options)


def get_feature_names_out(self: Index, input_features: Any = None) -> NDArray[Any]:  # noqa: ARG001 (scikit-learn's)
    """Return the names of the columns of `transform`: ``neighbor_0`` and so on."""
    return np.array([f"neighbor_{place}" for place in range(self.n_neighbors)], dtype=object)


def sklearn_tags(self: Index) -> Any:  # noqa: ARG001 (a method)
    """Tell scikit-learn what kind of estimator this is."""
    utils = optional("sklearn.utils", "tags of estimators")
    return utils.Tags(
        estimator_type=None,
        target_tags=utils.TargetTags(required=False),
        transformer_tags=utils.TransformerTags(preserves_dtype=[]),
        input_tags=utils.InputTags(sparse=True, dict=True),
        requires_fit=True,
        non_deterministic=False,
    )


def get_metadata_routing(self: Index) -> Any:
    """Return what metadata the methods ask for: none, unless a request is set."""
    routing = optional("sklearn.utils.metadata_routing", "metadata routing")
    return routing.MetadataRequest(owner=self)


def build_metadata_router(self: Index, owner: Any = None) -> Any:
    """Return a router that hands metadata to this index.

    Parameters
    ----------
    owner : object, optional
        The estimator, or its name, that the router belongs to; the index itself if not given.
    """
    routing = optional("sklearn.utils.metadata_routing", "metadata routing")
    return routing.MetadataRouter(owner=self if owner is None else owner).add_self_request(self.get_metadata_routing())

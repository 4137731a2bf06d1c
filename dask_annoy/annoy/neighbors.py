"""`Index`'s questions for neighbours, of one query and of many, and the graph of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dask_annoy.annoy.adding import item_numbers
from dask_annoy.annoy.extras import optional
from dask_annoy.annoy.rows import read_rows
from dask_annoy.annoy.search import Found, ItemQueries, Queries, VectorQueries, find_neighbors, require_full_rows

if TYPE_CHECKING:
    from dask_annoy.annoy.index import Index

__all__ = [
    "OutputType",
    "as_output",
    "kneighbors",
    "kneighbors_graph",
    "query_by_item",
    "query_by_vector",
    "query_vectors_by_item",
    "query_vectors_by_vector",
]

OutputType = Literal["item", "vector"]
Answer: TypeAlias = NDArray[Any] | tuple[NDArray[Any], NDArray[np.float32]]
"""Neighbours, or neighbours and distances."""


def query_by_item(
    self: Index,
    item: int,
    n_neighbors: int | None = None,
    *,
    search_k: int = -1,
    include_distances: bool = False,
    exclude_self: bool = False,
    exclude_item_ids: ArrayLike | None = None,
    include_item_ids: ArrayLike | None = None,
) -> Answer:
    """Return the neighbours of an item as an array.

    Parameters
    ----------
    item : int
    n_neighbors : int, optional
        The index's own `n_neighbors` if not given.
    search_k : int
        Search budget; it is raised if it is too small to find as many as there are.
    include_distances : bool
    exclude_self : bool
        Leave the item out.
    exclude_item_ids, include_item_ids : item numbers or mask of bool, optional
        Items that must not be answered, and the only ones that may be.

    Returns
    -------
    ids : int64 array of shape (n_neighbors,)
        Shorter only if there are not as many.
    distances : float32 array of the same shape
        With ``include_distances``.

    Raises
    ------
    IndexError
        If a number is no item's.
    RuntimeError
        If the index is not built.
    """
    with self._lock.shared():
        found = find_neighbors(
            self,
            _item_query(item),
            self._n_neighbors_or(n_neighbors),
            search_k=search_k,
            exclude_self=exclude_self,
            include=include_item_ids,
            exclude=exclude_item_ids,
        )
    return _only_row(found, include_distances)


def query_by_vector(
    self: Index,
    vector: ArrayLike,
    n_neighbors: int | None = None,
    *,
    search_k: int = -1,
    include_distances: bool = False,
    exclude_self: bool = False,
    exclude_item_ids: ArrayLike | None = None,
    include_item_ids: ArrayLike | None = None,
) -> Answer:
    """Return the neighbours of a vector as an array.

    Parameters
    ----------
    vector : array of shape (f,)
    exclude_self : bool
        Leave out the nearest item that holds this very vector, if there is one.
    n_neighbors, search_k, include_distances, exclude_item_ids, include_item_ids
        As in `query_by_item`, and so are the returns and errors.
    """
    with self._lock.shared():
        found = find_neighbors(
            self,
            _vector_query(vector),
            self._n_neighbors_or(n_neighbors),
            search_k=search_k,
            exclude_self=exclude_self,
            include=include_item_ids,
            exclude=exclude_item_ids,
        )
    return _only_row(found, include_distances)


def query_vectors_by_item(
    self: Index,
    item: int,
    n_neighbors: int | None = None,
    *,
    output_type: OutputType = "vector",
    include_distances: bool = False,
    **options: Any,
) -> Answer:
    """Return the vectors of an item's neighbours.

    Parameters
    ----------
    output_type : {"vector", "item"}
        Vectors as a float32 array of shape (n_neighbors, f), or item numbers.
    item, n_neighbors, include_distances, **options
        As in `query_by_item`.
    """
    with self._lock.shared():
        ids, distances = self.query_by_item(item, n_neighbors, include_distances=True, **options)
        neighbors = as_output(self, ids, output_type)
    return (neighbors, distances) if include_distances else neighbors


def query_vectors_by_vector(
    self: Index,
    vector: ArrayLike,
    n_neighbors: int | None = None,
    *,
    output_type: OutputType = "vector",
    include_distances: bool = False,
    **options: Any,
) -> Answer:
    """Return the vectors of a vector's neighbours.

    Parameters
    ----------
    output_type : {"vector", "item"}
        Vectors as a float32 array of shape (n_neighbors, f), or item numbers.
    vector, n_neighbors, include_distances, **options
        As in `query_by_vector`.
    """
    with self._lock.shared():
        ids, distances = self.query_by_vector(vector, n_neighbors, include_distances=True, **options)
        neighbors = as_output(self, ids, output_type)
    return (neighbors, distances) if include_distances else neighbors


def kneighbors(
    self: Index,
    X: Any = None,
    n_neighbors: int | None = None,
    return_distance: bool = True,
    *,
    search_k: int = -1,
    exclude_self: bool = False,
    exclude_item_ids: ArrayLike | None = None,
    include_item_ids: ArrayLike | None = None,
    output_type: OutputType = "item",
    missing_value: float | None = None,
    n_jobs: int = -1,
) -> Answer:
    """Return the neighbours of many vectors, in scikit-learn's order: distances first.

    Parameters
    ----------
    X : rows as in `fit`, shape (m, f), optional
        If not given, the index's own items are asked for their neighbours, each without itself.
    n_neighbors : int, optional
        The index's own `n_neighbors` if not given.
    return_distance : bool
    search_k : int
        Search budget; it is raised for the queries that find too few.
    exclude_self : bool
        Leave out the nearest item that holds the query's very vector, where there is one.
    exclude_item_ids, include_item_ids : item numbers or mask of bool, optional
        Items that must not be answered, and the only ones that may be.
    output_type : {"item", "vector"}
        Item numbers, or the items' vectors.
    missing_value : float, optional
        Stands for None, NaN and missing keys in ``X``.
    n_jobs : int
        Threads; -1 means all.

    Returns
    -------
    distances : float32 array of shape (m, n_neighbors)
        With ``return_distance``; as the metric returns them: for dot the products, largest first.
    neighbors : int64 array of shape (m, n_neighbors), or float32 array of shape (m, n_neighbors, f)

    Raises
    ------
    ValueError
        If there are fewer items to answer with than ``n_neighbors``.
    RuntimeError
        If the index is not built.
    """
    with self._lock.shared():
        n = self._n_neighbors_or(n_neighbors)
        ids, distances = find_neighbors(
            self,
            _queries(self, X, missing_value),
            n,
            search_k=search_k,
            exclude_self=exclude_self or X is None,
            include=include_item_ids,
            exclude=exclude_item_ids,
            n_jobs=n_jobs,
        )
        require_full_rows(ids, n)
        neighbors = as_output(self, ids, output_type)
    return (distances, neighbors) if return_distance else neighbors


def kneighbors_graph(
    self: Index,
    X: Any = None,
    n_neighbors: int | None = None,
    mode: Literal["connectivity", "distance"] = "connectivity",
    **options: Any,
) -> Any:
    """Return the neighbours of many vectors as a sparse matrix.

    Parameters
    ----------
    mode : {"connectivity", "distance"}
        Whether entries are 1 or the distances; a distance of 0 is an entry, too.
    X, n_neighbors, **options
        As in `kneighbors`.

    Returns
    -------
    scipy.sparse.csr_matrix of float32, shape (m, n_items)
        Columns are item numbers, holes included; the entries of a row are ordered as `kneighbors` orders them.

    Raises
    ------
    MissingExtraError
        (an ImportError) without SciPy.
    """
    if mode not in ("connectivity", "distance"):
        raise ValueError(f"mode must be 'connectivity' or 'distance', got {mode!r}")
    sparse = optional("scipy.sparse", "graphs of neighbours")
    with self._lock.shared():
        distances, ids = self.kneighbors(X, n_neighbors, **options)
        n_items = self.get_n_items()
    entries = np.ones(ids.size, np.float32) if mode == "connectivity" else distances.ravel()
    ends = np.arange(len(ids) + 1) * ids.shape[1]
    return sparse.csr_matrix((entries, ids.ravel(), ends), shape=(len(ids), n_items))


def as_output(index: Index, ids: NDArray[np.int64], output_type: OutputType) -> NDArray[Any]:
    """Return the items, or their vectors with one more dimension."""
    if output_type == "item":
        return ids
    if output_type != "vector":
        raise ValueError(f"output_type must be 'item' or 'vector', got {output_type!r}")
    return index._vectors_of(ids.ravel()).reshape(*ids.shape, index.f)


def _queries(index: Index, X: Any, missing_value: float | None) -> Queries:
    if X is None:
        return ItemQueries(index._item_numbers())
    rows = read_rows(X, missing_value=missing_value, feature_names=index._feature_names, accept_sparse="toarray")
    return VectorQueries(rows.values)


def _item_query(item: int) -> Queries:
    return ItemQueries(item_numbers([item]))


def _vector_query(vector: ArrayLike) -> Queries:
    return VectorQueries(read_rows([vector]).values)


def _only_row(found: Found, include_distances: bool) -> Answer:
    ids, distances = (rows[0] for rows in found)
    n = int((ids >= 0).sum())
    return (ids[:n], distances[:n]) if include_distances else ids[:n]

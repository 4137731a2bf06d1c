"""The search behind all methods of `Index` that answer with arrays: in batches, and always as many as there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from dask_annoy.annoy.index import Index

__all__ = ["Found", "ItemQueries", "Queries", "VectorQueries", "find_neighbors", "require_full_rows"]

Found: TypeAlias = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Item numbers and distances, a row a query."""

_BUDGET_STEP = 8
_COMPARED_BYTES = 1 << 25  # of vectors, while looking for the query itself among its hits


class Queries(Protocol):
    """What neighbours are sought of."""

    def __len__(self) -> int: ...

    def take(self, rows: NDArray[np.int64]) -> Queries:
        """Return some of them."""

    def search(self, index: Index, n: int, search_k: int, n_jobs: int, include: Any, exclude: Any) -> Found:
        """Return the n nearest, padded with -1."""

    def find_self(self, index: Index, hits: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell which hits are the query itself."""


class VectorQueries:
    """Rows of numbers. A hit is the query itself if it is the first that holds the same vector."""

    def __init__(self, values: NDArray[Any]) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: NDArray[np.int64]) -> VectorQueries:
        """Return some of them."""
        return VectorQueries(self.values[rows])

    def search(self, index: Index, n: int, search_k: int, n_jobs: int, include: Any, exclude: Any) -> Found:
        """Return the n nearest, padded with -1."""
        return index.get_nns_by_vectors(
            self.values, n, search_k, include_distances=True, n_jobs=n_jobs, include=include, exclude=exclude
        )

    def find_self(self, index: Index, hits: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell which hits are the query itself."""
        same = np.zeros(hits.shape, bool)
        as_stored = np.asarray(self.values, np.float32)
        if index.metric == "hamming":
            as_stored = (as_stored > 0.5).astype(np.float32)
        block = max(1, _COMPARED_BYTES // max(1, 4 * index.f * hits.shape[1]))
        for begin in range(0, len(hits), block):
            some = hits[begin : begin + block]
            vectors = index._vectors_of(np.maximum(some, 0).ravel()).reshape(*some.shape, -1)
            same[begin : begin + block] = (vectors == as_stored[begin : begin + block, None]).all(axis=2) & (some >= 0)
        first: NDArray[np.bool_] = same & (same.cumsum(axis=1) == 1)
        return first


class ItemQueries:
    """Items by their numbers."""

    def __init__(self, items: NDArray[np.int64]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def take(self, rows: NDArray[np.int64]) -> ItemQueries:
        """Return some of them."""
        return ItemQueries(self.items[rows])

    def search(self, index: Index, n: int, search_k: int, n_jobs: int, include: Any, exclude: Any) -> Found:
        """Return the n nearest, padded with -1."""
        return index.get_nns_by_items(
            self.items, n, search_k, include_distances=True, n_jobs=n_jobs, include=include, exclude=exclude
        )

    def find_self(self, index: Index, hits: NDArray[np.int64]) -> NDArray[np.bool_]:  # noqa: ARG002
        """Tell which hits are the query itself."""
        same: NDArray[np.bool_] = hits == self.items[:, None]
        return same


def find_neighbors(
    index: Index,
    queries: Queries,
    n: int,
    *,
    search_k: int = -1,
    exclude_self: bool = False,
    include: ArrayLike | None = None,
    exclude: ArrayLike | None = None,
    n_jobs: int = -1,
) -> Found:
    """Search for all queries at once.

    A row is short only if fewer than `n` items may be answered: where the search budget was too small for that, it is
    raised, for those rows, up to an exact scan.

    Returns
    -------
    ids : int64 array of shape (m, n), padded with -1
    distances : float32 array of shape (m, n), padded with infinity (-infinity for dot)
    """
    index._require_built("ask")
    sought = n + 1 if exclude_self else n
    ids, distances = queries.search(index, sought, search_k, n_jobs, include, exclude)
    short = np.flatnonzero(ids[:, -1] < 0)
    if len(short):
        allowed = _allowed_items(index, include, exclude)
        possible = min(sought, len(allowed))
        budget = search_k if search_k > 0 else sought * max(1, index.get_n_trees())
        is_exact = False
        while not is_exact and len(short := short[(ids[short] >= 0).sum(axis=1) < possible]):
            budget = min(budget * _BUDGET_STEP, len(allowed))
            # With a budget of all that may be answered the search is an exact scan: see get_nns_by_item.
            is_exact = budget == len(allowed)
            ids[short], distances[short] = queries.take(short).search(
                index, sought, budget, n_jobs, allowed if is_exact else include, None if is_exact else exclude
            )
    if not exclude_self:
        return ids, distances
    # Whoever is not among its own hits loses the last one instead: all rows keep n.
    own = queries.find_self(index, ids)
    kept = np.argsort(own, axis=1, kind="stable")[:, :n]
    return np.take_along_axis(ids, kept, axis=1), np.take_along_axis(distances, kept, axis=1)


def _allowed_items(index: Index, include: ArrayLike | None, exclude: ArrayLike | None) -> NDArray[np.int64]:
    allowed = np.zeros(index.get_n_items(), bool)
    allowed[index._item_numbers()] = True
    if include is not None:
        allowed &= _as_mask(include, len(allowed))
    if exclude is not None:
        allowed &= ~_as_mask(exclude, len(allowed))
    return np.flatnonzero(allowed)


def _as_mask(items: ArrayLike, n_items: int) -> NDArray[np.bool_]:
    given = np.asarray(items)
    if given.dtype == bool:
        return given
    mask = np.zeros(n_items, bool)
    mask[given.astype(np.int64)] = True
    return mask


def require_full_rows(ids: NDArray[np.int64], n: int) -> None:
    """Raise ValueError unless every row has `n` neighbours."""
    found = (ids >= 0).sum(axis=1)
    if len(found) and found.min() < n:
        row = int(found.argmin())
        raise ValueError(
            f"{n} neighbours were asked for, but for row {row} only {found[row]} items are there to be answered: "
            "ask for fewer, or exclude fewer"
        )

"""`AnnoyTransformer`: the graph of nearest neighbours as a step of a scikit-learn pipeline."""

from __future__ import annotations

from numbers import Integral
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dask_annoy.annoy.annoy_index import AnnoyIndex
from dask_annoy.annoy.pair_distances import pair_distances
from dask_annoy.errors import MissingExtraError

try:
    from joblib import effective_n_jobs
    from scipy.sparse import csr_matrix
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as reason:
    raise MissingExtraError("AnnoyTransformer", "sklearn") from reason

__all__ = ["AnnoyTransformer"]

# What a user may say: what scikit-learn calls it, and the forest's metric.
_METRICS = {
    "euclidean": ("euclidean", "euclidean"),
    "l2": ("euclidean", "euclidean"),
    "minkowski": ("euclidean", "euclidean"),  # scikit-learn's default name, of which the default p is 2
    "manhattan": ("manhattan", "manhattan"),
    "l1": ("manhattan", "manhattan"),
    "cityblock": ("manhattan", "manhattan"),
    "cosine": ("cosine", "angular"),
    "angular": ("angular", "angular"),
    "hamming": ("hamming", "hamming"),
}

_SCANNED_ROWS = 1000  # so few samples are all looked at for each query
_BLOCK_BYTES = 32 << 20  # of the vectors of neighbours that are in memory at once


class AnnoyTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Transform X into a (weighted) graph of approximate nearest neighbours.

    Takes the place of :class:`sklearn.neighbors.KNeighborsTransformer` in a pipeline; what follows is told
    ``metric="precomputed"``. Each row has exactly the asked number of neighbours, sorted by distance.

    Parameters
    ----------
    n_neighbors : int
        Neighbours of each sample. With ``mode="distance"`` a sample counts as its own neighbour and there is one entry
        more in each row.
    mode : {"distance", "connectivity"}
        What the graph holds: distances, or ones.
    metric : {"euclidean", "manhattan", "cosine", "angular", "hamming"}
        Also ``"l2"`` and ``"minkowski"`` (euclidean), ``"l1"`` and ``"cityblock"`` (manhattan). ``"cosine"`` is
        scikit-learn's, 1 - cos; ``"angular"`` is Annoy's, sqrt(2 (1 - cos)). ``"hamming"`` is scikit-learn's, the share
        of components that differ, for samples of zeros and ones. Annoy's ``"dot"`` is refused: it is no distance.
    n_trees : int
        Trees of the forest; more find more, and take more memory and time to build. -1 lets them take as much memory
        as the samples.
    search_k : int, optional
        Candidates that a query looks at: more find more, and take longer. By default, with k entries in a row, 2 k + 50
        for each tree; -1 is Annoy's default, k. Up to 1000 samples, or as many as there are candidates, are all looked
        at: the answer is exact.
    n_jobs : int, optional
        Threads, as in scikit-learn: one by default, -1 for all processors. The result is the same for any number.
    random_state : int or RandomState, optional
        Seed of the forest. By default it is another one at each `fit`.

    Attributes
    ----------
    index_ : AnnoyIndex
        The forest over the samples, in single precision.
    effective_metric_ : str
        The metric without synonyms.
    n_samples_fit_ : int
        Samples in the forest.
    n_features_in_ : int
        Components of a sample.
    feature_names_in_ : array of str, shape (n_features_in_,)
        Names of the components, if X came with them.

    Notes
    -----
    The samples are kept in single precision, and distances are those of the rounded samples, computed in double
    precision. They come as float32 for X of float32, and as float64 otherwise.
    """

    def __init__(
        self,
        n_neighbors: int = 5,
        *,
        mode: Literal["distance", "connectivity"] = "distance",
        metric: str = "euclidean",
        n_trees: int = 20,
        search_k: int | None = None,
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.mode = mode
        self.metric = metric
        self.n_trees = n_trees
        self.search_k = search_k
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: object = None) -> Self:  # noqa: ARG002
        """Grow the forest.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Finite numbers.
        y : object
            Not used.

        Raises
        ------
        ValueError
            If a parameter is out of its range, or X is not finite (in single precision, too).
        """
        self._check_parameters()
        self.effective_metric_, forest_metric = _METRICS[self.metric]
        samples = validate_data(self, X, dtype=[np.float64, np.float32])
        rows = self._single(samples)
        index = AnnoyIndex(rows.shape[1], forest_metric)
        index.set_seed(int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max)))
        index.add_items(rows)
        index.build(self.n_trees, n_jobs=effective_n_jobs(self.n_jobs))
        self.index_ = index
        self.n_samples_fit_ = len(rows)
        self._n_features_out = len(rows)
        self._dtype = samples.dtype
        return self

    def transform(self, X: ArrayLike) -> csr_matrix:
        """Return the graph from samples to those of `fit`.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features)

        Returns
        -------
        CSR matrix of shape (n_queries, n_samples_fit)
            ``n_neighbors + 1`` entries a row with ``mode="distance"``, else ``n_neighbors``.

        Raises
        ------
        ValueError
            If there are fewer samples in the forest.
        """
        return self._graph(*self._neighbors_of(X, self._row_length()), self.mode)

    def fit_transform(self, X: ArrayLike, y: object = None) -> csr_matrix:
        """Return the graph of the samples among themselves; each is the first neighbour of its own.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : object
            Not used.

        Returns
        -------
        CSR matrix of shape (n_samples, n_samples)
            As of `transform`; with ``mode="distance"`` the diagonal holds explicit zeros.
        """
        self.fit(X, y)
        return self._graph(*self._neighbors_of_samples(self._row_length()), self.mode)

    def kneighbors(
        self, X: ArrayLike | None = None, n_neighbors: int | None = None, return_distance: bool = True
    ) -> tuple[NDArray[np.floating[Any]], NDArray[np.int64]] | NDArray[np.int64]:
        """Find neighbours among the samples of `fit`.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features), optional
            The samples of `fit` if not given; then none is its own neighbour.
        n_neighbors : int, optional
            The estimator's if not given.
        return_distance : bool
            Whether to return distances, too.

        Returns
        -------
        distances : array of shape (n_queries, n_neighbors)
            Ascending. Only with ``return_distance``.
        indices : int64 array of shape (n_queries, n_neighbors)
        """
        distances, indices = self._without_self(X, n_neighbors)
        return (distances, indices) if return_distance else indices

    def kneighbors_graph(
        self,
        X: ArrayLike | None = None,
        n_neighbors: int | None = None,
        mode: Literal["connectivity", "distance"] = "connectivity",
    ) -> csr_matrix:
        """Return the neighbours that `kneighbors` finds, as a graph.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features), optional
            The samples of `fit` if not given; then none is its own neighbour.
        n_neighbors : int, optional
            The estimator's if not given.
        mode : {"connectivity", "distance"}
            What the graph holds: ones, or distances.

        Returns
        -------
        CSR matrix of shape (n_queries, n_samples_fit)
        """
        _check_mode(mode)
        return self._graph(*self._without_self(X, n_neighbors), mode)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _check_parameters(self) -> None:
        _check_count("n_neighbors", self.n_neighbors)
        _check_mode(self.mode)
        if self.metric == "dot":
            raise ValueError(
                "metric='dot' is a product and no distance: it is neither zero for a sample and itself nor smallest "
                "for the nearest. Scale the samples to length 1 and use metric='cosine'"
            )
        if self.metric not in _METRICS:
            raise ValueError(f"metric must be one of {', '.join(sorted(_METRICS))}; got {self.metric!r}")
        if self.n_trees != -1:
            _check_count("n_trees", self.n_trees, " or -1")
        if self.search_k is not None and self.search_k != -1:
            _check_count("search_k", self.search_k, ", -1 or None")

    def _row_length(self) -> int:
        return self.n_neighbors + (self.mode == "distance")

    def _single(self, X: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        if self.effective_metric_ == "hamming" and not np.isin(X, (0, 1)).all():
            raise ValueError("metric='hamming' compares bits, and X holds numbers other than 0 and 1: encode them")
        with np.errstate(over="ignore"):  # what is infinite then is found when it is added or asked for
            return np.ascontiguousarray(X, np.float32)

    def _without_self(
        self, X: ArrayLike | None, n_neighbors: int | None
    ) -> tuple[NDArray[np.floating[Any]], NDArray[np.int64]]:
        check_is_fitted(self)
        k = self.n_neighbors if n_neighbors is None else n_neighbors
        _check_count("n_neighbors", k)
        if X is not None:
            return self._neighbors_of(X, k)
        if k >= self.n_samples_fit_:
            raise ValueError(
                f"Expected n_neighbors < n_samples_fit, but n_neighbors = {k}, n_samples_fit = {self.n_samples_fit_}: "
                "without X no sample is its own neighbour"
            )
        distances, indices = self._neighbors_of_samples(k + 1)
        return distances[:, 1:], indices[:, 1:]

    def _neighbors_of(self, X: ArrayLike, k: int) -> tuple[NDArray[np.floating[Any]], NDArray[np.int64]]:
        check_is_fitted(self)
        queries = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        rows = self._single(queries)
        distances, indices = self._measured(rows, self._found(rows, k))
        return distances.astype(queries.dtype, copy=False), indices

    def _neighbors_of_samples(self, k: int) -> tuple[NDArray[np.floating[Any]], NDArray[np.int64]]:
        """Return the neighbours of the forest's own samples, each before its neighbours, at distance zero."""
        rows = self.index_.get_item_vectors()
        found = self._found(rows, k)
        own = np.arange(len(rows))
        # Among more twins than there is room for, a sample may not be found itself.
        is_missing = ~(found == own[:, None]).any(axis=1)
        found[is_missing, -1] = own[is_missing]
        distances, indices = self._measured(rows, found, own)
        return distances.astype(self._dtype, copy=False), indices

    def _found(self, rows: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        """Return the neighbours of rows, in no promised order and without a gap; shape (m, k)."""
        n_samples = self.n_samples_fit_
        if k > n_samples:
            raise ValueError(
                f"Expected n_neighbors <= n_samples_fit, but n_neighbors = {k}, n_samples_fit = {n_samples}, "
                f"n_samples = {len(rows)}"
            )
        n_trees = self.index_.get_n_trees()
        if self.search_k is None:
            budget = (2 * k + 50) * n_trees
        else:
            budget = k * n_trees if self.search_k == -1 else self.search_k
        if n_samples <= max(budget, _SCANNED_ROWS):
            return self._scanned(rows, k)
        found = self.index_.get_nns_by_vectors(rows, k, budget, n_jobs=effective_n_jobs(self.n_jobs))
        is_short = found[:, -1] < 0
        if is_short.any():
            found[is_short] = self._scanned(rows[is_short], k)
        return found

    def _scanned(self, rows: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        # A filter that lets no more items pass than the budget is answered by looking at all that pass.
        everything = np.ones(self.n_samples_fit_, bool)
        return self.index_.get_nns_by_vectors(
            rows, k, self.n_samples_fit_, n_jobs=effective_n_jobs(self.n_jobs), include=everything
        )

    def _measured(
        self, rows: NDArray[np.float32], found: NDArray[np.int64], own: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return distances and neighbours, ascending in each row; ties by number, but `own` first and at zero."""
        distances = np.empty(found.shape)
        step = max(1, _BLOCK_BYTES // (8 * rows.shape[1] * found.shape[1]))
        for first in range(0, len(rows), step):
            block = slice(first, first + step)
            neighbors = self.index_.get_item_vectors(found[block].ravel()).reshape(*found[block].shape, -1)
            distances[block] = pair_distances(self.effective_metric_, rows[block, None, :], neighbors)
        rank = found
        if own is not None:
            is_own = found == own[:, None]
            distances[is_own] = 0
            rank = np.where(is_own, -1, found)
        order = np.lexsort((rank, distances))
        return np.take_along_axis(distances, order, axis=1), np.take_along_axis(found, order, axis=1)

    def _graph(self, distances: NDArray[np.floating[Any]], indices: NDArray[np.int64], mode: str) -> csr_matrix:
        m, k = indices.shape
        data = distances.ravel() if mode == "distance" else np.ones(m * k, distances.dtype)
        starts = np.arange(0, m * k + 1, k)
        return csr_matrix((data, indices.ravel(), starts), shape=(m, self.n_samples_fit_))


def _check_count(name: str, value: object, others: str = "") -> None:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name} must be a positive integer{others}, got {value!r}")


def _check_mode(mode: str) -> None:
    if mode not in ("distance", "connectivity"):
        raise ValueError(f"mode must be 'distance' or 'connectivity', got {mode!r}")

"""Distances of given pairs in double precision, as scikit-learn defines them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["pair_distances"]


def pair_distances(metric: str, a: NDArray[np.floating[Any]], b: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return the distances of vectors to vectors; exactly zero for equal ones (but for angles of zero vectors).

    Parameters
    ----------
    metric : {"euclidean", "manhattan", "cosine", "angular", "hamming"}
        Cosine is 1 - cos, angular sqrt(2 (1 - cos)), hamming the share of components that differ.
    a, b : arrays of shape (..., n_features)
        They are broadcast against each other.

    Returns
    -------
    array of shape (...)
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    if metric == "hamming":
        return np.asarray((a != b).mean(axis=-1))
    if metric == "manhattan":
        return np.asarray(np.abs(a - b).sum(axis=-1))
    if metric == "euclidean":
        return np.asarray(np.sqrt(np.square(a - b).sum(axis=-1)))
    # The chord between directions, not their product: a small angle would drown in the product's rounding.
    difference = _directions(a) - _directions(b)
    have_directions = a.any(axis=-1) & b.any(axis=-1)
    chord_squared = np.where(have_directions, np.square(difference).sum(axis=-1), 2.0)
    return np.asarray(chord_squared / 2 if metric == "cosine" else np.sqrt(chord_squared))


def _directions(x: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    length = np.linalg.norm(x, axis=-1, keepdims=True)
    directions = np.zeros(x.shape)
    np.divide(x, length, out=directions, where=length > 0)
    return directions

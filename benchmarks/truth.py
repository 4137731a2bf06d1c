"""Exact neighbours by numpy alone, and recall that does not depend on how ties are broken.

The truth of a query is every item that is no farther than its k-th nearest. Candidates come from a product of float32
matrices with its rounding error allowed for, and are measured again in float64. Items count as tied with the k-th if
float32, in which every engine computes, cannot be trusted to tell them apart.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

BLOCK_VALUES = 1 << 25  # of a block of distances: 128 MB
SCREENING = 32.0  # float32 epsilons times the magnitudes: what a product of some hundred terms may be off by
TIE = 2.0  # float32 epsilons times the magnitudes: what the engines may be off by


class Truth(NamedTuple):
    """Per query the items that a perfect answer may hold: `ids[offsets[q]:offsets[q + 1]]`, ascending, k or more."""

    k: int
    n_items: int
    offsets: npt.NDArray[np.int64]
    ids: npt.NDArray[np.int64]

    def recall(self, answers: npt.ArrayLike) -> float:
        """The share of the k places that `answers`, shape (queries, any) padded with -1, fill with true neighbours."""
        found = np.sort(np.asarray(answers, np.int64), axis=1)
        n_queries = len(self.offsets) - 1
        if found.shape[0] != n_queries:
            raise ValueError(f"{found.shape[0]} rows of answers; expected one for each of {n_queries} queries")
        valid = found >= 0
        valid[:, 1:] &= found[:, 1:] != found[:, :-1]  # an item counts once
        query = np.broadcast_to(np.arange(n_queries)[:, None], found.shape)
        keys = np.repeat(np.arange(n_queries), np.diff(self.offsets)) * self.n_items + self.ids  # ascending
        hit = np.isin(query[valid] * self.n_items + found[valid], keys)
        hits = np.bincount(query[valid][hit], minlength=n_queries)
        return float(np.minimum(hits, self.k).sum() / (n_queries * self.k))

    def save(self, path: Path) -> None:
        """To an `.npz` file."""
        np.savez(path, k=self.k, n_items=self.n_items, offsets=self.offsets, ids=self.ids)

    @classmethod
    def load(cls, path: Path) -> Truth:
        """From the file that `save` wrote."""
        with np.load(path) as file:
            return cls(int(file["k"]), int(file["n_items"]), file["offsets"], file["ids"])


def exact_truth(items: npt.NDArray[Any], queries: npt.NDArray[Any], metric: str, k: int = 10) -> Truth:
    """All items at most as far as the k-th nearest, for each query.

    Parameters
    ----------
    items, queries : arrays of shape (n, width) and (m, width)
        Floats; for hamming packed bits, uint8.
    metric : {"angular", "euclidean", "dot", "hamming"}
    k : int
        At most n.
    """
    if len(items) < k:
        raise ValueError(f"{len(items)} items; expected at least k = {k}")
    rows, asked = (_vectors(part, metric) for part in (items, queries))
    squares = np.einsum("ij,ij->i", rows, rows)
    block = max(1, BLOCK_VALUES // len(rows))
    accepted = []
    for first in range(0, len(asked), block):
        part = asked[first : first + block]
        near, margin = _distances(part, rows, squares, metric)
        bound = np.partition(near, k - 1, axis=1)[:, k - 1] + 2 * margin
        accepted += [
            _accepted(query, rows, np.flatnonzero(row <= limit), metric, k)
            for query, row, limit in zip(part, near, bound, strict=True)
        ]
    offsets = np.concatenate([[0], np.cumsum([len(ids) for ids in accepted])])
    return Truth(k, len(items), offsets.astype(np.int64), np.concatenate(accepted).astype(np.int64))


def _vectors(part: npt.NDArray[Any], metric: str) -> npt.NDArray[np.float32]:
    """Float rows whose squared distance or product orders as the metric does."""
    if metric == "hamming":
        return np.unpackbits(part, axis=1).astype(np.float32)
    rows = np.asarray(part, np.float32)
    if metric == "angular":
        norms = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
        return (rows / np.where(norms == 0, 1, norms)).astype(np.float32)
    return rows


def _distances(
    part: npt.NDArray[np.float32], rows: npt.NDArray[np.float32], squares: npt.NDArray[np.float32], metric: str
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Squared distances or negated products, and by how much those of a query may be off."""
    products = part @ rows.T
    own = np.einsum("ij,ij->i", part, part)
    largest = float(squares.max())
    epsilon = SCREENING * np.finfo(np.float32).eps
    if metric == "dot":
        return np.negative(products, out=products), epsilon * np.sqrt(own * largest)
    products *= -2
    products += squares
    products += own[:, None]
    return products, epsilon * (own + largest)


def _accepted(
    query: npt.NDArray[np.float32], rows: npt.NDArray[np.float32], ids: npt.NDArray[np.intp], metric: str, k: int
) -> npt.NDArray[np.intp]:
    near = rows[ids].astype(np.float64)
    asked = query.astype(np.float64)
    if metric == "dot":
        exact = -(near @ asked)
        size = np.linalg.norm(near, axis=1) * np.linalg.norm(asked)
    else:
        exact = np.square(near - asked).sum(axis=1)
        size = np.square(near).sum(axis=1) + np.square(asked).sum()
    if metric == "hamming":
        size = np.zeros_like(exact)  # counts are exact
    kth = np.partition(exact, k - 1)[k - 1]
    within: npt.NDArray[np.intp] = ids[exact <= kth + TIE * np.finfo(np.float32).eps * size]
    return within

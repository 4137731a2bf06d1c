"""Recall of answers, block by block, against exact search in the vectors that were indexed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from dask_annoy.cluster import QueryResult, ShardedIndex, exact_neighbors, recall

if TYPE_CHECKING:
    from dask_annoy.cluster.executor import ClientLike
    from dask_annoy.vectors import IdSource, RowSource

__all__ = ["Truth", "expected_recall"]

_IDS_AT_ONCE: Final = 1 << 20


class Truth:
    """Looks for the exact neighbours of blocks of queries, and counts how many of them an index has found.

    Parameters
    ----------
    index : ShardedIndex
    vectors : RowSource
        The vectors that were indexed.
    ids : IdSource or None
        The ids of the vectors; None if they are the row numbers.
    k : int
    client : distributed.Client or False

    Raises
    ------
    ValueError
        If these cannot be the vectors and ids of the index.
    """

    def __init__(
        self, index: ShardedIndex, vectors: RowSource, ids: IdSource | None, k: int, client: ClientLike
    ) -> None:
        if vectors.n_rows != len(index):
            raise ValueError(
                f"{vectors.name} has {vectors.n_rows:,} rows, but {index.url} holds {len(index):,} items: recall "
                "can be measured only against the vectors that were indexed"
            )
        id_type = "int64" if ids is None else ids.id_type
        if id_type != index.manifest.id_type:
            raise ValueError(
                f"the ids of {index.url} are of type {index.manifest.id_type}, "
                + (f"those of {ids.name} of type {id_type}" if ids else "and exact search finds row numbers: say with "
                   "--ids which row has which id")
            )  # fmt: skip
        self._index, self._vectors, self._ids, self._k, self._client = index, vectors, ids, k, client
        self._found = self._queries = 0.0

    def add(self, queries: npt.NDArray[Any], answers: QueryResult) -> None:
        """Count the neighbours that the answers to `queries` have found."""
        ids = answers.ids
        if self._ids is None and ids.size and not -1 <= ids.min() <= ids.max() < self._vectors.n_rows:
            raise ValueError(
                f"{self._index.url} answers with ids that are no row numbers of {self._vectors.name}: say with --ids "
                "which row has which id"
            )
        manifest = self._index.manifest
        exact = exact_neighbors(
            self._vectors,
            queries,
            self._k,
            metric=manifest.metric,
            width=manifest.width,
            packed=manifest.packed,
            client=self._client,
        )
        # Each query has as many true neighbours as any other, so the queries weigh the same.
        true = QueryResult(self._named(exact.ids), exact.distances)
        self._found += recall(answers, true) * len(queries)
        self._queries += len(queries)

    @property
    def recall(self) -> float:
        """The share of true neighbours found so far."""
        return self._found / self._queries if self._queries else 1.0

    def _named(self, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The ids of rows, read in bounded pieces; padding stays padding."""
        if self._ids is None:
            return rows
        is_text = self._ids.id_type == "string"
        named = np.full(rows.shape, None if is_text else -1, object if is_text else np.int64)
        for start in range(0, self._ids.n_rows, _IDS_AT_ONCE):
            stop = min(start + _IDS_AT_ONCE, self._ids.n_rows)
            inside = (rows >= start) & (rows < stop)
            if inside.any():
                named[inside] = self._ids.read(start, stop)[rows[inside] - start]
        return named


def expected_recall(tuning: dict[str, Any] | None, search_k: int | None, target: float | None) -> float | None:
    """What the index says of itself at that search budget; None if it says nothing of it."""
    if tuning is None:
        return None
    if search_k is None and target is None:
        return float(tuning["recall"])
    if search_k is None:
        return next((share for _, share in tuning["curve"] if share >= (target or 0)), None)
    return max((share for budget, share in tuning["curve"] if budget <= search_k), default=None)

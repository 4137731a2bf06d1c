"""Exact neighbours and recall: the truth that an index is measured against."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

import dask
import numpy as np
import numpy.typing as npt

from dask_annoy._native import ExactSearch
from dask_annoy.cluster.collections import chunks_of, is_collection, rows_of_values
from dask_annoy.cluster.executor import ClientLike, Executor, Place, executor_for
from dask_annoy.cluster.inputs import VectorForm, absolute, cut_rows
from dask_annoy.cluster.query import QueryResult
from dask_annoy.errors import InvalidVectorsError
from dask_annoy.shard import BYTES_OF_HIT, Hits, merge_all
from dask_annoy.vectors import RowSource, encode_rows, open_source

__all__ = ["exact_neighbors", "recall"]

_ROWS_OF_TASK: Final = 250_000
_BYTES_OF_TASK: Final = 8 * 2**20  # of queries; Dask warns of more in a task's arguments


@dataclass(frozen=True)
class _Question:
    queries: npt.NDArray[Any]  # encoded
    metric: str
    width: int
    k: int
    packed: bool
    name: str

    def answer(self, blocks: Any, n_jobs: int) -> Hits:
        """Exact hits in (first row, rows) blocks; keys and ids are row numbers."""
        binary = self.metric == "hamming"
        search = ExactSearch(self.queries, self.metric, self.width, self.k, packed=binary)
        for first, rows in blocks:
            encoded = encode_rows(
                rows, source=self.name, first_row=first, metric=self.metric, width=self.width, packed=self.packed
            )
            search.add(encoded, first, packed=binary, n_jobs=n_jobs)
        ids, distances = search.answers()
        return Hits(ids, distances, ids)


def exact_neighbors(
    vectors: Any,
    queries: Any,
    k: int = 10,
    *,
    metric: str = "angular",
    column: str | None = None,
    width: int | None = None,
    packed: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    client: ClientLike = None,
) -> QueryResult:
    """The exact `k` nearest rows to each query, by looking at all of them, on the cluster if there is one.

    Parameters
    ----------
    vectors : Dask array, Dask dataframe or series, numpy array, or URL
        As for `build_index`.
    queries : array of shape (m, width)
        In memory; with ``packed=True`` of packed bits, too.
    k : int
    metric, column, width, packed, client
        As for `build_index`.
    storage_options : mapping, optional
        What fsspec needs if `vectors` is a URL.

    Returns
    -------
    QueryResult
        Row numbers (int64, padded with -1) and distances (float32), numpy arrays of shape (m, k), nearest first.
    """
    form = VectorForm(metric, width, packed)
    rows = np.asarray(queries)
    if rows.ndim != 2:
        raise InvalidVectorsError(f"queries have the shape {rows.shape}; expected two dimensions")
    dimensions = form.width_of(rows.shape[1], "queries")
    encoded = encode_rows(rows, source="queries", first_row=0, metric=metric, width=dimensions, packed=packed)
    with executor_for(client) as executor:
        if is_collection(vectors):
            with executor.computing():
                chunks = chunks_of(vectors, column)
            name = chunks.name
            question = dask.delayed(_Question(encoded, metric, dimensions, k, packed, name), traverse=False)
            first_rows = np.cumsum([0, *chunks.lengths]).tolist()
            tasks = [
                dask.delayed(_answer_chunk, pure=False)(question, values, first_rows[number])
                for number, values in enumerate(chunks.delayed)
            ]
            answers = executor.compute(tasks, label="exact", weights=chunks.lengths)
            merged = [merge_all(answers, k, metric)] if answers else []
        else:
            source = open_source(absolute(vectors), column=column, storage_options=storage_options)
            name = source.name
            step = max(1, _BYTES_OF_TASK // max(1, encoded[:1].nbytes))
            merged = [
                _hits_in_file(
                    source, _Question(encoded[first : first + step], metric, dimensions, k, packed, name), executor
                )
                for first in range(0, max(1, len(encoded)), step)
                if source.n_rows
            ]
    if not merged:
        raise InvalidVectorsError(f"{name} has no rows to compare with")
    return QueryResult(
        np.concatenate([hits.ids for hits in merged]), np.concatenate([hits.distances for hits in merged])
    )


def _hits_in_file(source: RowSource, question: _Question, executor: Executor) -> Hits:
    ranges = [
        _Range(*cut_rows(source, start, stop), start, stop, question)
        for start in range(0, source.n_rows, _ROWS_OF_TASK)
        for stop in [min(source.n_rows, start + _ROWS_OF_TASK)]
    ]
    task_bytes = question.queries.nbytes + len(question.queries) * question.k * BYTES_OF_HIT
    with closing(executor.stream(_answer_range, ranges, label="exact", task_bytes=task_bytes)) as answers:
        return merge_all(answers, question.k, question.metric)


def recall(answers: npt.ArrayLike | QueryResult, truth: npt.ArrayLike | QueryResult) -> float:
    """The share of the true neighbours that were found.

    Parameters
    ----------
    answers : array of shape (m, k), or QueryResult
        Ids found; further columns than `truth` has are not looked at.
    truth : array of shape (m, k), or QueryResult
        Ids of the true neighbours; -1 or None pads rows that have fewer.

        Of two results, distances count: an answer as near as the farthest true neighbour is a right one, whichever of
        equally near items it is. Bits have many such items.

    Returns
    -------
    float
        From 0 to 1, over all queries together; 1 if there is nothing to find.
    """
    found, true = _ids_of(answers), _ids_of(truth)
    if found.ndim != 2 or true.ndim != 2 or len(found) != len(true):
        raise ValueError(f"expected answers and truth of shape (m, k), got {found.shape} and {true.shape}")
    found = found[:, : true.shape[1]]
    is_there = _is_there(true)
    if not is_there.any():
        return 1.0
    if isinstance(answers, QueryResult) and isinstance(truth, QueryResult):
        return float(_near_enough(found, answers, is_there, truth).sum() / is_there.sum())
    hit = (true[:, :, None] == found[:, None, :]).any(axis=2) & is_there
    return float(hit.sum() / is_there.sum())


def _ids_of(answers: npt.ArrayLike | QueryResult) -> npt.NDArray[Any]:
    return np.asarray(answers.ids if isinstance(answers, QueryResult) else answers)


def _is_there(ids: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    there: npt.NDArray[np.bool_] = ids != (None if ids.dtype == object else -1)
    return there


def _near_enough(
    found: npt.NDArray[Any], answers: QueryResult, is_there: npt.NDArray[np.bool_], truth: QueryResult
) -> npt.NDArray[np.int64]:
    """How many answers of each query are as near as its farthest true neighbour, each item once."""
    distances, true = np.asarray(answers.distances)[:, : found.shape[1]], np.asarray(truth.distances)
    n_true = is_there.sum(axis=1)
    farthest = true[np.arange(len(true)), np.maximum(n_true, 1) - 1]
    larger_is_nearer = bool((np.where(is_there, true, farthest[:, None])[:, :1] > farthest[:, None]).any())
    near = distances >= farthest[:, None] if larger_is_nearer else distances <= farthest[:, None]
    near &= _is_there(found)
    for place in range(1, found.shape[1]):  # an item that is named twice
        near[:, place] &= ~(found[:, :place] == found[:, place : place + 1]).any(axis=1)
    counts: npt.NDArray[np.int64] = np.minimum(near.sum(axis=1), n_true)
    return counts


@dataclass(frozen=True)
class _Range:
    source: RowSource
    source_start: int
    start: int
    stop: int
    question: _Question


def _answer_range(task: _Range, place: Place) -> Hits:
    shift = task.start - task.source_start
    blocks = task.source.blocks(task.source_start, task.stop - shift, max_bytes=place.settings.block_bytes)
    return task.question.answer(((first + shift, rows) for first, rows in blocks), place.n_jobs)


def _answer_chunk(question: _Question, values: Any, first_row: int) -> Hits:
    rows = rows_of_values(values, question.name, first_row)
    return question.answer([(first_row, rows)] if len(rows) else [], 1)

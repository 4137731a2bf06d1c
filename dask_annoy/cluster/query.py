"""Queries: every shard is searched where it is mapped, answers are merged as a tree."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Self, get_args

import dask
import dask.array as da
import numpy as np
import numpy.typing as npt
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer

from dask_annoy.cluster.executor import (
    ClientLike,
    ClusterExecutor,
    Place,
    current_client,
    enter_place,
    executor_for,
    granted_threads,
)
from dask_annoy.cluster.placement import preferred_workers
from dask_annoy.cluster.settings import Settings, current_settings
from dask_annoy.errors import InvalidVectorsError
from dask_annoy.planning import MOST_BUDGET, budget_for
from dask_annoy.shard import (
    BYTES_OF_HIT,
    FAN_IN,
    Hits,
    SearchMethod,
    ShardHandle,
    count_methods,
    merge_all,
    open_shard,
    shard_handles,
)
from dask_annoy.storage import IndexFolder, Manifest
from dask_annoy.vectors import encode_rows

__all__ = ["QueryResult", "query"]

_QUERIES_OF_TASK: Final = 4096
_BYTES_OF_TASK: Final = 8 * 2**20  # Dask warns of more in a task's arguments

# Bytes that a resident shard counts for in Dask's eyes: as many as make the scheduler prefer the worker that has it,
# and so few that Dask does not think of spilling it.
_RESIDENT_BYTES: Final = 32 * 2**20


class _Answers(NamedTuple):
    ids: Any
    distances: Any


class QueryResult(_Answers):
    """Answers, to be unpacked as ``ids, distances``: numpy or lazy Dask arrays of shape (m, k), nearest first.

    Attributes
    ----------
    ids, distances : arrays
    methods : dict of str to int, or None
        How many searches of a shard went by which method ("exact", "trees", "leaves" or "cells"): one for each shard,
        or on a cluster one for each block of queries and shard. None for lazy arrays, which have not been searched for.
    """

    methods: Mapping[str, int] | None

    def __new__(cls, ids: Any, distances: Any, methods: Mapping[str, int] | None = None) -> Self:  # noqa: D102
        result = super().__new__(cls, ids, distances)
        result.methods = methods
        return result


@dataclass(frozen=True)
class _Question:
    """What is asked of every shard, but for the queries."""

    metric: str
    width: int
    k: int
    search_k: int
    method: SearchMethod

    def encode(self, rows: npt.NDArray[Any], first_row: int) -> npt.NDArray[Any]:
        if rows.ndim != 2:
            raise InvalidVectorsError(f"queries have the shape {rows.shape}; expected (m, {self.width})")
        row_bytes = -(-self.width // 8)
        packed = self.metric == "hamming" and rows.dtype == np.uint8 and rows.shape[1] == row_bytes != self.width
        return encode_rows(
            rows, source="queries", first_row=first_row, metric=self.metric, width=self.width, packed=packed
        )


def query(
    folder: IndexFolder,
    manifest: Manifest,
    client: ClientLike,
    Q: Any,
    k: int,
    search_k: int | None,
    target_recall: float | None,
    method: SearchMethod = "auto",
) -> QueryResult:
    """Answer queries; see `ShardedIndex.query`."""
    _check_method(manifest, method)
    budget = _budget(manifest, k, search_k, target_recall)
    question = _Question(manifest.metric, manifest.width, _checked_k(k), budget, method)
    shards = shard_handles(folder, manifest)
    if dask.is_dask_collection(Q):
        return _lazy(Q, shards, question, client)
    rows = np.asarray(Q)
    if rows.ndim == 1 and rows.dtype != object:
        one = query(folder, manifest, client, rows[None, :], k, search_k, target_recall, method)
        return QueryResult(one.ids[0], one.distances[0], one.methods)
    encoded = question.encode(rows, 0)
    with executor_for(client) as executor:
        if isinstance(executor, ClusterExecutor):
            hits = _on_cluster(executor, encoded, shards, question)
        else:
            place = enter_place(current_settings(), granted_threads())
            hits = _merged((_search(_SearchTask(shard, encoded, question), place) for shard in shards), question)
    return QueryResult(hits.ids, hits.distances, hits.methods)


def _check_method(manifest: Manifest, method: str) -> None:
    if method not in get_args(SearchMethod):
        raise ValueError(f"method must be one of {', '.join(map(repr, get_args(SearchMethod)))}, got {method!r}")
    without = [shard.slot for shard in manifest.shards if not shard.has_cells]
    if method == "cells" and without:
        raise ValueError(
            f"method='cells' needs cells in every shard, and {len(without)} of {len(manifest.shards)} have none (slot "
            f'{without[0]}): they were built with cells=False. Leave the method to "auto"'
        )


def _checked_k(k: int) -> int:
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        raise ValueError(f"k must be a positive number of neighbours, not {k!r}")
    return int(k)


def _budget(manifest: Manifest, k: int, search_k: int | None, target_recall: float | None) -> int:
    if search_k is not None:
        if target_recall is not None:
            raise ValueError("give search_k or target_recall, not both: each decides the search budget")
        if isinstance(search_k, bool) or not isinstance(search_k, (int, np.integer)) or search_k < 1:
            raise ValueError(f"search_k must be a positive number of candidates, not {search_k!r}")
        return min(int(search_k), MOST_BUDGET)
    tuned = budget_for(manifest.tuning, k, target_recall)
    return k * manifest.shards[0].n_trees if tuned is None else tuned


# On a cluster, from numpy


@dataclass(frozen=True)
class _SearchTask:
    shard: ShardHandle
    queries: npt.NDArray[Any]
    question: _Question


def _on_cluster(
    executor: ClusterExecutor, encoded: npt.NDArray[Any], shards: Sequence[ShardHandle], question: _Question
) -> Hits:
    step = max(1, min(_QUERIES_OF_TASK, _BYTES_OF_TASK // max(1, encoded[:1].nbytes)))
    blocks = [encoded[start : start + step] for start in range(0, len(encoded), step)] or [encoded]
    tasks = [_SearchTask(shard, block, question) for block in blocks for shard in shards]
    affinity = [task.shard.entry.uuid for task in tasks]
    task_bytes = blocks[0].nbytes + len(blocks[0]) * question.k * BYTES_OF_HIT
    with closing(executor.stream(_search, tasks, label="search", task_bytes=task_bytes, affinity=affinity)) as answers:
        merged = [_merged(itertools.islice(answers, len(shards)), question) for _ in blocks]
    return Hits(
        np.concatenate([hits.keys for hits in merged]),
        np.concatenate([hits.distances for hits in merged]),
        np.concatenate([hits.ids for hits in merged]),
        count_methods(merged),
    )


def _search(task: _SearchTask, place: Place) -> Hits:
    asked = task.question
    return open_shard(task.shard).search(
        task.queries, asked.k, asked.search_k, method=asked.method, n_jobs=place.n_jobs
    )


def _merged(hits: Iterable[Hits], question: _Question) -> Hits:
    return merge_all(hits, question.k, question.metric)


# Lazy, from a Dask array


class _ResidentShard:
    """Stands in a graph for a shard that a worker has open, so that the scheduler sends its searches there."""

    def __init__(self, handle: ShardHandle) -> None:
        self.handle = handle

    def __sizeof__(self) -> int:
        return min(self.handle.bytes, _RESIDENT_BYTES)


def _lazy(Q: Any, shards: Sequence[ShardHandle], question: _Question, client: ClientLike) -> QueryResult:
    if not (hasattr(Q, "chunks") and hasattr(Q, "rechunk")):
        raise InvalidVectorsError(f"queries of type {type(Q).__name__} are not supported: give a numpy or Dask array")
    if Q.ndim != 2:
        raise InvalidVectorsError(f"queries have {Q.ndim} dimensions; expected two: (m, {question.width})")
    question.encode(np.empty((0, Q.shape[1]), Q.dtype), 0)  # a wrong width or type shows now, not in the tasks
    if len(Q.chunks[1]) > 1:
        Q = Q.rechunk({1: -1})
    layers = _layers(Q, shards, question, _preferred(shards, client))
    return QueryResult(
        _answer_array(layers, Q, question.k, "ids", np.int64 if shards[0].id_type == "int64" else object),
        _answer_array(layers, Q, question.k, "distances", np.float32),
    )


@dataclass(frozen=True)
class _Layers:
    """The graph of hits: its layers, and the key of each block's merged hits."""

    token: str
    graph: HighLevelGraph
    merged: list[Any]


def _layers(Q: da.Array, shards: Sequence[ShardHandle], question: _Question, workers: Sequence[str | None]) -> _Layers:
    settings = current_settings()
    token = dask.base.tokenize(Q.name, [_contents(shard) for shard in shards], question)
    first_rows = [0, *itertools.accumulate(Q.chunks[0])]
    blocks = range(len(Q.chunks[0]))
    layers: dict[str, Any] = dict(Q.dask.layers)
    dependencies: dict[str, set[str]] = {name: set(names) for name, names in Q.dask.dependencies.items()}
    for shard, worker in zip(shards, workers, strict=True):
        # One key for an open shard whatever is asked: a scheduler that knows it already keeps to its place.
        opened = f"annoy-open-{dask.base.tokenize(_contents(shard), settings)}"
        searched = _search_layer(token, shard)
        place = None if worker is None else {"workers": [worker], "allow_other_workers": True}
        layers[opened] = MaterializedLayer({opened: (_open, shard, settings)}, annotations=place)
        layers[searched] = MaterializedLayer(
            {
                (searched, block): (_search_block, opened, (Q.name, block, 0), first_rows[block], question, settings)
                for block in blocks
            },
            annotations=place,
        )
        dependencies[opened] = set()
        dependencies[searched] = {opened, Q.name}
    name = f"annoy-merge-{token}"
    merges: dict[Any, Any] = {}
    merged: list[Any] = []
    for block in blocks:
        level: list[Any] = [(_search_layer(token, shard), block) for shard in shards]
        for depth in itertools.count():
            groups = [level[start : start + FAN_IN] for start in range(0, len(level), FAN_IN)]
            level = [(name, block, depth, number) for number in range(len(groups))]
            merges |= {key: (_merged, group, question) for key, group in zip(level, groups, strict=True)}
            if len(level) == 1:
                break
        merged += level
    layers[name] = MaterializedLayer(merges)
    dependencies[name] = {_search_layer(token, shard) for shard in shards}
    return _Layers(token, HighLevelGraph(layers, dependencies), merged)


def _contents(shard: ShardHandle) -> tuple[str, str, str | None, int]:
    """What a shard answers with: versions may share its files, and differ in what is deleted of it."""
    entry = shard.entry
    return shard.folder.url, *entry.contents, entry.slot


def _search_layer(token: str, shard: ShardHandle) -> str:
    return f"annoy-search-{token}-{shard.entry.slot}"


def _answer_array(layers: _Layers, Q: da.Array, k: int, field: str, dtype: Any) -> da.Array:
    name = f"annoy-{field}-{layers.token}"
    taken = {(name, block, 0): (getattr, key, field) for block, key in enumerate(layers.merged)}
    merge_name = f"annoy-merge-{layers.token}"
    graph = HighLevelGraph(
        {**layers.graph.layers, name: MaterializedLayer(taken)},
        {**layers.graph.dependencies, name: {merge_name}},
    )
    return _PlacedArray(graph, name, chunks=(Q.chunks[0], (k,)), dtype=np.dtype(dtype))


class _PlacedArray(da.Array):  # type: ignore[misc]  # Dask has no types
    """An array whose tasks keep their preferred workers: Dask's fusion of tasks drops annotations (dask#7036)."""

    __slots__ = ()

    @staticmethod
    def __dask_optimize__(dsk: Any, keys: Any, **kwargs: Any) -> Any:
        with dask.config.set({"optimization.fuse.active": False}):
            return da.optimize(dsk, keys, **kwargs)


def _preferred(shards: Sequence[ShardHandle], client: ClientLike) -> Sequence[str | None]:
    """The worker that had better search each shard, of those that the cluster has now; None without a cluster."""
    current = current_client(client)
    workers = sorted(current.nthreads()) if current is not None else []
    if not workers:
        return [None] * len(shards)
    return preferred_workers([shard.entry.uuid for shard in shards], workers)


def _open(shard: ShardHandle, settings: Settings) -> _ResidentShard:
    enter_place(settings, 1)
    open_shard(shard)
    return _ResidentShard(shard)


def _search_block(
    resident: _ResidentShard, rows: npt.NDArray[Any], first_row: int, question: _Question, settings: Settings
) -> Hits:
    enter_place(settings, 1)
    first = 0 if np.isnan(first_row) else int(first_row)
    return open_shard(resident.handle).search(
        question.encode(np.asarray(rows), first), question.k, question.search_k, method=question.method, n_jobs=1
    )

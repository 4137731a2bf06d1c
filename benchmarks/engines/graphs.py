"""Graphs of neighbours: hnswlib, usearch, voyager. All with 16 links and 200 candidates while building."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.engines.engine import Answers, Engine, Rows, Settings, geometric

FILE = "graph.bin"


class _Graph(Engine):
    """What all three share: their settings."""

    @classmethod
    def builds(cls, n_items: int) -> list[Settings]:
        """The usual one, and a lighter one."""
        return [{"links": 16, "building": 200}, {"links": 8, "building": 64}]

    @classmethod
    def ladders(cls, n_items: int, settings: Settings) -> list[list[Settings]]:
        """By the number of candidates held while searching."""
        return [[{"searching": number} for number in geometric(10, 1280)]]


class Hnswlib(_Graph):
    """nmslib's HNSW."""

    name = "hnswlib"
    package = "hnswlib"
    module = "hnswlib"
    metrics = frozenset({"angular", "euclidean", "dot"})

    def __init__(self, metric: str, width: int, settings: Settings) -> None:
        super().__init__(metric, width, settings)
        import hnswlib

        self._index = hnswlib.Index({"angular": "cosine", "euclidean": "l2", "dot": "ip"}[metric], width)
        self._threads = 1

    def build(self, items: Rows, threads: int) -> None:
        """All items in one call."""
        building = self.settings["building"]
        self._index.init_index(len(items), ef_construction=building, M=self.settings["links"])
        self._index.add_items(items, num_threads=threads)

    def save(self, folder: Path) -> None:
        """One file."""
        self._index.save_index(str(folder / FILE))

    def load(self, folder: Path) -> None:
        """Read into memory."""
        self._index.load_index(str(folder / FILE))

    def tune(self, settings: Settings, threads: int) -> None:
        """The number of candidates."""
        self._index.set_ef(settings["searching"])
        self._threads = threads

    def search(self, queries: Any, k: int) -> Answers:
        """One call."""
        ids, _ = self._index.knn_query(queries, k, num_threads=self._threads)
        return np.asarray(ids, np.int64)

    def search_one(self, query: Any, k: int) -> object:
        """One call."""
        return self._index.knn_query(query, k, num_threads=1)


class Usearch(_Graph):
    """unum's HNSW."""

    name = "usearch"
    package = "usearch"
    module = "usearch"
    metrics = frozenset({"angular", "euclidean", "dot", "hamming"})

    def __init__(self, metric: str, width: int, settings: Settings) -> None:
        super().__init__(metric, width, settings)
        from usearch.index import Index

        self._index: Any = Index(
            ndim=width,
            metric={"angular": "cos", "euclidean": "l2sq", "dot": "ip", "hamming": "hamming"}[metric],
            dtype="b1" if metric == "hamming" else "f32",
            connectivity=settings["links"],
            expansion_add=settings["building"],
        )
        self._threads = 1

    def build(self, items: Rows, threads: int) -> None:
        """All items in one call."""
        self._index.add(np.arange(len(items), dtype=np.uint64), items, threads=threads)

    def save(self, folder: Path) -> None:
        """One file."""
        self._index.save(str(folder / FILE))

    def load(self, folder: Path) -> None:
        """Read into memory."""
        self._index.load(str(folder / FILE))

    def singles(self, queries: Any) -> Sequence[Any]:
        """Vectors of one dimension."""
        return list(queries)

    def tune(self, settings: Settings, threads: int) -> None:
        """The number of candidates."""
        self._index.expansion_search = settings["searching"]
        self._threads = threads

    def search(self, queries: Any, k: int) -> Answers:
        """One call; rows may be short."""
        found = self._index.search(queries, k, threads=self._threads)
        short = np.arange(found.keys.shape[1]) >= np.asarray(found.counts)[:, None]
        return np.where(short, -1, found.keys.astype(np.int64))

    def search_one(self, query: Any, k: int) -> object:
        """One call."""
        return self._index.search(query, k, threads=1)


class Voyager(_Graph):
    """Spotify's HNSW."""

    name = "voyager"
    package = "voyager"
    module = "voyager"
    metrics = frozenset({"angular", "euclidean", "dot"})

    def __init__(self, metric: str, width: int, settings: Settings) -> None:
        super().__init__(metric, width, settings)
        import voyager

        self._voyager = voyager
        self._index: Any = None
        self._searching = self._threads = 1

    def build(self, items: Rows, threads: int) -> None:
        """All items in one call."""
        space = {"angular": "Cosine", "euclidean": "Euclidean", "dot": "InnerProduct"}[self.metric]
        self._index = self._voyager.Index(
            getattr(self._voyager.Space, space),
            self.width,
            M=self.settings["links"],
            ef_construction=self.settings["building"],
            max_elements=len(items),
        )
        self._index.add_items(items, num_threads=threads)

    def save(self, folder: Path) -> None:
        """One file."""
        self._index.save(str(folder / FILE))

    def load(self, folder: Path) -> None:
        """Read into memory."""
        self._index = self._voyager.Index.load(str(folder / FILE))

    def singles(self, queries: Any) -> Sequence[Any]:
        """Vectors of one dimension."""
        return list(queries)

    def tune(self, settings: Settings, threads: int) -> None:
        """The number of candidates."""
        self._searching, self._threads = settings["searching"], threads

    def search(self, queries: Any, k: int) -> Answers:
        """One call; if a query finds too few, voyager raises for all, and they are asked singly."""
        try:
            ids, _ = self._index.query(queries, k, num_threads=self._threads, query_ef=self._searching)
            return np.asarray(ids).astype(np.int64)
        except self._voyager.RecallError:
            found = [self.search_one(query, k) for query in queries]
        return np.stack([np.full(k, -1, np.int64) if ids is None else ids.astype(np.int64) for ids in found])

    def search_one(self, query: Any, k: int) -> Any:
        """One call; nothing, if the query finds too few."""
        try:
            return self._index.query(query, k, num_threads=1, query_ef=self._searching)[0]
        except self._voyager.RecallError:
            return None

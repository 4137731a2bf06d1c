"""dask-annoy: a forest that answers as Annoy does, the same with cells, and the exact scan."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import dask_annoy
from benchmarks.engines.engine import Answers, Engine, Rows, Settings, geometric
from benchmarks.failure import BenchmarkError

FILE = "index.ann"
ALL = frozenset({"angular", "euclidean", "dot", "hamming"})


class _Own(Engine):
    package = "dask-annoy"
    module = "dask_annoy"


class OwnForest(_Own):
    """`AnnoyIndex`: trees, and candidates of their leaves."""

    name = "ours"
    metrics = ALL

    def __init__(self, metric: str, width: int, settings: Settings) -> None:
        super().__init__(metric, width, settings)
        self._index = dask_annoy.AnnoyIndex(width, metric)
        self._search_k = -1
        self._threads = 1

    @classmethod
    def builds(cls, n_items: int) -> list[Settings]:
        """As many trees as annoy."""
        return [{"n_trees": 50}, {"n_trees": 10}]

    @classmethod
    def ladders(cls, n_items: int, settings: Settings) -> list[list[Settings]]:
        """By the number of candidates; repeats count."""
        return [[{"search_k": budget} for budget in geometric(250, 10 * n_items, 1)]]

    def build(self, items: Rows, threads: int) -> None:
        """Items in one call."""
        self._index.add_items(items, packed=self.metric == "hamming")
        self._index.build(self.settings["n_trees"], n_jobs=threads)

    def save(self, folder: Path) -> None:
        """One file; with cells another beside it."""
        self._index.save(str(folder / FILE))

    def load(self, folder: Path) -> None:
        """Checked and mapped."""
        self._index.load(str(folder / FILE), prefault=True)

    def singles(self, queries: Any) -> Sequence[Any]:
        """Vectors of one dimension; a value a bit for hamming."""
        return list(np.unpackbits(queries, axis=1).astype(np.float32) if self.metric == "hamming" else queries)

    def tune(self, settings: Settings, threads: int) -> None:
        """The search budget."""
        self._search_k, self._threads = settings["search_k"], threads

    def search(self, queries: Any, k: int) -> Answers:
        """One call."""
        return self._index.get_nns_by_vectors(
            queries, k, self._search_k, n_jobs=self._threads, packed=self.metric == "hamming"
        )

    def search_one(self, query: Any, k: int) -> object:
        """One call."""
        return self._index.get_nns_by_vector(query, k, self._search_k)


class OwnCells(OwnForest):
    """`AnnoyIndex` with cells: the leaves of a tree, refined, and ranked by their means."""

    name = "ours-cells"

    @classmethod
    def exists(cls) -> bool:
        """From the release on that builds cells and loads them."""
        index = dask_annoy.AnnoyIndex
        return hasattr(index, "build_cells") and "cells" in inspect.signature(index.load).parameters

    @classmethod
    def check(cls) -> None:
        """Refuse in a sentence where there are none."""
        if not cls.exists():
            raise BenchmarkError(
                f"dask-annoy {dask_annoy.__version__} has no AnnoyIndex.build_cells and load(cells=), "
                f"which {cls.name} measures: leave it out of --engines"
            )

    @classmethod
    def builds(cls, n_items: int) -> list[Settings]:
        """Ten trees; one, which is all that the cells need; fifty, as annoy."""
        return [{"n_trees": 10}, {"n_trees": 1}, {"n_trees": 50}]

    @classmethod
    def ladders(cls, n_items: int, settings: Settings) -> list[list[Settings]]:
        """By the number of items scored."""
        return [[{"search_k": budget} for budget in geometric(min(125, n_items // 2), n_items)]]

    def build(self, items: Rows, threads: int) -> None:
        """The forest first."""
        super().build(items, threads)
        self._cells_index().build_cells(n_jobs=threads)

    def load(self, folder: Path) -> None:
        """Both files."""
        self._cells_index().load(str(folder / FILE), prefault=True, cells=True)

    def _cells_index(self) -> Any:
        return self._index


class OwnExact(_Own):
    """`exact_neighbors`: every item. It keeps no index: what is saved is the vectors."""

    name = "ours-exact"
    metrics = ALL

    def __init__(self, metric: str, width: int, settings: Settings) -> None:
        super().__init__(metric, width, settings)
        self._items: Rows = np.empty((0, 0))

    @classmethod
    def builds(cls, n_items: int) -> list[Settings]:
        """Nothing to set."""
        return [{}]

    @classmethod
    def ladders(cls, n_items: int, settings: Settings) -> list[list[Settings]]:
        """Nothing to set."""
        return [[{}]]

    @classmethod
    def asks_singly(cls) -> bool:
        """It is a function for batches."""
        return False

    def build(self, items: Rows, threads: int) -> None:
        """Nothing to build."""
        self._items = items

    def save(self, folder: Path) -> None:
        """The vectors."""
        np.save(folder / "items.npy", self._items)

    def load(self, folder: Path) -> None:
        """The vectors, mapped."""
        self._items = np.load(folder / "items.npy", mmap_mode="r")

    def tune(self, settings: Settings, threads: int) -> None:
        """Its threads are those that OMP_NUM_THREADS allows, which the process was started with."""

    def search(self, queries: Any, k: int) -> Answers:
        """One call."""
        form: dict[str, Any] = {"packed": True, "width": self.width} if self.metric == "hamming" else {}
        found = dask_annoy.exact_neighbors(self._items, queries, k, metric=self.metric, client=False, **form)
        return np.asarray(found.ids, np.int64)

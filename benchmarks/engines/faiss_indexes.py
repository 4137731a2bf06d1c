"""faiss: exact scans, inverted lists, inverted lists of 4-bit codes with exact re-ranking, and the same for bits."""

from __future__ import annotations

import math
from abc import abstractmethod
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.engines.engine import Answers, Engine, Rows, Settings, geometric, normalised

FILE = "index.faiss"
FLOATS = frozenset({"angular", "euclidean", "dot"})
BITS = frozenset({"hamming"})


class _Faiss(Engine):
    """Threads, files and calls, which all its indexes share."""

    package = "faiss-cpu"
    module = "faiss"

    def __init__(self, metric: str, width: int, settings: Settings) -> None:
        super().__init__(metric, width, settings)
        import faiss

        self._faiss: Any = faiss
        self._index: Any = None

    @abstractmethod
    def _made(self) -> Any:
        """An empty index."""

    def _metric(self) -> int:
        euclidean = self.metric == "euclidean"
        return int(self._faiss.METRIC_L2 if euclidean else self._faiss.METRIC_INNER_PRODUCT)

    def build(self, items: Rows, threads: int) -> None:
        """Unit vectors for angular, as faiss knows products only."""
        self._faiss.omp_set_num_threads(threads)
        rows = self.prepared(items)
        self._index = self._made()
        self._index.train(rows)
        self._index.add(rows)

    def save(self, folder: Path) -> None:
        """One file."""
        self._faiss.write_index(self._index, str(folder / FILE))

    def load(self, folder: Path) -> None:
        """Read into memory."""
        self._index = self._faiss.read_index(str(folder / FILE))

    def prepared(self, queries: Rows) -> Rows:
        """Of unit length for angular."""
        return normalised(queries) if self.metric == "angular" else queries

    def tune(self, settings: Settings, threads: int) -> None:
        """OpenMP's threads; an index without settings has no more to tune."""
        self._faiss.omp_set_num_threads(threads)

    def search(self, queries: Any, k: int) -> Answers:
        """One call."""
        _, ids = self._index.search(queries, k)
        return np.asarray(ids, np.int64)


class FaissFlat(_Faiss):
    """Every item, as a product of matrices."""

    name = "faiss-flat"
    metrics = FLOATS

    @classmethod
    def builds(cls, n_items: int) -> list[Settings]:
        """Nothing to set."""
        return [{}]

    @classmethod
    def ladders(cls, n_items: int, settings: Settings) -> list[list[Settings]]:
        """Nothing to set."""
        return [[{}]]

    def _made(self) -> Any:
        return self._faiss.IndexFlat(self.width, self._metric())


class FaissInvertedLists(_Faiss):
    """The lists of the nearest means, every item in them."""

    name = "faiss-ivf"
    metrics = FLOATS

    @classmethod
    def builds(cls, n_items: int) -> list[Settings]:
        """Four times the root of n, and the root itself: fewer lists are trained in less time."""
        return [{"lists": _lists(n_items, 4)}, {"lists": _lists(n_items, 1)}]

    @classmethod
    def ladders(cls, n_items: int, settings: Settings) -> list[list[Settings]]:
        """By the number of lists that are looked at."""
        return [[{"probes": number} for number in geometric(1, settings["lists"])]]

    def tune(self, settings: Settings, threads: int) -> None:
        """The number of lists."""
        super().tune(settings, threads)
        self._faiss.extract_index_ivf(self._index).nprobe = settings["probes"]

    def _made(self) -> Any:
        return self._faiss.index_factory(self.width, f"IVF{self.settings['lists']},Flat", self._metric())


class FaissQuantised(FaissInvertedLists):
    """Product quantisation of two components in 4 bits, scanned in registers; the best are scored exactly."""

    name = "faiss-ivfpq"

    @classmethod
    def ladders(cls, n_items: int, settings: Settings) -> list[list[Settings]]:
        """By the number of lists, for several shares of items that are scored exactly."""
        numbers = geometric(1, settings["lists"])
        return [[{"probes": number, "rerank": factor} for number in numbers] for factor in (5, 10, 20, 40)]

    def tune(self, settings: Settings, threads: int) -> None:
        """The number of lists, and how many times k is scored exactly."""
        self._faiss.omp_set_num_threads(threads)
        self._index.k_factor = settings["rerank"]
        self._faiss.extract_index_ivf(self._index.base_index).nprobe = settings["probes"]

    def _made(self) -> Any:
        parts = next(parts for parts in range(max(1, self.width // 2), 0, -1) if self.width % parts == 0)
        return self._faiss.index_factory(self.width, f"IVF{self.settings['lists']},PQ{parts}x4fs,RFlat", self._metric())


class FaissBinaryFlat(_Faiss):
    """Every item, bits counted."""

    name = "faiss-binary-flat"
    metrics = BITS

    @classmethod
    def builds(cls, n_items: int) -> list[Settings]:
        """Nothing to set."""
        return [{}]

    @classmethod
    def ladders(cls, n_items: int, settings: Settings) -> list[list[Settings]]:
        """Nothing to set."""
        return [[{}]]

    def save(self, folder: Path) -> None:
        """One file."""
        self._faiss.write_index_binary(self._index, str(folder / FILE))

    def load(self, folder: Path) -> None:
        """Read into memory."""
        self._index = self._faiss.read_index_binary(str(folder / FILE))

    def _made(self) -> Any:
        return self._faiss.IndexBinaryFlat(self.width)


class FaissBinaryInvertedLists(FaissBinaryFlat):
    """The lists of the nearest means, bits counted."""

    name = "faiss-binary-ivf"

    @classmethod
    def builds(cls, n_items: int) -> list[Settings]:
        """As for floats."""
        return FaissInvertedLists.builds(n_items)

    @classmethod
    def ladders(cls, n_items: int, settings: Settings) -> list[list[Settings]]:
        """By the number of lists that are looked at."""
        return FaissInvertedLists.ladders(n_items, settings)

    def tune(self, settings: Settings, threads: int) -> None:
        """The number of lists."""
        super().tune(settings, threads)
        self._index.nprobe = settings["probes"]

    def _made(self) -> Any:
        return self._faiss.index_binary_factory(self.width, f"BIVF{self.settings['lists']}")


def _lists(n_items: int, times: int) -> int:
    # faiss wants 39 items a list for its training, and warns of fewer
    return max(1, min(round(times * math.sqrt(n_items)), n_items // 39))

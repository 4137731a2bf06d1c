"""annoy 1.17.3, as fast as it can be asked: lists instead of arrays, and threads, as its searches release the GIL."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from benchmarks.engines.engine import Answers, Engine, Rows, Settings, geometric

BLOCK = 10_000  # items turned into lists at a time
CHUNK = 50  # queries a task


class Annoy(Engine):
    """Trees over vectors that are added one by one."""

    name = "annoy"
    package = "annoy"
    module = "annoy"
    metrics = frozenset({"angular", "euclidean", "dot", "hamming"})
    file: ClassVar[str] = "index.ann"

    def __init__(self, metric: str, width: int, settings: Settings) -> None:
        super().__init__(metric, width, settings)
        from annoy import AnnoyIndex

        self._index: Any = AnnoyIndex(width, metric)  # type: ignore[arg-type]
        self._search_k = -1
        self._threads: ThreadPoolExecutor | None = None

    @classmethod
    def builds(cls, n_items: int) -> list[Settings]:
        """Fifty trees, as in its benchmarks; ten."""
        return [{"n_trees": 50}, {"n_trees": 10}]

    @classmethod
    def ladders(cls, n_items: int, settings: Settings) -> list[list[Settings]]:
        """By the number of candidates; repeats count, so that there may be more than items."""
        return [[{"search_k": budget} for budget in geometric(250, 10 * n_items, 1)]]

    def build(self, items: Rows, threads: int) -> None:
        """As its users do, in one thread; the trees on all."""
        for first in range(0, len(items), BLOCK):
            for number, vector in enumerate(self.prepared(items[first : first + BLOCK]), first):
                self._index.add_item(number, vector)
        self._index.build(self.settings["n_trees"], n_jobs=threads)

    def save(self, folder: Path) -> None:
        """One file."""
        self._index.save(str(folder / self.file))

    def load(self, folder: Path) -> None:
        """Mapped, all of it read."""
        self._index.load(str(folder / self.file), prefault=True)

    def prepared(self, queries: Rows) -> list[list[float]]:
        """Lists of numbers: annoy reads them faster than arrays."""
        rows = np.unpackbits(queries, axis=1) if self.metric == "hamming" else queries
        return [list(map(float, row)) for row in rows.tolist()]

    def singles(self, queries: Any) -> Sequence[Any]:
        """As they are."""
        return list(queries)

    def tune(self, settings: Settings, threads: int) -> None:
        """The pool lives on."""
        self._search_k = settings["search_k"]
        if self._threads is not None:
            self._threads.shutdown()
        self._threads = ThreadPoolExecutor(threads)

    def search(self, queries: Any, k: int) -> Answers:
        """Chunks of queries over the threads."""
        assert self._threads is not None
        chunks = [queries[first : first + CHUNK] for first in range(0, len(queries), CHUNK)]
        found = self._threads.map(lambda chunk: [self.search_one(query, k) for query in chunk], chunks)
        answers = np.full((len(queries), k), -1, np.int64)
        for row, ids in enumerate(chain.from_iterable(found)):
            answers[row, : len(ids)] = ids
        return answers

    def search_one(self, query: Any, k: int) -> list[int]:
        """Item numbers alone."""
        ids: list[int] = self._index.get_nns_by_vector(query, k, self._search_k)
        return ids

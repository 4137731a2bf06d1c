"""What a measurement asks of every library."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from benchmarks.failure import BenchmarkError

Settings = dict[str, int]
Rows = npt.NDArray[Any]  # float32, or for hamming packed bits
Answers = npt.NDArray[np.int64]  # padded with -1


class Engine(ABC):
    """One library's index of one data set.

    `settings` are those of the build; those of a search are given to `tune`, so that a search has no other work.
    """

    name: ClassVar[str]
    package: ClassVar[str]  # what pip calls it
    module: ClassVar[str]
    metrics: ClassVar[frozenset[str]]

    def __init__(self, metric: str, width: int, settings: Settings) -> None:
        self.metric, self.width, self.settings = metric, width, settings

    @classmethod
    def exists(cls) -> bool:
        """Whether this release has it at all; such engines are left out unless asked for."""
        return True

    @classmethod
    def check(cls) -> None:
        """Refuse in a sentence if the package is not installed."""
        if importlib.util.find_spec(cls.module) is None:
            raise BenchmarkError(
                f"{cls.name} needs the package {cls.package}, which is not installed: "
                f"pip install 'dask-annoy[bench]', or choose others with --engines"
            )

    @classmethod
    @abstractmethod
    def builds(cls, n_items: int) -> list[Settings]:
        """Settings to build with: the usual ones first, then lighter ones, which build faster and search slower."""

    @classmethod
    @abstractmethod
    def ladders(cls, n_items: int, settings: Settings) -> list[list[Settings]]:
        """Settings to search with, each list from the fastest to the most thorough."""

    @abstractmethod
    def build(self, items: Rows, threads: int) -> None:
        """Add the items and build, on that many threads."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write all that a search needs into the folder."""

    @abstractmethod
    def load(self, folder: Path) -> None:
        """Be ready to search what was saved."""

    def prepared(self, queries: Rows) -> Any:
        """The queries in the form that the engine likes best; this is not timed."""
        return queries

    def singles(self, queries: Any) -> Sequence[Any]:
        """Prepared queries one by one, each as `search_one` likes it best; this is not timed."""
        return [queries[row : row + 1] for row in range(len(queries))]

    @abstractmethod
    def tune(self, settings: Settings, threads: int) -> None:
        """Search like this from now on."""

    @abstractmethod
    def search(self, queries: Any, k: int) -> Answers:
        """A batch, on all the threads of `tune`."""

    def search_one(self, query: Any, k: int) -> object:
        """A single query, in whatever form the library answers."""
        return self.search(query, k)

    @classmethod
    def asks_singly(cls) -> bool:
        """Whether the library is made for single queries, too."""
        return True


def geometric(first: int, last: int, a_doubling: int = 2) -> list[int]:
    """Whole numbers from first to last, so many steps a doubling."""
    count = max(1, round(a_doubling * np.log2(last / first)))
    return sorted({round(first * (last / first) ** (step / count)) for step in range(count + 1)})


def normalised(rows: Rows) -> Rows:
    """Rows of unit length, zeros as they are."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(norms == 0, 1, norms), np.float32)

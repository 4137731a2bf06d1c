"""Row sources that go wrong on purpose. A module of its own, as workers must be able to import it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distributed import get_client

from dask_annoy import QueryResult, ShardedIndex, build_index
from dask_annoy.vectors import NpySource


class FailingOnce(NpySource):
    """Rows of a file; reading a block with a certain row fails, as long as a file is there that says so."""

    def __init__(self, path: Path, row: int, while_exists: Path, error: BaseException) -> None:
        super().__init__(str(path))
        self.row, self.while_exists, self.error = row, str(while_exists), error

    def _blocks(self, start: int, stop: int, max_bytes: int) -> Iterator[tuple[int, Any]]:
        for first, rows in super()._blocks(start, stop, max_bytes):
            if first <= self.row < first + len(rows) and Path(self.while_exists).exists():
                raise self.error
            yield first, rows


class Halting(NpySource):
    """Rows of a file; reading a block with a certain row says who reads it, and waits until it may go on."""

    def __init__(self, path: Path, row: int, told_in: Path, until_exists: Path) -> None:
        super().__init__(str(path))
        self.row, self.told_in, self.until_exists = row, str(told_in), str(until_exists)

    def _blocks(self, start: int, stop: int, max_bytes: int) -> Iterator[tuple[int, Any]]:
        for first, rows in super()._blocks(start, stop, max_bytes):
            if first <= self.row < first + len(rows):
                Path(self.told_in, str(os.getpid())).touch()
                while not Path(self.until_exists).exists():
                    time.sleep(0.01)
            yield first, rows


def ask(index: ShardedIndex, rows: Any) -> QueryResult:
    """Ask from inside a task."""
    return index.query(rows, k=5)


def build_and_query(rows: Any, url: str, inner: str | None) -> Any:
    """Build and ask from inside a task, with the client found or given."""
    client = None if inner is None else get_client()
    index = build_index(rows, url, metric="euclidean", shard_rows=500, n_trees=2, client=client)
    return index.query(rows[:10], k=2, search_k=10**5).ids

"""A task that counts the native threads at work in its process. Importable by workers."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dask_annoy._native import AnnoyIndex, thread_count
from dask_annoy.cluster.executor import Place


@dataclass(frozen=True)
class Threads:
    """What a task was given, what ``n_jobs=-1`` would have been, and how many native threads ran at once at most."""

    n_jobs: int
    when_unasked: int
    running_threads: int


def build_and_count(rows: int, place: Place) -> Threads:
    """Build a forest within a task's share of threads; within four times that for a negative number of rows."""
    forest = AnnoyIndex(32, "euclidean")
    forest.add_items(np.random.default_rng(0).normal(size=(abs(rows), 32)).astype(np.float32))
    ended, most = threading.Event(), 0

    def count() -> None:
        nonlocal most
        while not ended.wait(0.001):
            most = max(most, _running_native_threads())

    counter = threading.Thread(target=count)
    counter.start()
    try:
        forest.build(16, n_jobs=place.n_jobs if rows > 0 else 4 * place.n_jobs)
    finally:
        ended.set()
        counter.join()
    return Threads(n_jobs=place.n_jobs, when_unasked=thread_count(-1), running_threads=most)


def _running_native_threads() -> int:
    """Threads of this process that Python has not started, and that run or could run."""
    of_python = {thread.native_id for thread in threading.enumerate()}
    running = 0
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):
            state = (task / "stat").read_text().rpartition(")")[2].split()[0]
            running += state == "R" and int(task.name) not in of_python
    return running

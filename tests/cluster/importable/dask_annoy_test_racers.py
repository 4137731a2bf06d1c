"""Writers that race. A module of its own, as the processes that are started must be able to import it."""

from __future__ import annotations

from typing import Any

import numpy as np

from dask_annoy import open_index
from dask_annoy.errors import CommitConflictError, InvalidIdsError


def append(url: str, writer: int, rounds: int, barrier: Any, outcomes: Any) -> None:
    rows = np.random.default_rng(writer).normal(size=(rounds * 10, 16)).astype(np.float32)
    index = open_index(url, client=False)
    done = []
    try:
        for turn in range(rounds):
            barrier.wait(100)
            ids = np.arange(10) + 1000 + (writer * rounds + turn) * 10
            index = index.append(rows[turn * 10 : turn * 10 + 10], ids)
            done += ids.tolist()
    except Exception as error:
        barrier.abort()
        outcomes.put((writer, f"{type(error).__name__}: {error}"))
    else:
        outcomes.put((writer, done))


def claim(url: str, writer: int, rounds: int, barrier: Any, outcomes: Any) -> None:
    """Append the same ids as the others: one may win each round."""
    rows = np.random.default_rng(writer).normal(size=(rounds, 16)).astype(np.float32)
    won = []
    try:
        for turn in range(rounds):
            barrier.wait(100)
            try:
                open_index(url, client=False).append(rows[turn : turn + 1], np.array([5000 + turn]))
                won.append(True)
            except (CommitConflictError, InvalidIdsError):
                won.append(False)
    except Exception as error:
        barrier.abort()
        outcomes.put((writer, f"{type(error).__name__}: {error}"))
    else:
        outcomes.put((writer, won))

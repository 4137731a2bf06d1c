"""The life of a small index, step by step, and what it must hold. Importable by processes that tests start."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from dask_annoy import ShardedIndex, build_index, open_index
from dask_annoy.storage import IndexFolder, ShardCache, configure_cache

WIDTH = 8
EVERYTHING = 10**7  # a search budget
RULES: dict[str, Any] = {"shard_rows": 60, "n_trees": 2, "metric": "euclidean"}

Content = dict[int, int]
"""Which row of `ROWS` each id has."""

ROWS: NDArray[np.float32] = np.random.default_rng(5).normal(size=(400, WIDTH)).astype(np.float32)


def built(folder: IndexFolder, client: Any) -> ShardedIndex:
    """From a Dask collection, so that parts are staged, too."""
    rows = da.from_array(ROWS[:120], chunks=(50, WIDTH))
    return build_index(
        rows, folder.url, ids=np.arange(120), **RULES, storage_options=folder.storage_options, client=client
    )


def opened(folder: IndexFolder, client: Any, version: int | str | None = None) -> ShardedIndex:
    return open_index(folder.url, version=version, storage_options=folder.storage_options, client=client)


def appended(folder: IndexFolder, client: Any) -> ShardedIndex:
    return opened(folder, client).append(ROWS[120:200], np.arange(120, 200))


def upserted(folder: IndexFolder, client: Any) -> ShardedIndex:
    return opened(folder, client).upsert(ROWS[300:330], np.arange(100, 130))


def deleted(folder: IndexFolder, client: Any) -> ShardedIndex:
    # Those that an earlier run of the same command has deleted are missing already.
    return opened(folder, client).delete(np.arange(0, 90), missing="ignore")


def compacted(folder: IndexFolder, client: Any) -> ShardedIndex:
    return opened(folder, client).compact()


def cleaned_up(folder: IndexFolder, client: Any) -> ShardedIndex:
    index = opened(folder, client)
    index.gc(datetime.timedelta(0), dry_run=False)
    return index


#: Each step stands on those before it, and makes the version of its place, but for the last.
STEPS: dict[str, Callable[[IndexFolder, Any], ShardedIndex]] = {
    "build": built,
    "append": appended,
    "upsert": upserted,
    "delete": deleted,
    "compact": compacted,
    "gc": cleaned_up,
}

_BUILT: Content = {row: row for row in range(120)}
_APPENDED = _BUILT | {row: row for row in range(120, 200)}
_UPSERTED = _APPENDED | {key: key + 200 for key in range(100, 130)}
_DELETED = {key: row for key, row in _UPSERTED.items() if key >= 90}
#: What the newest version holds after each step.
CONTENTS: dict[str, Content] = {
    "build": _BUILT,
    "append": _APPENDED,
    "upsert": _UPSERTED,
    "delete": _DELETED,
    "compact": _DELETED,
    "gc": _DELETED,
}


def check_holds(index: ShardedIndex, content: Content) -> None:
    """Raise AssertionError unless the index finds each vector by itself, with its id, and nothing else."""
    rows = ROWS[list(content.values())]
    assert len(index) == len(content), f"{len(index)} items, not {len(content)}"
    found = index.query(rows, k=1, search_k=EVERYTHING)
    assert found.ids[:, 0].tolist() == list(content), "a vector is not found by its id"
    assert not found.distances.any(), "a vector is not at distance 0 of itself"
    everything = index.query(rows[:1], k=len(content) + 3, search_k=EVERYTHING).ids[0].tolist()
    assert everything[len(content) :] == [-1] * 3, "something is found that should not be there"
    assert set(everything[: len(content)]) == set(content), "something else is found than what should be there"


def use_fresh_cache(directory: Path) -> ShardCache:
    """Let this process have nothing in its cache."""
    return configure_cache(directory)

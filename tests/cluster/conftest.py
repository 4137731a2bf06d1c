from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dask_annoy import ShardedIndex
from dask_annoy.storage import configure_cache

# Workers are started with this process's path, and so can import what stands there.
sys.path.append(str(Path(__file__).with_name("importable")))

SHARD_ROWS = 700
TREES = 4


@pytest.fixture(scope="session")
def rows() -> NDArray[np.float32]:
    """2,000 × 16, with some structure, so that answers differ in their quality."""
    rng = np.random.default_rng(11)
    centres = rng.normal(size=(40, 16))
    return (centres[rng.integers(0, 40, 2000)] + 0.4 * rng.normal(size=(2000, 16))).astype(np.float32)


@pytest.fixture(scope="session")
def npy(rows: NDArray[np.float32], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.npy"
    np.save(path, rows)
    return path


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path: Path) -> Iterator[None]:
    yield
    configure_cache()


@pytest.fixture(params=["no client", "threads", "processes"])
def client(request: pytest.FixtureRequest) -> Any:
    """What `client=` can be."""
    if request.param == "no client":
        return False
    return request.getfixturevalue("threaded_client" if request.param == "threads" else "process_client")


def fingerprint(index: ShardedIndex) -> list[tuple[Any, ...]]:
    """What must be equal for equal input: every shard's rows, seed and checksums."""
    return [
        (shard.slot, shard.row_start, shard.row_stop, shard.seed, *((file.name, file.sha256) for file in shard.files))
        for shard in index.manifest.shards
    ]


def names_below(url: Any) -> set[str]:
    """All files of a local index folder."""
    return {str(path.relative_to(url)) for path in Path(url).rglob("*") if path.is_file()}

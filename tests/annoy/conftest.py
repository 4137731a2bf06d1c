from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import fsspec
import numpy as np
import pytest
from numpy.typing import NDArray

from dask_annoy import AnnoyIndex


@pytest.fixture
def vectors() -> NDArray[np.float32]:
    """500 × 12."""
    return np.random.default_rng(5).normal(size=(500, 12)).astype(np.float32)


@pytest.fixture
def built(vectors: NDArray[np.float32]) -> AnnoyIndex:
    index = AnnoyIndex(12, "euclidean")
    index.add_items(vectors)
    index.build(5)
    return index


@pytest.fixture
def memory() -> Iterator[Any]:
    """Fsspec's memory, empty before and after."""
    filesystem = fsspec.filesystem("memory")
    filesystem.store.clear()
    yield filesystem
    filesystem.store.clear()


@pytest.fixture
def answers() -> Callable[[Any, NDArray[np.float32]], list[Any]]:
    """What an index answers to some queries: to compare two of them."""

    def ask(index: Any, vectors: NDArray[np.float32]) -> list[Any]:
        ids, distances = index.get_nns_by_vectors(vectors[:30], 7, include_distances=True)
        return [ids.tolist(), distances.tolist(), index.get_n_items(), index.get_n_trees()]

    return ask

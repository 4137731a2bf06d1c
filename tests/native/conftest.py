"""What the tests of the native module share: indexes to try things on."""

from __future__ import annotations

import numpy as np

from dask_annoy import AnnoyIndex
from dask_annoy._native import metric_names

METRICS = metric_names()
ANNOYS_METRICS = ["angular", "euclidean", "manhattan", "hamming", "dot"]


def vectors_of(n: int, width: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)


def filled(n: int = 50, metric: str = "euclidean", width: int = 4) -> AnnoyIndex:
    index = AnnoyIndex(width, metric)
    index.add_items(vectors_of(n, width))
    return index


def built(n: int = 50, metric: str = "euclidean", width: int = 4, n_trees: int = 3) -> AnnoyIndex:
    index = filled(n, metric, width)
    index.build(n_trees)
    return index

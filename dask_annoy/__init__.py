"""Sharded approximate nearest neighbours: Annoy forests built, stored and queried with Dask.

One machine: :class:`AnnoyIndex` (also named ``Annoy``), with Annoy's methods and files; :class:`Index`, which adds what
notebooks want; :class:`AnnoyTransformer` for scikit-learn's pipelines; :func:`estimate_build`, what a build will take.
Many shards: :func:`build_index`, :func:`open_index`, :func:`plan_index`.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING

try:
    from dask_annoy._native import available_kernels
except ModuleNotFoundError as error:
    if error.name != "dask_annoy._native":
        raise
    raise ImportError(
        f"the native module of dask-annoy is missing beside {__file__}: this is a source tree that was not built. "
        "Install it (pip install . or pip install -e .) and start Python outside the checkout"
    ) from error

from dask_annoy.annoy import AnnoyIndex, BuildEstimate, estimate_build

if TYPE_CHECKING:
    from dask_annoy.annoy.index import Index
    from dask_annoy.annoy.transformer import AnnoyTransformer as AnnoyTransformer
    from dask_annoy.cluster import (
        BuildPlan,
        Garbage,
        QueryResult,
        RepairReport,
        ShardedIndex,
        VerifyReport,
        VersionInfo,
        build_index,
        exact_neighbors,
        open_index,
        plan_index,
        recall,
    )

__version__ = "0.1.0"

Annoy = AnnoyIndex

# The sharded index brings Dask along, others their own: who wants AnnoyIndex only should not wait for these imports.
_MODULE_OF = {
    "AnnoyTransformer": "dask_annoy.annoy.transformer",
    "Index": "dask_annoy.annoy.index",
    "BuildPlan": "dask_annoy.cluster",
    "Garbage": "dask_annoy.cluster",
    "QueryResult": "dask_annoy.cluster",
    "RepairReport": "dask_annoy.cluster",
    "ShardedIndex": "dask_annoy.cluster",
    "VerifyReport": "dask_annoy.cluster",
    "VersionInfo": "dask_annoy.cluster",
    "build_index": "dask_annoy.cluster",
    "exact_neighbors": "dask_annoy.cluster",
    "open_index": "dask_annoy.cluster",
    "plan_index": "dask_annoy.cluster",
    "recall": "dask_annoy.cluster",
}

# Without AnnoyTransformer: `from dask_annoy import *` must do where scikit-learn is not installed.
__all__ = [
    "Annoy",
    "AnnoyIndex",
    "BuildEstimate",
    "BuildPlan",
    "Garbage",
    "Index",
    "QueryResult",
    "RepairReport",
    "ShardedIndex",
    "VerifyReport",
    "VersionInfo",
    "available_kernels",
    "build_index",
    "estimate_build",
    "exact_neighbors",
    "open_index",
    "plan_index",
    "recall",
]


def __getattr__(name: str) -> object:
    if name in _MODULE_OF:
        return getattr(importlib.import_module(_MODULE_OF[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    without = set() if importlib.util.find_spec("sklearn") else {"AnnoyTransformer"}
    return sorted({*globals(), *_MODULE_OF} - without)

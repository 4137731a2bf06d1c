"""The sharded index on a Dask cluster, or on local threads: the only layer that imports Dask."""

from __future__ import annotations

from dask_annoy.cluster.build import build_index, plan_index
from dask_annoy.cluster.exact import exact_neighbors, recall
from dask_annoy.cluster.history import VersionInfo
from dask_annoy.cluster.index import ShardedIndex, open_index
from dask_annoy.cluster.query import QueryResult
from dask_annoy.cluster.repair import RepairReport
from dask_annoy.cluster.verify import VerifyReport
from dask_annoy.planning import BuildPlan
from dask_annoy.storage import Garbage

__all__ = [
    "BuildPlan",
    "Garbage",
    "QueryResult",
    "RepairReport",
    "ShardedIndex",
    "VerifyReport",
    "VersionInfo",
    "build_index",
    "exact_neighbors",
    "open_index",
    "plan_index",
    "recall",
]

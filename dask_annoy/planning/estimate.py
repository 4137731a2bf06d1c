"""What a build will take: bytes, memory and time, before it runs."""

from __future__ import annotations

from typing import Final

from dask_annoy._native import estimate_build, estimate_cells, node_size
from dask_annoy.shard import working_memory
from dask_annoy.storage.document import Document

__all__ = ["Estimate", "estimate_shard"]

_THREADS: Final = 4  # of a worker; a plan does not know
# Measured on text256 (angular), sift128 (euclidean, manhattan) and orb256 (hamming).
_SECONDS_PER_TREE_ROW: Final = 0.5e-6  # of a core of 2025, plus a term in the width
_SECONDS_PER_TREE_ROW_AND_DIMENSION: Final = 4e-9
_SECONDS_PER_CELL_ROW_AND_DIMENSION: Final = 60e-9
_SECONDS_PER_SAMPLE_ROW_AND_DIMENSION: Final = 0.05e-9


class Estimate(Document):
    """Of a whole build, and of its largest shard task."""

    total_bytes: int
    shard_bytes: int
    task_memory_bytes: int
    task_mapped_bytes: int
    core_seconds: float


def estimate_shard(
    metric: str,
    width: int,
    rows: int,
    n_rows: int,
    n_trees: int,
    sample_rows: int,
    block_bytes: int,
    *,
    with_cells: bool = True,
) -> Estimate:
    """Estimate a build whose largest shard has `rows` of the `n_rows`.

    The mapped part of the memory is the forest file, whose pages the system can take back.
    """
    forest_bytes, building, _, _ = estimate_build(
        rows,
        width,
        metric,
        n_trees,
        n_jobs=_THREADS,
        on_disk=True,
        memory_limit=working_memory(metric, width, rows, n_trees),
        resident=0,
    )
    cells_bytes = estimate_cells(rows, width, metric) if with_cells else 0
    shard_bytes = forest_bytes + cells_bytes
    # A block as stored, encoded, and as nodes; the exact search's queries and best.
    own = 3 * block_bytes + sample_rows * (node_size(metric, width) + 16 * 11)
    dimensions = width / 64 if metric == "hamming" else width
    seconds = n_rows * (
        n_trees * (_SECONDS_PER_TREE_ROW + _SECONDS_PER_TREE_ROW_AND_DIMENSION * dimensions)
        + with_cells * _SECONDS_PER_CELL_ROW_AND_DIMENSION * dimensions
        + sample_rows * _SECONDS_PER_SAMPLE_ROW_AND_DIMENSION * dimensions
    )
    return Estimate(
        total_bytes=shard_bytes * n_rows // rows + 20 * n_rows,  # an id, and its place in the sorted run
        shard_bytes=shard_bytes,
        # The file is searched once it is built; its cells are there a second time while they are written.
        task_memory_bytes=own + max(building, shard_bytes + cells_bytes),
        task_mapped_bytes=forest_bytes,
        core_seconds=seconds,
    )

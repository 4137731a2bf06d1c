"""What a build on one machine will take of memory and disk, before a vector is added."""

from __future__ import annotations

import operator
from dataclasses import dataclass

from dask_annoy import _native
from dask_annoy.annoy.metrics import canonical_metric

__all__ = ["BuildEstimate", "estimate_build"]


@dataclass(frozen=True)
class BuildEstimate:
    """What a build will take, about. All in bytes.

    Attributes
    ----------
    file_bytes : int
        Of the saved index. Within 20 % on rows that are not mostly repeats.
    memory_bytes : int
        That the process's resident memory grows by, from before the first item to the end of the build, at the most:
        items and trees (in memory) or the items' pages (on disk, where they are mapped), and what the build works
        with. The caller's arrays are not counted.
    least_memory_limit : int
        The least ``memory_limit`` that the build keeps to in a process that has as much memory as this one now, on one
        thread.
    scratch_bytes : int
        Room that is taken beside the file while it is built, with ``memory_limit`` only.
    """

    file_bytes: int
    memory_bytes: int
    least_memory_limit: int
    scratch_bytes: int


def estimate_build(
    n_items: int,
    f: int,
    metric: str,
    n_trees: int,
    *,
    n_jobs: int = -1,
    on_disk: bool = False,
    memory_limit: int | None = None,
) -> BuildEstimate:
    """Predict what `AnnoyIndex.build` takes, before it runs.

    Parameters
    ----------
    n_items : int
        Items, without holes.
    f : int
        Dimensions of a vector.
    metric : str
        A metric's name or alias.
    n_trees : int
        As for `AnnoyIndex.build`: -1 means trees that take the room of the items.
    n_jobs : int
        Threads, each of which needs some memory; -1 means all.
    on_disk : bool
        Whether the index is built in its file, by `AnnoyIndex.on_disk_build`.
    memory_limit : int, optional
        As for `AnnoyIndex.build`: bytes of the whole process, this one, what it holds now included.

    Returns
    -------
    BuildEstimate

    Raises
    ------
    ValueError
        If a parameter is out of its range, or the build cannot keep to ``memory_limit``: the message names the least
        that will do.

    Examples
    --------
    >>> from dask_annoy import estimate_build
    >>> on_disk = estimate_build(2_000_000, 128, "euclidean", 10, on_disk=True)
    >>> round(on_disk.file_bytes / 1e9, 1)
    1.3
    """
    items = operator.index(n_items)
    if items < 0:
        raise ValueError(f"n_items must not be negative, got {items}")
    width = operator.index(f)
    if width < 1:
        raise ValueError(f"f must be at least 1, got {width}: vectors must have at least one dimension")
    if memory_limit is not None and memory_limit < 0:
        raise ValueError(f"memory_limit must not be negative, got {memory_limit}")
    return BuildEstimate(
        *_native.estimate_build(
            items, width, canonical_metric(metric), n_trees, n_jobs=n_jobs, on_disk=on_disk, memory_limit=memory_limit
        )
    )

"""What an `Index` says of itself: as a dictionary, as text, in bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NotRequired, TypedDict, cast

if TYPE_CHECKING:
    from dask_annoy.annoy.index import Index

__all__ = ["AnnoyInfo", "info", "memory_usage", "repr_info"]


class AnnoyInfo(TypedDict):
    """See `Index.info`. `f` is 0 as long as it is not known."""

    f: int
    metric: str
    n_neighbors: int
    on_disk_path: str | None
    prefault: bool | None
    seed: int | None
    verbose: int | None
    n_items: NotRequired[int]
    n_trees: NotRequired[int]
    memory_usage_byte: NotRequired[int | None]
    memory_usage_mib: NotRequired[float | None]


def info(
    self: Index, *, include_n_items: bool = True, include_n_trees: bool = True, include_memory: bool | None = None
) -> AnnoyInfo:
    """Return what the index is.

    Parameters
    ----------
    include_n_items, include_n_trees : bool
    include_memory : bool, optional
        Whether to say how many bytes the forest takes, None without one; if not given, where there is one.

    Returns
    -------
    AnnoyInfo
        A dictionary of f, metric, n_neighbors, on_disk_path, prefault, seed, verbose and, as wanted, n_items, n_trees,
        memory_usage_byte and memory_usage_mib.
    """
    with self._lock.shared():
        told = self.get_params()
        about = cast("AnnoyInfo", {name: told[name] for name in AnnoyInfo.__annotations__ if name in told})
        about["f"], about["metric"] = self.f, self.metric
        if include_n_items:
            about["n_items"] = self.get_n_items()
        if include_n_trees:
            about["n_trees"] = self.get_n_trees()
        used = self.memory_usage()
        if include_memory or (include_memory is None and used is not None):
            about["memory_usage_byte"] = used
            about["memory_usage_mib"] = None if used is None else used / 2**20
        return about


def memory_usage(self: Index) -> int | None:
    """Return the bytes of items, trees and cells, in memory or mapped; None if the index is not built."""
    status = self._status()
    return int(status["n_bytes"]) + int(status["cells_bytes"]) if status["is_built"] else None


def repr_info(
    self: Index, *, include_n_items: bool = True, include_n_trees: bool = True, include_memory: bool | None = False
) -> str:
    """Return what `info` tells as one line of text; what is None is left out."""
    if self.closed:
        return f"{type(self).__name__}(f={self.f}, metric={self.metric!r}, closed)"
    about = self.info(include_n_items=include_n_items, include_n_trees=include_n_trees, include_memory=include_memory)
    shown = ", ".join(f"{name}={value!r}" for name, value in about.items() if value is not None)
    return f"{type(self).__name__}({shown})"

"""Another `Index` from one: the same parameters, the same content, or the same vectors in another forest."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from dask_annoy.annoy.annoy_index import AnnoyIndex
from dask_annoy.annoy.file_argument import FileName

if TYPE_CHECKING:
    from dask_annoy.annoy.index import Index

__all__ = ["clone", "copied", "from_low_level", "rebuild"]

AnyIndex = TypeVar("AnyIndex", bound="Index")

_COPIED_BYTES: Final = 1 << 25  # of vectors at a time


def clone(self: AnyIndex, **params: Any) -> AnyIndex:
    """Return an empty index of the same parameters, but for those given."""
    return type(self)(**{**self.get_params(), **params})


def copied(self: AnyIndex, _memo: Any = None) -> AnyIndex:
    """Return an index of the same parameters and content, whatever `pickle_mode` is."""
    from dask_annoy.annoy import pickles

    other: AnyIndex = type(self).__new__(type(self))
    pickles.set_state(other, pickles.state_of(self, "auto"))
    return other


def from_low_level(cls: type[Index], obj: AnnoyIndex, *, prefault: bool | None = None) -> Index:
    """Return an `Index` of what an `AnnoyIndex` holds, which it keeps.

    Parameters
    ----------
    obj : AnnoyIndex
    prefault : bool, optional
        The new index's parameter.
    """
    if not isinstance(obj, AnnoyIndex):
        raise TypeError(f"expected an AnnoyIndex, got {type(obj).__name__}")
    index = cls(obj.f, obj.metric, prefault=prefault)
    index._hold(copy.deepcopy(obj))
    return index


def rebuild(
    self: AnyIndex,
    metric: str | None = None,
    *,
    on_disk_path: FileName | None = None,
    n_trees: int | None = None,
    n_jobs: int = -1,
) -> AnyIndex:
    """Return a new index of the same vectors, numbers, labels and names, with a forest of its own.

    Parameters
    ----------
    metric : str, optional
        Another metric. From hamming the components are 0 and 1; to hamming those above 0.5 count.
    on_disk_path : str or os.PathLike, optional
        A file to build in; in memory if not given, whatever this index does.
    n_trees : int, optional
        As many as this index has, or -1 if it has none, if not given.
    n_jobs : int
        Threads; -1 means all.

    Raises
    ------
    ValueError
        If `on_disk_path` is a file that this index uses.
    RuntimeError
        If there are no vectors.
    """
    with self._lock.shared():
        if self.is_empty:
            raise RuntimeError("You can't rebuild an index without items")
        parameters = replace(
            self._parameters,
            metric=self.metric if metric is None else metric,
            on_disk_path=on_disk_path,  # type: ignore[arg-type]  # made a str there
        )
        if parameters.on_disk_path is not None:
            _refuse_own_file(self, parameters.on_disk_path)
        other = type(self)(**vars(parameters))
        numbers = self._item_numbers()
        block = max(1, _COPIED_BYTES // (4 * self.f))
        for begin in range(0, len(numbers), block):
            some = numbers[begin : begin + block]
            other.add_items(self._vectors_of(some), some)
        other._labels, other._feature_names = self._labels, self._feature_names
        other.build((self.get_n_trees() or -1) if n_trees is None else n_trees, n_jobs)
    return other


def _refuse_own_file(index: Index, path: str) -> None:
    status = index._status()
    used = [status["building_file"], status["file"][0] if status["file"] else None, index.on_disk_path]
    for other in used:
        if other is not None and Path(other).resolve() == Path(path).resolve():
            raise ValueError(f"this index uses {path} itself: rebuild in another file")

"""Pickles of an `Index`: parameters, labels and names, and the forest's path or its content, compressed if wanted."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from dask_annoy.annoy.annoy_index import AnnoyIndex
from dask_annoy.annoy.labels import Labels
from dask_annoy.annoy.locks import SharedLock
from dask_annoy.annoy.parameters import CompressMode, Parameters, PickleMode
from dask_annoy.annoy.pickled import Content, by_file, by_value, restore

if TYPE_CHECKING:
    from dask_annoy.annoy.index import Index

__all__ = ["get_state", "set_state", "state_of"]

# mtime=0: the same index gives the same pickle.
_COMPRESS: Final[dict[str, Callable[[Any], bytes]]] = {
    "zlib": zlib.compress,
    "gzip": lambda data: gzip.compress(data, mtime=0),
}
_DECOMPRESS: Final[dict[str, Callable[[Any], bytes]]] = {"zlib": zlib.decompress, "gzip": gzip.decompress}


def get_state(self: Index) -> dict[str, Any]:
    """See `pickle_mode` and `compress_mode`.

    Raises
    ------
    RuntimeError
        In mode "disk" if the index is not mapped from a local file that is still there, in mode "byte" if it is not
        built.
    """
    return state_of(self, self.pickle_mode, self.compress_mode)


def state_of(index: Index, mode: PickleMode, compress: CompressMode = None) -> dict[str, Any]:
    """Return what `set_state` makes an equal index of."""
    with index._lock.shared():
        labels = index._labels
        state: dict[str, Any] = {
            "parameters": asdict(index._parameters),
            "width": index._width,
            "feature_names": index._feature_names,
            "labels": None if labels is None else (labels.ids, labels.values),
            "attributes": {name: value for name, value in vars(index).items() if name not in _OWN},
            "compressed": None,
            "content": None,
        }
        if index._width or mode != "auto":
            content = _content(index, mode)
            if compress is not None and content[0] == "bytes":
                content = ("bytes", *(None if part is None else _COMPRESS[compress](part) for part in content[1:]))
                state["compressed"] = compress
            state["content"] = content
        return state


def set_state(self: Index, state: dict[str, Any]) -> None:
    """Make a new object the index that the state was taken of; files and bytes are checked as `load` checks them."""
    parameters = Parameters(**state["parameters"])
    width, content, compressed = state["width"], state["content"], state["compressed"]
    AnnoyIndex.__init__(self, width or 1, parameters.metric or "angular")
    vars(self).update(state["attributes"])
    self._lock = SharedLock()
    self._begin(parameters)
    if content is not None:
        if compressed is not None:
            content = ("bytes", *(None if part is None else _DECOMPRESS[compressed](part) for part in content[1:]))
        fresh = self._new_index(width)
        restore(fresh, content)
        self._hold(fresh)
    self._feature_names = state["feature_names"]
    self._labels = None if state["labels"] is None else Labels(*state["labels"])


_OWN: Final = {"_lock", "_parameters", "_width", "_labels", "_feature_names"}


def _content(index: Index, mode: PickleMode) -> Content:
    if mode == "byte":
        index._require_built("pickle by content")
        return by_value(index)
    by_path = by_file(index)
    if by_path is None and mode == "disk":
        raise RuntimeError(
            "pickle_mode='disk' needs an index that is mapped from a local file, which must still be there: save() it "
            "first, or choose another pickle_mode"
        )
    return by_path or by_value(index)

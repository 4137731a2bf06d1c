"""What stands for an index in a pickle: its file's path when it is mapped from one, its content otherwise."""

from __future__ import annotations

import errno
import os
from array import array
from typing import Any, TypeAlias

from dask_annoy import _native
from dask_annoy.errors import CorruptIndexError

__all__ = ["Content", "by_file", "by_value", "restore"]

Content: TypeAlias = tuple[Any, ...]
"""``("file", path, size, mtime_ns, has_cells)``, ``("bytes", forest, cells or None)`` or
``("items", numbers, vectors, seed)``."""

# Its methods are called by the class, as subclasses may give the names another meaning.
_Native = _native.AnnoyIndex


def by_file(index: _native.AnnoyIndex) -> Content | None:
    """Name the file that the index is mapped from; None if there is none, or another one is there by now."""
    mapped = index._status()["file"]
    if mapped is None:
        return None
    path, device, inode, size, mtime_ns = mapped
    try:
        now = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    if (now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns) != (device, inode, size, mtime_ns):
        return None
    return ("file", path, size, mtime_ns, index._status()["n_cells"] > 0)


def by_value(index: _native.AnnoyIndex) -> Content:
    """Return the bytes of a built or loaded index; the items of one that is not built, and the seed of its build."""
    import numpy as np  # not above: `import dask_annoy` does without it

    status = index._status()
    if status["is_built"]:
        # As an array, which pickle and Dask can pass on without another copy.
        cells = np.frombuffer(_Native._cells_to_bytes(index), np.uint8) if status["n_cells"] else None
        return ("bytes", np.frombuffer(_Native.to_bytes(index), np.uint8), cells)
    numbers = array("q", _Native.__iter__(index))
    vectors: Any = (
        _Native.get_item_vectors(index, numbers, packed=True)
        if _is_packed(index)
        else _Native.get_item_vectors(index, numbers)
    )
    return ("items", numbers, vectors, status["seed"])


def restore(index: _native.AnnoyIndex, content: Content) -> None:
    """Fill a new index. Files and bytes are checked as ``load`` checks them.

    Raises
    ------
    FileNotFoundError
        If the file is not on this machine.
    CorruptIndexError
        If it is another file than the one that was mapped, or no sound forest.
    ValueError
        If the content is of a kind that this release does not know.
    """
    kind, *parts = content
    if kind == "file":
        _map_again(index, *parts)
    elif kind == "bytes":
        forest, cells = parts
        _Native.load_bytes(index, forest, name="a pickled index")
        if cells is not None:
            _Native._load_cells(index, cells, name="the cells of a pickled index")
    elif kind == "items":
        numbers, vectors, seed = parts
        _Native.set_seed(index, seed)
        if len(numbers):
            _Native.add_items(index, vectors, numbers, packed=_is_packed(index))
    else:
        raise ValueError(f"a pickled index holds {kind!r}: it was written by another release of dask-annoy")


def _is_packed(index: _native.AnnoyIndex) -> bool:
    return bool(_Native.metric.__get__(index) == "hamming")


def _map_again(index: _native.AnnoyIndex, path: str, size: int, mtime_ns: int, has_cells: bool) -> None:
    try:
        now = os.stat(path)  # noqa: PTH116
    except FileNotFoundError:
        raise FileNotFoundError(
            errno.ENOENT,
            "an index mapped from this file was pickled, and the file is not here: put it where all machines find it "
            "under this path, or pickle an index made with from_bytes() or loaded from a URL, which carries its bytes",
            path,
        ) from None
    _refuse_another_file(path, (size, mtime_ns), (now.st_size, now.st_mtime_ns))
    _Native.load(index, path, cells=has_cells)
    # Once more, and for sure: what was opened may have taken the file's place since.
    _, _, _, opened_size, opened_mtime_ns = index._status()["file"]
    _refuse_another_file(path, (size, mtime_ns), (opened_size, opened_mtime_ns))


def _refuse_another_file(path: str, pickled: tuple[int, int], found: tuple[int, int]) -> None:
    if pickled == found:
        return
    raise CorruptIndexError(
        f"{path} has changed since the index mapped from it was pickled: it had {pickled[0]:,} bytes, written at "
        f"{pickled[1]} ns, and has {found[0]:,} bytes, written at {found[1]} ns: load the file itself to use it"
    )

"""Vectors in a Zarr array, formats 2 and 3."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from dask_annoy.errors import InvalidVectorsError, MissingExtraError
from dask_annoy.vectors.filesystem import filesystem_options, is_local, open_filesystem, public_url
from dask_annoy.vectors.identity import digest_of_identities
from dask_annoy.vectors.patience import ask
from dask_annoy.vectors.rules import check_dtype, check_shape
from dask_annoy.vectors.source import Block, Rows, RowSource
from dask_annoy.vectors.stored_file import file_version

__all__ = ["ZarrSource"]

_TAKE_ROWS = 4096  # rows picked with one call, so that not all of their chunks are under way at once


class ZarrSource(RowSource):
    """Rows of a 2-D Zarr array.

    Parameters
    ----------
    url : str or PathLike
        The array's folder, which may be inside a group: ``s3://bucket/data.zarr/vectors``.
    storage_options : mapping, optional
        What fsspec needs beside the URL.

    Raises
    ------
    InvalidVectorsError
        If there is no array, or it is no table of numbers.
    MissingExtraError
        If zarr 3 is not installed.

    Notes
    -----
    Chunks are decoded whole, so a chunk is the least that `blocks` and `take` need. Blocks of `blocks` end
    where chunks end, and have at most a third of ``max_bytes``, the rest being for chunks on their way.
    Where not even one row of chunks is so small: an array whose chunks span all columns is read one chunk
    at a time and handed out in views of it; of any other, each block reads the chunks that it touches
    again. With shards, "chunk" means the chunks inside.

    That data changes is noticed by `identity`, which lists the chunks: builds compare it before and after.
    Reading compares the array's metadata only, as a listing of millions of chunks is too much for each task.
    """

    def __init__(self, url: str | os.PathLike[str], *, storage_options: Mapping[str, Any] | None = None) -> None:
        self._url = os.fspath(url)
        self._storage_options = dict(storage_options or {})
        self.name = public_url(self._url)
        array = self._open()
        check_dtype(array.dtype, self.name)
        self.dtype: np.dtype[Any] = array.dtype
        self.n_rows, self.width = check_shape(array.shape, self.name)
        self._chunks: tuple[int, int] = array.chunks

    def identity(self) -> dict[str, str | int]:
        """Return the URL, and a digest of names, sizes and versions of all objects of the array."""
        filesystem, root = open_filesystem(self._url, self._storage_options)
        objects = []
        total = 0
        for path, info in sorted(ask(filesystem, "find", root, detail=True, where=self.name).items()):
            size, version = file_version(filesystem, path, info)
            objects.append({"name": path[len(root) :].lstrip("/"), "size": size, "version": version})
            total += size
        return {
            "url": self.name,
            "files": len(objects),
            "size": total,
            "version": digest_of_identities(objects),
        }

    def _blocks(self, start: int, stop: int, max_bytes: int) -> Iterator[Block]:
        array = self._open_again()
        budget = max_bytes // 3
        chunk_rows, chunk_columns = self._chunks
        band = chunk_rows * self.row_bytes
        step = max(1, budget // self.row_bytes)
        if band <= budget:
            step -= step % chunk_rows
            first = start
            while first < stop:
                end = min(first - first % chunk_rows + step, stop)
                yield first, np.asarray(array[first:end])
                first = end
        elif chunk_columns >= self.width:
            for begin in range(start - start % chunk_rows, stop, chunk_rows):
                low, high = max(begin, start), min(begin + chunk_rows, stop)
                chunk = np.asarray(array[low:high])
                for first in range(low, high, step):
                    yield first, chunk[first - low : first - low + step]
                del chunk
        else:
            for first in range(start, stop, step):
                yield first, np.asarray(array[first : min(first + step, stop)])

    def _take(self, rows: npt.NDArray[np.int64]) -> Rows:
        array = self._open_again()
        out = np.empty((len(rows), self.width), self.dtype)
        for first in range(0, len(rows), _TAKE_ROWS):
            out[first : first + _TAKE_ROWS] = array.oindex[rows[first : first + _TAKE_ROWS], :]
        return out

    def _open_again(self) -> Any:
        array = self._open()
        found = (array.shape, array.dtype, array.chunks)
        expected = ((self.n_rows, self.width), self.dtype, self._chunks)
        if found != expected:
            raise InvalidVectorsError(
                f"{self.name} has changed since it was looked at: shape, dtype and chunks were {expected}, now {found}"
            )
        return array

    def _open(self) -> Any:
        try:
            import zarr
            from zarr.storage import FsspecStore, LocalStore

            from dask_annoy.vectors.zarr_store import PatientStore
        except ImportError as reason:
            raise MissingExtraError("reading Zarr arrays", "zarr") from reason
        filesystem, path = open_filesystem(self._url, self._storage_options)
        if is_local(filesystem):
            store = LocalStore(path, read_only=True)
        else:
            options = filesystem_options(self._url, self._storage_options)
            remote = FsspecStore.from_url(self._url, storage_options=options, read_only=True)
            store = PatientStore(remote, self.name)
        try:
            array = zarr.open_array(store, mode="r")
        except FileNotFoundError:
            raise FileNotFoundError(f"{self.name}: no Zarr array or group is there") from None
        except ValueError as reason:
            arrays = _arrays_of(zarr, store)
            hint = f"it is a group with the arrays {', '.join(arrays)}: name one in the URL" if arrays else str(reason)
            raise InvalidVectorsError(f"{self.name} is no Zarr array: {hint}") from reason
        if isinstance(store, PatientStore):
            store.expect_objects_of(math.prod(array.shards or array.chunks) * array.dtype.itemsize)
        return array


def _arrays_of(zarr: Any, store: Any) -> list[str]:
    try:
        return sorted(zarr.open_group(store, mode="r").array_keys())
    except (ValueError, FileNotFoundError):
        return []

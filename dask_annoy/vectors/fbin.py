"""Vectors in the binary files of the big-ann benchmarks and DiskANN: `.fbin`, `.u8bin`, `.i8bin`, `.ibin`.

``uint32 n``, ``uint32 d``, then n·d values row by row, all little-endian.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from dask_annoy.errors import InvalidVectorsError
from dask_annoy.vectors.flat_rows import FlatRows
from dask_annoy.vectors.rules import check_shape
from dask_annoy.vectors.source import Block, Rows, RowSource
from dask_annoy.vectors.stored_file import StoredFile

__all__ = ["BIN_DTYPES", "BinSource", "bin_suffix"]

BIN_DTYPES: dict[str, np.dtype[Any]] = {
    ".fbin": np.dtype("<f4"),
    ".u8bin": np.dtype("u1"),
    ".i8bin": np.dtype("i1"),
    ".ibin": np.dtype("<i4"),
}
_HEADER = 8  # bytes
_SUFFIX = re.compile(r"(\.fbin|\.u8bin|\.i8bin|\.ibin)(?:\.crop_nb_\d+)?(?:::.*)?$")


def bin_suffix(url: str) -> str | None:
    """Return which of the known suffixes a URL has, also before ``.crop_nb_<n>``; None if it has none."""
    found = _SUFFIX.search(url)
    return found.group(1) if found else None


class BinSource(RowSource):
    """Rows of a `.fbin`, `.u8bin`, `.i8bin` or `.ibin` file: float32, uint8, int8 or int32.

    Parameters
    ----------
    url : str or PathLike
        A path or an fsspec URL; the suffix, also before ``.crop_nb_<n>``, says the element type.
    storage_options : mapping, optional
        What fsspec needs beside the URL.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    InvalidVectorsError
        If the suffix is another, or the size is not 8 + n·d·itemsize bytes.

    Notes
    -----
    `blocks` and `take` read only the bytes of the rows asked for (see `FlatRows`).
    """

    def __init__(self, url: str | os.PathLike[str], *, storage_options: Mapping[str, Any] | None = None) -> None:
        url = os.fspath(url)
        file = StoredFile.look(url, storage_options)
        suffix = bin_suffix(url) or bin_suffix(file.name)
        if suffix is None:
            raise InvalidVectorsError(f"{file.name}: the suffix must be one of {', '.join(BIN_DTYPES)}")
        if file.size < _HEADER:
            raise InvalidVectorsError(f"{file.name} is cut: it has {file.size} bytes, its header alone needs {_HEADER}")
        with file.open() as reader:
            n_rows, width = np.frombuffer(reader.read(0, _HEADER), "<u4").tolist()
        self._table = FlatRows(file, _HEADER, n_rows, width, BIN_DTYPES[suffix])
        if file.size != self._table.expected_size:
            state = "cut" if file.size < self._table.expected_size else "too long, or no such file"
            raise InvalidVectorsError(
                f"{file.name} is {state}: {n_rows:,} rows of {width:,} {BIN_DTYPES[suffix]} need "
                f"{self._table.expected_size:,} bytes, the file has {file.size:,}"
            )
        self.name = file.name
        self.n_rows, self.width = check_shape((n_rows, width), file.name)
        self.dtype = BIN_DTYPES[suffix]

    def identity(self) -> dict[str, str | int]:
        """Return URL, size and version of the file."""
        return self._table.file.identity()

    def _blocks(self, start: int, stop: int, max_bytes: int) -> Iterator[Block]:
        return self._table.blocks(start, stop, max_bytes)

    def _take(self, rows: npt.NDArray[np.int64]) -> Rows:
        return self._table.take(rows)

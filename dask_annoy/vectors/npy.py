"""Vectors in a `.npy` file (format versions 1 to 3; numpy.lib.format describes them)."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dask_annoy.vectors.flat_rows import FlatRows
from dask_annoy.vectors.rules import check_dtype, check_shape
from dask_annoy.vectors.source import Block, Rows, RowSource
from dask_annoy.vectors.stored_file import StoredFile

__all__ = ["NpyHeader", "NpySource", "read_npy_header"]

_MAGIC = b"\x93NUMPY"
_HEADER_LIMIT = 10_000  # bytes; numpy's own limit, since a header is parsed as Python literals


class NpySource(RowSource):
    """Rows of a 2-D `.npy` file, C or Fortran order, any byte order.

    Parameters
    ----------
    url : str or PathLike
        A path or an fsspec URL.
    storage_options : mapping, optional
        What fsspec needs beside the URL.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    InvalidVectorsError
        If the file is no `.npy` file, is cut or too long, or holds something else than a table of numbers.

    Notes
    -----
    `blocks` and `take` read only the bytes of the rows asked for (see `FlatRows`), except that ``take``
    from a file in Fortran order reads all between its first and its last row.
    """

    def __init__(self, url: str | os.PathLike[str], *, storage_options: Mapping[str, Any] | None = None) -> None:
        file = StoredFile.look(os.fspath(url), storage_options)
        header = read_npy_header(file)
        check_dtype(header.dtype, file.name)
        self.name = file.name
        self.n_rows, self.width = check_shape(header.shape, file.name)
        self.dtype = header.dtype
        self._table = FlatRows(
            file, header.offset, self.n_rows, self.width, header.dtype, column_major=header.fortran_order
        )

    def identity(self) -> dict[str, str | int]:
        """Return URL, size and version of the file."""
        return self._table.file.identity()

    def _blocks(self, start: int, stop: int, max_bytes: int) -> Iterator[Block]:
        return self._table.blocks(start, stop, max_bytes)

    def _take(self, rows: npt.NDArray[np.int64]) -> Rows:
        return self._table.take(rows)


@dataclass(frozen=True)
class NpyHeader:
    """What a `.npy` file says of itself, and the byte where its values start."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]
    offset: int


def read_npy_header(file: StoredFile) -> NpyHeader:
    """Read the header and compare the file's size with it.

    Raises
    ------
    DaskAnnoyError
        Of the type ``file.error``, if this is no `.npy` file, its size is wrong, or it holds pickled objects.
    """
    with file.open() as reader:
        start = reader.read(0, min(file.size, 4096))
        if start[:6] != _MAGIC or len(start) < 12:
            raise file.error(f"{file.name} is no .npy file: it starts with {start[:6]!r}, not with {_MAGIC!r}")
        version = (start[6], start[7])
        if version not in ((1, 0), (2, 0), (3, 0)):
            raise file.error(f"{file.name} has the .npy format version {version}, known are 1.0, 2.0 and 3.0")
        length_bytes = 2 if version == (1, 0) else 4
        length = int.from_bytes(start[8 : 8 + length_bytes], "little")
        offset = 8 + length_bytes + length
        if length > _HEADER_LIMIT or offset > file.size:
            raise file.error(
                f"{file.name} is damaged: its header should end at byte {offset:,}, the file has {file.size:,} bytes"
            )
        text = start[8:offset] if offset <= len(start) else reader.read(8, offset)
    # Version 3 differs from 2 in the encoding of field names, and tables with fields are no vectors.
    parse = np.lib.format.read_array_header_1_0 if length_bytes == 2 else np.lib.format.read_array_header_2_0
    try:
        shape, fortran_order, dtype = parse(io.BytesIO(text))
    except Exception as reason:  # the parser lets several kinds through for forged headers
        raise file.error(f"{file.name} is damaged: its header cannot be read ({reason})") from None
    if dtype.hasobject:
        raise file.error(
            f"{file.name} holds pickled objects: they are never loaded. Save an array of numbers or strings"
        )
    if any(extent < 0 for extent in shape):
        raise file.error(f"{file.name} is damaged: it claims the shape {shape}")
    expected = offset + dtype.itemsize * _product(shape)
    if file.size != expected:
        state = "cut" if file.size < expected else "too long"
        raise file.error(
            f"{file.name} is {state}: shape {shape} of {dtype} needs {expected:,} bytes, the file has {file.size:,}"
        )
    return NpyHeader(shape, bool(fortran_order), dtype, offset)


def _product(shape: tuple[int, ...]) -> int:
    result = 1
    for extent in shape:
        result *= extent
    return result

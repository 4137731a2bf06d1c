"""Ids in files: a `.npy` file, or a column of Parquet files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from dask_annoy.errors import InvalidIdsError
from dask_annoy.vectors.filesystem import public_url
from dask_annoy.vectors.flat_rows import FlatRows
from dask_annoy.vectors.ids import Ids, IdSource, IdType, int64_ids, string_ids
from dask_annoy.vectors.npy import read_npy_header
from dask_annoy.vectors.parquet_files import ParquetFiles, Part, require_pyarrow
from dask_annoy.vectors.stored_file import StoredFile

__all__ = ["NpyIds", "ParquetIds"]

_BATCH_ROWS = 1 << 16
_BUFFER = 1 << 20  # bytes


class NpyIds(IdSource):
    """Ids of a 1-D `.npy` file of integers or of numpy's fixed-width strings.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    InvalidIdsError
        If the file is no such file, or its size is wrong.
    """

    def __init__(self, url: str | os.PathLike[str], *, storage_options: Mapping[str, Any] | None = None) -> None:
        file = StoredFile.look(os.fspath(url), storage_options, error=InvalidIdsError)
        header = read_npy_header(file)
        if header.dtype.kind not in "iuU" or len(header.shape) != 1 or not header.dtype.itemsize:
            raise InvalidIdsError(
                f"{file.name}: ids must be a 1-D array of integers or strings, found the shape "
                f"{header.shape} "
                f"of {header.dtype}"
            )
        self.name = file.name
        self.n_rows = header.shape[0]
        self.id_type: IdType = "string" if header.dtype.kind == "U" else "int64"
        self._table = FlatRows(file, header.offset, self.n_rows, 1, header.dtype)

    def identity(self) -> dict[str, str | int]:
        """Return URL, size and version of the file."""
        return self._table.file.identity()

    def _read(self, start: int, stop: int) -> Ids:
        stored = self._table.take(np.arange(start, stop))[:, 0]
        turn = int64_ids if self.id_type == "int64" else string_ids
        return turn(stored, self.name, start)


class ParquetIds(IdSource):
    """Ids of a column of integers or strings of Parquet files.

    Parameters
    ----------
    url : str, PathLike, a sequence of them, or ParquetFiles
        Files, folders and glob patterns; the order is that of `ParquetFiles`.
    column : str
    storage_options : mapping, optional
        What fsspec needs beside the URLs.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    InvalidIdsError
        If there is no such column, or it holds something else. When ids are read: if one is null.
    MissingExtraError
        If pyarrow is not installed.
    """

    def __init__(
        self,
        url: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | ParquetFiles,
        column: str,
        *,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        if isinstance(url, ParquetFiles):
            self._files = url.with_error(InvalidIdsError)
        else:
            self._files = ParquetFiles(url, storage_options, error=InvalidIdsError)
        self.column = column
        self.name = f"{self._files.name}, column {column!r}"
        self.n_rows = self._files.n_rows
        pairs = zip(self._files.parts, self._files.schemas(), strict=True)
        kinds = [_column_type(schema, column, part) for part, schema in pairs]
        for kind, part in zip(kinds, self._files.parts, strict=True):
            if kind != kinds[0]:
                raise InvalidIdsError(f"{part.file.name}: column {column!r} holds {kind}, other files hold {kinds[0]}")
        self.id_type = kinds[0]

    def identity(self) -> dict[str, str | int]:
        """Return URL, number, total size and a digest of the versions of the files, and the column."""
        return {**self._files.identity(), "column": self.column}

    def _read(self, start: int, stop: int) -> Ids:
        return np.concatenate(list(self._pieces(start, stop)))

    def _pieces(self, start: int, stop: int) -> Iterator[Ids]:
        for part in self._files.parts:
            low, high = max(start - part.first_row, 0), min(stop - part.first_row, part.n_rows)
            if low >= high:
                continue
            for first, array in self._files.column_of(
                part, self.column, low, high, batch_rows=_BATCH_ROWS, buffer=_BUFFER
            ):
                yield self._ids(array, first, part)

    def _ids(self, array: Any, first: int, part: Part) -> Ids:
        pa = require_pyarrow()
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        if array.null_count:
            row = int(np.argmax(array.is_null().to_numpy(zero_copy_only=False)))
            raise InvalidIdsError(f"{part.file.name}: row {first + row:,} of column {self.column!r} is null")
        values = array.to_numpy(zero_copy_only=False)
        if self.id_type == "int64":
            return int64_ids(values, self.name, first)
        return string_ids(values.astype(object, copy=False), self.name, first)


def _column_type(schema: Any, column: str, part: Part) -> IdType:
    if column not in schema.names:
        shown = public_url(column) if "://" in column else column
        raise InvalidIdsError(f"{part.file.name} has no column {shown!r}; its columns are {', '.join(schema.names)}")
    types = require_pyarrow().types
    kind = schema.field(column).type
    value = kind.value_type if types.is_dictionary(kind) else kind
    if types.is_integer(value):
        return "int64"
    if types.is_string(value) or types.is_large_string(value) or types.is_string_view(value):
        return "string"
    raise InvalidIdsError(f"{part.file.name}: column {column!r} holds {kind}; ids must be integers or strings")

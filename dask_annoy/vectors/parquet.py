"""Vectors in a list column of Parquet files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dask_annoy.errors import InvalidVectorsError
from dask_annoy.vectors.parquet_files import ParquetFiles, Part, require_pyarrow
from dask_annoy.vectors.rules import check_dtype, check_shape
from dask_annoy.vectors.source import Block, Rows, RowSource

__all__ = ["ParquetSource"]

_TAKE_BYTES = 32 << 20  # held while single rows are picked out


class ParquetSource(RowSource):
    """Rows of a column of lists, large lists or fixed-size lists of numbers.

    Parameters
    ----------
    url : str, PathLike, or a sequence of them
        Files, folders and glob patterns; the order is that of `ParquetFiles`.
    column : str, optional
        May be left out if exactly one column holds lists of numbers.
    storage_options : mapping, optional
        What fsspec needs beside the URLs.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    InvalidVectorsError
        If there is no such column or no telling which, or files disagree on its type. When rows are read:
        if a row is null, holds a null, or has another length than the others, naming the file and the row.
    MissingExtraError
        If pyarrow is not installed.

    Notes
    -----
    The width of plain lists is that of the first row. Columns are streamed page by page: a block has at
    most a quarter of ``max_bytes``, the rest is for pyarrow's buffers, whose smallest are a page and 64
    KiB. Reading starts with the row group of the first row asked for. Parquet has no access to single rows:
    `take` decodes the row groups that hold them, up to the last one in each group, and no others.
    """

    def __init__(
        self,
        url: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        column: str | None = None,
        *,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.files = ParquetFiles(url, storage_options)
        self.name = self.files.name
        self.n_rows = self.files.n_rows
        schemas = self.files.schemas()
        self.column = _choose_column(schemas[0], column, self.name)
        self.dtype, width = _list_type(schemas[0], self.column, self.files.parts[0])
        for part, schema in zip(self.files.parts[1:], schemas[1:], strict=True):
            other, other_width = _list_type(schema, self.column, part)
            if other != self.dtype or (width and other_width and width != other_width):
                raise InvalidVectorsError(
                    f"{part.file.name}: column {self.column!r} holds lists of "
                    f"{other_width or 'any number of'} {other}, "
                    f"in {self.files.parts[0].file.name} lists of {width or 'any number of'} {self.dtype}"
                )
            width = width or other_width
        _, self.width = check_shape((self.n_rows, width if width is not None else self._first_length()), self.name)

    def identity(self) -> dict[str, str | int]:
        """Return URL, number, total size and a digest of the versions of the files, and the column."""
        return {**self.files.identity(), "column": self.column}

    def _blocks(self, start: int, stop: int, max_bytes: int) -> Iterator[Block]:
        budget = max_bytes // 4
        batch_rows = max(1, budget // self.row_bytes)
        for part in self.files.parts:
            low, high = max(start - part.first_row, 0), min(stop - part.first_row, part.n_rows)
            if low >= high:
                continue
            for first, array in self.files.column_of(
                part, self.column, low, high, batch_rows=batch_rows, buffer=budget
            ):
                rows = self._rows(array, first, part)
                del array
                yield first, rows
                del rows

    def _take(self, rows: npt.NDArray[np.int64]) -> Rows:
        out = np.empty((len(rows), self.width), self.dtype)
        for part in self.files.parts:
            low, high = np.searchsorted(rows, (part.first_row, part.first_row + part.n_rows)).tolist()
            if low == high:
                continue
            bounds = part.first_row + np.asarray(self.files.row_groups(part))
            cuts = np.searchsorted(rows, bounds)
            for begin, end in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True):
                if begin < end:
                    self._pick(rows[begin:end], out[begin:end])
        return out

    def _pick(self, rows: npt.NDArray[np.int64], out: Rows) -> None:
        for first, block in self._blocks(int(rows[0]), int(rows[-1]) + 1, _TAKE_BYTES):
            low, high = np.searchsorted(rows, (first, first + len(block)))
            out[low:high] = block[rows[low:high] - first]

    def _first_length(self) -> int:
        for part in self.files.parts:
            if part.n_rows:
                _, array = next(iter(self.files.column_of(part, self.column, 0, 1, batch_rows=1, buffer=0)))
                if array[0].as_py() is None:
                    raise InvalidVectorsError(
                        f"{part.file.name}: row {part.first_row:,} of column {self.column!r} is null"
                    )
                return len(array[0])
        raise InvalidVectorsError(
            f"{self.name}: column {self.column!r} has no rows, and its type does not say how long its lists are"
        )

    def _rows(self, array: Any, first: int, part: Part) -> Rows:
        """Turn a list array into a table, without a copy where numpy can use Arrow's memory."""
        pa = require_pyarrow()
        m = len(array)
        if pa.types.is_fixed_size_list(array.type):
            lengths = None
            values = array.values.slice(array.offset * array.type.list_size, m * array.type.list_size)
            offsets = np.arange(m + 1) * array.type.list_size
        else:
            offsets = array.offsets.to_numpy()
            lengths = np.diff(offsets)
            values = array.values.slice(int(offsets[0]), int(offsets[-1] - offsets[0]))
            offsets = offsets - offsets[0]
        bad: list[tuple[int, str]] = []
        if array.null_count:
            bad.append((int(np.argmax(array.is_null().to_numpy(zero_copy_only=False))), "is null"))
        if lengths is not None and (lengths != self.width).any():
            row = int(np.argmax(lengths != self.width))
            bad.append((row, f"has {int(lengths[row]):,} values, the others have {self.width:,}"))
        if values.null_count:
            position = int(np.argmax(values.is_null().to_numpy(zero_copy_only=False)))
            bad.append((int(np.searchsorted(offsets, position, "right")) - 1, "holds a null"))
        if bad:
            row, reason = min(bad, key=lambda found: found[0])
            raise InvalidVectorsError(f"{part.file.name}: row {first + row:,} of column {self.column!r} {reason}")
        table: Rows = values.to_numpy(zero_copy_only=False).reshape(m, self.width)
        return table


def _choose_column(schema: Any, column: str | None, name: str) -> str:
    if column is not None:
        if column not in schema.names:
            raise InvalidVectorsError(f"{name} has no column {column!r}; its columns are {', '.join(schema.names)}")
        return column
    candidates = [field.name for field in schema if _is_list_of_numbers(field.type)]
    if len(candidates) == 1:
        return str(candidates[0])
    if candidates:
        raise InvalidVectorsError(
            f"{name}: say which column holds the vectors (column=…); {', '.join(candidates)} hold lists of numbers"
        )
    raise InvalidVectorsError(f"{name}: no column holds lists of numbers; its columns are {', '.join(schema.names)}")


def _is_list(kind: Any) -> bool:
    types = require_pyarrow().types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _is_list_of_numbers(kind: Any) -> bool:
    types = require_pyarrow().types
    if not _is_list(kind):
        return False
    value = kind.value_type
    return bool(types.is_integer(value) or types.is_floating(value) or types.is_boolean(value))


def _list_type(schema: Any, column: str, part: Part) -> tuple[np.dtype[Any], int | None]:
    """Return the element type of the column, and its width if the type says it."""
    if column not in schema.names:
        raise InvalidVectorsError(f"{part.file.name} has no column {column!r}, but the files before it have one")
    kind = schema.field(column).type
    if not _is_list_of_numbers(kind):
        raise InvalidVectorsError(f"{part.file.name}: column {column!r} holds {kind}, not lists of numbers")
    dtype = np.dtype(kind.value_type.to_pandas_dtype())
    check_dtype(dtype, part.file.name)
    fixed = require_pyarrow().types.is_fixed_size_list(kind)
    return dtype, int(kind.list_size) if fixed else None

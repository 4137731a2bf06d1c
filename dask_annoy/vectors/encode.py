"""From rows as stored to what the native builder takes: float32 or packed bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dask_annoy.errors import InvalidVectorsError
from dask_annoy.vectors.rules import check_dtype
from dask_annoy.vectors.source import Rows

__all__ = ["encode_rows"]

# Annoy compares after rounding to float32. A float64 rounds to more than 0.5 from half a float32 step
# above it.
_HALF = {8: 0.5 + 2.0**-25}
_SEARCH_BYTES = 1 << 20  # while looking for the first bad row


def encode_rows(
    rows: Rows,
    *,
    source: str,
    first_row: int,
    metric: str,
    width: int,
    packed: bool = False,
) -> npt.NDArray[Any]:
    """Encode a block of rows for the native builder.

    Parameters
    ----------
    rows : numpy.ndarray, shape (m, columns)
        Rows as stored. Not changed.
    source : str
        What messages call the rows' source.
    first_row : int
        Number of the first row in its source, for messages.
    metric : str
        ``"hamming"``, or one of the metrics on floats.
    width : int
        Columns of the index: values, or bits.
    packed : bool
        The rows hold bits already, in `numpy.packbits` order. For Hamming only.

    Returns
    -------
    numpy.ndarray
        C-contiguous; ``rows`` itself if nothing is to be done. For Hamming uint8 of shape (m, ceil(width /
        8)): unpacked columns are 1 where they are > 0.5 as float32, as in Annoy. Otherwise float32 of shape
        (m, width).

    Raises
    ------
    InvalidVectorsError
        Naming the source, and where there is one the first bad row, its column and value: wrong number of
        columns, NaN; infinite or too large for float32 (except for Hamming); packed rows that are not uint8
        or have bits set beyond ``width``.
    """
    if rows.ndim != 2:
        raise InvalidVectorsError(f"{source}: expected rows of a table, found the shape {rows.shape}")
    check_dtype(rows.dtype, source)
    if packed and metric != "hamming":
        raise InvalidVectorsError(f"{source}: packed bits are for the metric 'hamming', not for {metric!r}")
    columns = -(-width // 8) if packed else width
    if rows.shape[1] != columns:
        what = f"{columns:,} bytes of packed bits a row for a width of {width:,}" if packed else f"{width:,} columns"
        raise InvalidVectorsError(f"{source}: expected {what}, found {rows.shape[1]:,} columns in row {first_row:,}")
    if packed:
        return _packed_bits(rows, source, first_row, width)
    if metric == "hamming":
        return _bits(rows, source, first_row)
    return _floats(rows, source, first_row)


def _floats(rows: Rows, source: str, first_row: int) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore", invalid="ignore"):
        out = np.ascontiguousarray(rows, dtype=np.float32)
    # The extremes tell of NaN and infinity alike, and cost no memory.
    if rows.dtype.kind == "f" and out.size and not (np.isfinite(out.min()) and np.isfinite(out.max())):
        row, column = _first(~np.isfinite(part) for part in _parts(out))
        value = rows[row, column]
        reason = "does not fit float32" if np.isfinite(value) else "has no distance to anything"
        raise InvalidVectorsError(f"{source}: row {first_row + row:,}, column {column:,} is {value}, which {reason}")
    return out


def _bits(rows: Rows, source: str, first_row: int) -> npt.NDArray[np.uint8]:
    kind, size = rows.dtype.kind, rows.dtype.itemsize
    if kind == "b" or (kind == "u" and size == 1):
        return np.packbits(rows, axis=1)  # takes what is not 0 as 1
    if kind != "f":
        return np.packbits(rows > 0, axis=1)
    if rows.size and np.isnan(rows.min()):
        row, column = _first(np.isnan(part) for part in _parts(rows))
        raise InvalidVectorsError(
            f"{source}: row {first_row + row:,}, column {column:,} is nan, which is neither 0 nor 1"
        )
    return np.packbits(rows > rows.dtype.type(_HALF.get(size, 0.5)), axis=1)


def _packed_bits(rows: Rows, source: str, first_row: int, width: int) -> npt.NDArray[np.uint8]:
    if rows.dtype != np.uint8:
        raise InvalidVectorsError(f"{source}: packed bits must be uint8, these rows are {rows.dtype}")
    padding = rows[:, -1] & (0xFF >> (width % 8) if width % 8 else 0)
    if padding.any():
        row = int(np.argmax(padding != 0))
        raise InvalidVectorsError(
            f"{source}: row {first_row + row:,} has bits set beyond the width of {width:,} (its last byte is "
            f"{rows[row, -1]:#010b}); the padding must be 0"
        )
    return np.ascontiguousarray(rows)


def _parts(rows: Rows) -> Any:
    """Cut rows in parts, so that looking at them needs little memory."""
    step = max(1, _SEARCH_BYTES // (rows.shape[1] * rows.itemsize))
    return (rows[first : first + step] for first in range(0, len(rows), step))


def _first(parts: Any) -> tuple[int, int]:
    """Return row and column of the first true value."""
    offset = 0
    for part in parts:
        if part.any():
            row, column = np.unravel_index(int(np.argmax(part)), part.shape)
            return offset + int(row), int(column)
        offset += len(part)
    raise AssertionError("there is a bad value, or this would not be called")

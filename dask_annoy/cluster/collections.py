"""Dask collections as chunks: one function and one set of graph keys a chunk, whatever the collection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dask
import numpy as np
import numpy.typing as npt
from dask.delayed import Delayed

from dask_annoy.errors import InvalidIdsError, InvalidVectorsError
from dask_annoy.vectors.filesystem import public_url

__all__ = ["Chunks", "chunks_of", "id_chunks", "ids_beside", "is_collection", "rows_of_values"]


@dataclass(frozen=True)
class Chunks:
    """The row chunks of a collection, not computed.

    Attributes
    ----------
    name : str
        For messages.
    lengths : tuple of int
        Rows of each chunk.
    width : int or None
        Columns; None for a dataframe's column, whose width only its values tell.
    dtype : str
    delayed : tuple of Delayed
        Each gives an array of shape (rows, width), or a pandas series of vectors.
    """

    name: str
    lengths: tuple[int, ...]
    width: int | None
    dtype: str
    delayed: tuple[Delayed, ...]

    @property
    def n_rows(self) -> int:
        """Rows of the collection."""
        return sum(self.lengths)


def is_collection(value: object) -> bool:
    """Whether this is a Dask collection."""
    return bool(dask.is_dask_collection(value))


def chunks_of(vectors: Any, column: str | None) -> Chunks:
    """The row chunks of a Dask array of vectors, or of a column of a Dask dataframe that holds one vector a row.

    Chunks along columns are brought together; unknown chunk sizes are computed.
    """
    if _is_array(vectors):
        if column is not None:
            raise InvalidVectorsError(f"column={column!r} is for dataframes, but the vectors are a Dask array")
        if vectors.ndim != 2:
            raise InvalidVectorsError(f"the Dask array has {vectors.ndim} dimensions; vectors need two: (rows, width)")
        if any(np.isnan(size) for size in vectors.chunks[1]):
            vectors = vectors.compute_chunk_sizes()
        if len(vectors.chunks[1]) > 1:
            vectors = vectors.rechunk({1: -1})
        if any(np.isnan(size) for size in vectors.chunks[0]):
            vectors = vectors.compute_chunk_sizes()
        return Chunks(
            name=f"Dask array {vectors.name}",
            lengths=tuple(int(size) for size in vectors.chunks[0]),
            width=int(vectors.shape[1]),
            dtype=str(vectors.dtype),
            delayed=tuple(vectors.to_delayed().ravel()),
        )
    if hasattr(vectors, "map_partitions") and not isinstance(vectors, Delayed) and hasattr(vectors, "ndim"):
        series = _series(vectors, column)
        return Chunks(
            name=f"column {series.name!r} of a Dask dataframe",
            lengths=tuple(int(n) for n in series.map_partitions(len).compute()),
            width=None,
            dtype=str(series.dtype),
            delayed=tuple(series.to_delayed()),
        )
    raise InvalidVectorsError(
        f"vectors of type {type(vectors).__name__} are not supported: give a Dask array, or a dataframe's column"
    )


def ids_beside(ids: Any, vectors: Any) -> Any:
    """What ids of a collection's rows are meant: the series of a column that is named, or what was given."""
    if isinstance(ids, str) and not public_url(ids).endswith(".npy"):
        if not hasattr(vectors, "columns") or vectors.ndim == 1:
            raise InvalidIdsError(f"ids={ids!r} names a column, but the vectors are not a dataframe with columns")
        if ids not in vectors.columns:
            shown = public_url(ids) if "://" in ids else ids
            raise InvalidIdsError(
                f"the Dask dataframe has no column {shown!r} of ids; it has {', '.join(map(repr, vectors.columns))}"
            )
        return vectors[ids]
    if is_collection(ids) and not (_is_array(ids) or _is_series(ids)):
        raise InvalidIdsError(
            f"ids of type {type(ids).__name__} are not supported: give a Dask array, or a dataframe's column"
        )
    return ids


def id_chunks(ids: Any, lengths: Sequence[int]) -> tuple[Delayed, ...]:
    """Ids that are a Dask array or series, in the same chunks as their vectors."""
    if _is_series(ids):
        found = tuple(int(n) for n in ids.map_partitions(len).compute())
        if found != tuple(lengths):
            raise InvalidIdsError(
                f"the ids' partitions have {sum(found)} rows in {len(found)} parts, but the vectors' chunks have "
                f"{sum(lengths)} in {len(lengths)}: they must agree"
            )
        return tuple(ids.to_delayed())
    if ids.ndim != 1:
        raise InvalidIdsError(f"the Dask array of ids has {ids.ndim} dimensions, expected one")
    if any(np.isnan(size) for size in ids.chunks[0]):
        ids = ids.compute_chunk_sizes()
    if ids.shape[0] != sum(lengths):
        raise InvalidIdsError(f"{ids.shape[0]} ids were given for {sum(lengths)} vectors")
    return tuple(ids.rechunk((tuple(lengths),)).to_delayed().ravel())


def rows_of_values(values: Any, name: str, first_row: int) -> npt.NDArray[Any]:
    """An array of rows from a chunk: an array as it is, or a series whose values are vectors."""
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        row = int(np.flatnonzero(np.ma.getmaskarray(values).reshape(len(values), -1).any(axis=1))[0])
        raise InvalidVectorsError(f"{name}: row {first_row + row} has masked values; fill or drop them first")
    if isinstance(values, np.ndarray) and values.dtype != object:
        return np.asarray(values)
    arrow = getattr(getattr(values, "array", None), "__arrow_array__", None)
    rows = None if arrow is None else _rows_of_arrow(arrow())
    if rows is None:
        rows = _rows_of_objects(list(values), name, first_row)
    return rows


def _rows_of_arrow(array: Any) -> npt.NDArray[Any] | None:
    """Rows of an Arrow list array without a Python object a number; None if it is not one, or not regular."""
    import pyarrow as pa

    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    is_list = pa.types.is_list(array.type) or pa.types.is_large_list(array.type)
    if array.null_count or not len(array) or not (is_list or pa.types.is_fixed_size_list(array.type)):
        return None
    flat = array.flatten()
    if flat.null_count or len(flat) % len(array):
        return None
    width = len(flat) // len(array)
    if is_list and not bool((np.diff(array.offsets.to_numpy()) == width).all()):
        return None
    rows: npt.NDArray[Any] = flat.to_numpy(zero_copy_only=False).reshape(len(array), width)
    return rows


def _rows_of_objects(values: list[Any], name: str, first_row: int) -> npt.NDArray[Any]:
    if not values:
        return np.empty((0, 0), np.float32)
    width = None
    for row, value in enumerate(values):
        if value is None or not hasattr(value, "__len__") or isinstance(value, (str, bytes)):
            hint = "; lists become text unless dataframe.convert-string is False" if isinstance(value, str) else ""
            raise InvalidVectorsError(f"{name}: row {first_row + row} is {value!r:.60}, not a vector{hint}")
        width = len(value) if width is None else width
        if len(value) != width:
            raise InvalidVectorsError(
                f"{name}: row {first_row + row} has {len(value)} components, but the rows before it have {width}"
            )
    rows = np.asarray(values)
    if rows.dtype == object:
        raise InvalidVectorsError(f"{name}: the vectors from row {first_row} on hold values that are not numbers")
    return rows


def _is_array(value: object) -> bool:
    return not isinstance(value, Delayed) and hasattr(value, "chunks") and hasattr(value, "rechunk")


def _is_series(value: object) -> bool:
    return not isinstance(value, Delayed) and hasattr(value, "map_partitions") and getattr(value, "ndim", 0) == 1


def _series(frame: Any, column: str | None) -> Any:
    if not hasattr(frame, "columns") or frame.ndim == 1:
        if column is not None and column != frame.name:
            raise InvalidVectorsError(f"column={column!r} was asked of the series {frame.name!r}")
        return frame
    if column is None:
        raise InvalidVectorsError(
            f"a Dask dataframe was given: say which column holds the vectors with column=…; it has "
            f"{', '.join(map(repr, frame.columns))}"
        )
    if column not in frame.columns:
        raise InvalidVectorsError(
            f"the Dask dataframe has no column {column!r}; it has {', '.join(map(repr, frame.columns))}"
        )
    return frame[column]

"""Vectors in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from dask_annoy.errors import InvalidVectorsError
from dask_annoy.vectors.identity import digest_of_array
from dask_annoy.vectors.rules import check_dtype, check_shape
from dask_annoy.vectors.source import Block, Rows, RowSource

__all__ = ["ArraySource"]


class ArraySource(RowSource):
    """Rows of a numpy array, or of what numpy can make one of.

    Parameters
    ----------
    array : array_like, shape (n_rows, width)
        Not copied if it is an array already; it travels whole when the source is pickled.

    Raises
    ------
    InvalidVectorsError
        If it is no table of numbers, or has masked values.

    Notes
    -----
    Blocks are read-only views: the reader holds nothing beside the array.
    """

    def __init__(self, array: npt.ArrayLike, *, name: str = "numpy array") -> None:
        if isinstance(array, np.ma.MaskedArray) and np.ma.is_masked(array):
            row = int(np.flatnonzero(np.ma.getmaskarray(array).reshape(len(array), -1).any(axis=1))[0])
            raise InvalidVectorsError(f"{name}: row {row} has masked values; fill or drop them first")
        try:
            table = np.asarray(array)
        except ValueError as reason:
            raise InvalidVectorsError(f"{name}: no table of numbers can be made of it: {reason}") from None
        check_dtype(table.dtype, name)
        self.name = name
        self.n_rows, self.width = check_shape(table.shape, name)
        self.dtype: np.dtype[Any] = table.dtype
        self._array = table.view()
        self._array.flags.writeable = False

    def identity(self) -> dict[str, str | int]:
        """Return a digest of dtype, shape and content: a pass over the whole array."""
        return {"array": digest_of_array(self._array)}

    def _blocks(self, start: int, stop: int, max_bytes: int) -> Iterator[Block]:
        step = max(1, max_bytes // self.row_bytes)
        for first in range(start, stop, step):
            yield first, self._array[first : min(first + step, stop)]

    def _take(self, rows: npt.NDArray[np.int64]) -> Rows:
        return self._array[rows]

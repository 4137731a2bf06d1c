"""The contract of a row source: a table of vectors that hands out rows in blocks of bounded memory."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Block", "RowSource", "Rows"]

Rows: TypeAlias = npt.NDArray[Any]
"""Rows as stored, of shape (m, width)."""

Block: TypeAlias = tuple[int, Rows]
"""The number of the first row, and the rows."""


class RowSource(abc.ABC):
    """Rows of vectors somewhere: in memory, in a file, in a bucket.

    A source that names files is a *description*: small when pickled, without open handles, safe to use from
    many threads and processes at once. It opens its files when rows are asked for and closes them
    afterwards, and raises `InvalidVectorsError` when a file is no longer the one that was described.

    Attributes
    ----------
    name : str
        What messages call the source: "s3://bucket/x.npy", "numpy array". Never holds credentials.
    n_rows : int
        Number of rows.
    width : int
        Number of columns as stored.
    dtype : numpy.dtype
        Element type as stored; the byte order may be foreign.
    """

    name: str
    n_rows: int
    width: int
    dtype: np.dtype[Any]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row as stored."""
        return self.width * self.dtype.itemsize

    @abc.abstractmethod
    def identity(self) -> dict[str, str | int]:
        """Say which data this is, as it stands *now*.

        Returns
        -------
        dict
            JSON values only; equal in every interpreter while the data is the same, different when it has
            changed. Costs a look at the storage, or a pass over an array in memory.
        """

    def blocks(self, start: int = 0, stop: int | None = None, *, max_bytes: int) -> Iterator[Block]:
        """Hand out the rows ``start`` to ``stop`` in order.

        Parameters
        ----------
        start, stop : int
            Row numbers, ``0 <= start <= stop <= n_rows``; ``stop=None`` means ``n_rows``.
        max_bytes : int
            Bound, in bytes, on a block with what the reader holds beside it. A block has at least one row,
            and each source says what its format adds. The block before, if the caller still holds it, comes
            on top.

        Yields
        ------
        first : int
            Number of the block's first row.
        rows : numpy.ndarray
            Shape (m, width), in the source's dtype. To be treated as read-only.

        Raises
        ------
        ValueError
            If the range or the bound is out of range.
        InvalidVectorsError
            If a file is cut, has changed, or holds rows that are no vectors.
        """
        stop = self.n_rows if stop is None else stop
        if not 0 <= start <= stop <= self.n_rows:
            raise ValueError(f"{self.name}: rows {start} to {stop} were asked for, there are {self.n_rows}")
        if max_bytes < 1:
            raise ValueError(f"max_bytes must be at least 1, not {max_bytes}")
        return self._blocks(start, stop, max_bytes) if start < stop else iter(())

    def take(self, rows: npt.ArrayLike) -> Rows:
        """Read single rows.

        Parameters
        ----------
        rows : array_like of int, shape (k,)
            Row numbers, strictly increasing.

        Returns
        -------
        numpy.ndarray
            Shape (k, width), in the source's dtype.

        Raises
        ------
        ValueError
            If the row numbers are not integers, not strictly increasing, or out of range.
        InvalidVectorsError
            As for `blocks`.
        """
        numbers = np.asarray(rows)
        if numbers.size == 0 and numbers.ndim == 1:
            return np.empty((0, self.width), self.dtype)
        if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
            raise ValueError(f"row numbers must be a 1-D array of integers, not {numbers.ndim}-D {numbers.dtype}")
        if numbers[0] < 0 or numbers[-1] >= self.n_rows or not (numbers[1:] > numbers[:-1]).all():
            raise ValueError(f"{self.name}: row numbers must increase strictly from 0 to at most {self.n_rows - 1}")
        return self._take(numbers.astype(np.int64, copy=False))

    @abc.abstractmethod
    def _blocks(self, start: int, stop: int, max_bytes: int) -> Iterator[Block]:
        """Do the work of `blocks`; the arguments are checked and the range is not empty."""

    @abc.abstractmethod
    def _take(self, rows: npt.NDArray[np.int64]) -> Rows:
        """Do the work of `take`; the row numbers are checked and there is at least one."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {self.n_rows:,} rows of {self.width:,} {self.dtype}>"

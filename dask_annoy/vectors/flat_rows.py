"""Rows of one size after one another in a file: what npy and fbin files are behind their headers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dask_annoy.vectors.source import Block, Rows
from dask_annoy.vectors.stored_file import ByteReader, StoredFile

__all__ = ["FlatRows"]

_COLUMN_MAJOR_TAKE = 32 << 20  # bytes held while single rows are picked out of a file stored by columns


@dataclass(frozen=True)
class FlatRows:
    """A table in a file.

    Attributes
    ----------
    file : StoredFile
    offset : int
        Bytes before the first value.
    n_rows, width : int
        The table's shape.
    dtype : numpy.dtype
        Type of a value, of any byte order.
    column_major : bool
        The file holds column after column (Fortran order): a block is then read with one range a column.
    """

    file: StoredFile
    offset: int
    n_rows: int
    width: int
    dtype: np.dtype[Any]
    column_major: bool = False

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.width * self.dtype.itemsize

    @property
    def expected_size(self) -> int:
        """Bytes that the file must have."""
        return self.offset + self.n_rows * self.row_bytes

    def blocks(self, start: int, stop: int, max_bytes: int, *, multiple: int = 1) -> Iterator[Block]:
        """Read the rows ``start`` to ``stop`` in blocks.

        From local disk a block has up to ``max_bytes``: it is read into place. From elsewhere it has a
        third of them (or all but 64 MiB, if that is more), since the answers on their way need memory too.
        All blocks but the last have a multiple of ``multiple`` rows, also where that is more than the bound.
        """
        with self.file.open() as reader:
            step = reader.block_bytes(max_bytes) // self.row_bytes
            step = max(multiple, step - step % multiple)
            for first in range(start, stop, step):
                # Not kept in a variable: the caller alone decides how long a block lives.
                yield first, self._read(reader, first, min(first + step, stop))

    def take(self, rows: npt.NDArray[np.int64]) -> Rows:
        """Read single rows, given by strictly increasing numbers: a read for each run of neighbours."""
        out = np.empty((len(rows), self.width), self.dtype)
        if self.column_major:
            for first, block in self.blocks(int(rows[0]), int(rows[-1]) + 1, _COLUMN_MAJOR_TAKE):
                low, high = np.searchsorted(rows, (first, first + len(block)))
                out[low:high] = block[rows[low:high] - first]
            return out
        memory = _bytes_of(out)
        runs = np.flatnonzero(np.diff(rows) != 1) + 1
        bounds = zip((0, *runs.tolist()), (*runs.tolist(), len(rows)), strict=True)
        with self.file.open() as reader:
            reader.fill(
                (
                    self.offset + int(rows[low]) * self.row_bytes,
                    memory[low * self.row_bytes : high * self.row_bytes],
                )
                for low, high in bounds
            )
        return out

    def _read(self, reader: ByteReader, first: int, stop: int) -> Rows:
        if not self.column_major:
            block = np.empty((stop - first, self.width), self.dtype)
            reader.fill([(self.offset + first * self.row_bytes, _bytes_of(block))])
            return block
        columns = np.empty((self.width, stop - first), self.dtype)
        size = self.dtype.itemsize
        reader.fill(
            (self.offset + (column * self.n_rows + first) * size, _bytes_of(columns[column]))
            for column in range(self.width)
        )
        return columns.T


def _bytes_of(array: Rows) -> memoryview:
    return array.reshape(-1).view(np.uint8).data

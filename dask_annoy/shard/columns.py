"""One column of numbers in a ``.npy`` file: checked when it is opened, mapped or read in blocks.

The files are what ``numpy.save`` writes, but the header is fixed here, so the bytes never depend on numpy's version.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dask_annoy.errors import CorruptIndexError
from dask_annoy.shard.mapping import map_file

__all__ = ["HEADER_BYTES", "Column", "header_of"]

HEADER_BYTES: Final = 128


class Column:
    """One mapped ``.npy`` file of a known type and length. No file descriptor is held: any number may be mapped."""

    def __init__(self, path: Path, dtype: np.dtype[Any], n: int) -> None:
        self.path = path
        self._dtype = dtype
        self._n = n
        self._array: npt.NDArray[Any] | None = np.empty(0, dtype)
        with path.open("rb") as file:
            size = file.seek(0, 2)
            expected = HEADER_BYTES + n * dtype.itemsize
            if size != expected:
                raise CorruptIndexError(f"{path} has {size} bytes: {n} values of type {dtype.str} take {expected}")
            file.seek(0)
            if file.read(HEADER_BYTES) != header_of(dtype, n):
                raise CorruptIndexError(f"{path} does not start with the header of {n} values of type {dtype.str}")
            if n:
                self._array = map_file(file.fileno(), path, expected)[HEADER_BYTES:].view(dtype)

    @property
    def array(self) -> npt.NDArray[Any]:
        """The mapped values; views of it must not be handed out."""
        if self._array is None:
            raise ValueError(f"{self.path} was closed")
        return self._array

    def read(self, start: int, count: int) -> npt.NDArray[Any]:
        """A copy of values, read without making the mapping resident."""
        return np.fromfile(self.path, self._dtype, count, offset=HEADER_BYTES + start * self._dtype.itemsize)

    def blocks(self, size: int) -> Iterator[tuple[int, npt.NDArray[Any]]]:
        """Starts and copies of consecutive runs of `size` values."""
        for start in range(0, self._n, size):
            yield start, self.read(start, min(size, self._n - start))

    def __len__(self) -> int:
        return self._n

    def close(self) -> None:
        """Unmap the file, as soon as no other thread looks at it. Closing again does nothing."""
        self._array = None


def header_of(dtype: np.dtype[Any], n: int) -> bytes:
    """The first bytes of the file of `n` values: those that ``numpy.save`` writes, whatever numpy's version."""
    text = f"{{'descr': '{dtype.str}', 'fortran_order': False, 'shape': ({n},), }}"
    magic = b"\x93NUMPY\x01\x00" + (HEADER_BYTES - 10).to_bytes(2, "little")
    return magic + text.encode().ljust(HEADER_BYTES - len(magic) - 1) + b"\n"

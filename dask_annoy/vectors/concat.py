"""Several row sources, one after another, as one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from dask_annoy.errors import InvalidVectorsError
from dask_annoy.vectors.identity import digest_of_identities
from dask_annoy.vectors.source import Block, Rows, RowSource

__all__ = ["ConcatSource"]


class ConcatSource(RowSource):
    """The rows of all parts in order. A block never spans two parts; its bound is that of its part.

    Parameters
    ----------
    parts : tuple of RowSource
        At least one; all of the same width and dtype.

    Raises
    ------
    InvalidVectorsError
        If there are no parts, or one differs from the first in width or dtype.
    """

    def __init__(self, parts: tuple[RowSource, ...]) -> None:
        if not parts:
            raise InvalidVectorsError("no sources of vectors were given: at least one is needed")
        head = parts[0]
        for part in parts[1:]:
            if (part.width, part.dtype) != (head.width, head.dtype):
                raise InvalidVectorsError(
                    f"{part.name} has rows of {part.width:,} {part.dtype}, but {head.name} has rows of "
                    f"{head.width:,} {head.dtype}: parts must agree"
                )
        self.parts = tuple(parts)
        self.name = head.name if len(parts) == 1 else f"{len(parts)} sources, {head.name} … {parts[-1].name}"
        self.width = head.width
        self.dtype = head.dtype
        self._bounds = np.cumsum([0, *(part.n_rows for part in parts)])
        self.n_rows = int(self._bounds[-1])

    def identity(self) -> dict[str, str | int]:
        """Return a digest of the identities of the parts."""
        return {
            "parts": len(self.parts),
            "digest": digest_of_identities(part.identity() for part in self.parts),
        }

    def _blocks(self, start: int, stop: int, max_bytes: int) -> Iterator[Block]:
        for part, offset in zip(self.parts, self._bounds.tolist(), strict=False):
            low, high = max(start - offset, 0), min(stop - offset, part.n_rows)
            if low < high:
                for first, rows in part.blocks(low, high, max_bytes=max_bytes):
                    yield offset + first, rows
                    del rows  # the caller alone decides how long a block lives

    def _take(self, rows: npt.NDArray[np.int64]) -> Rows:
        out = np.empty((len(rows), self.width), self.dtype)
        cuts = np.searchsorted(rows, self._bounds).tolist()
        for number, part in enumerate(self.parts):
            low, high = cuts[number], cuts[number + 1]
            if low < high:
                out[low:high] = part.take(rows[low:high] - self._bounds[number])
        return out

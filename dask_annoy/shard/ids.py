"""The ids of a shard by item number: int64 or strings, written in blocks, mapped for reading.

int64 ids are one ``.npy`` file. Strings are two: the offsets of n + 1 boundaries and the UTF-8 bytes between
them. Beside them stands the sorted run of `dask_annoy.shard.id_runs`, by which ids are found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Literal, Self

import numpy as np
import numpy.typing as npt

from dask_annoy.errors import CorruptIndexError, InvalidIdsError
from dask_annoy.shard.columns import HEADER_BYTES, Column, header_of
from dask_annoy.shard.id_runs import RUN_FILES, write_run

__all__ = ["IDS_FILE", "OFFSETS_FILE", "UTF8_FILE", "IdTable", "IdType", "IdWriter", "id_files", "write_ids"]

IdType = Literal["int64", "string"]

IDS_FILE: Final = "ids.npy"
OFFSETS_FILE: Final = "ids.offsets.npy"
UTF8_FILE: Final = "ids.utf8.npy"

_INT64: Final = np.dtype("<i8")
_UINT8: Final = np.dtype("u1")
_BLOCK: Final = 1 << 20  # items read at once


def id_files(id_type: IdType) -> list[str]:
    """The names of the files that ids of a type are kept in."""
    return [IDS_FILE] if id_type == "int64" else [OFFSETS_FILE, UTF8_FILE]


def write_ids(directory: Path, ids: npt.NDArray[Any]) -> list[str]:
    """Write the ids of a shard and return the names of the files.

    Parameters
    ----------
    directory : Path
        An existing folder.
    ids : ndarray, shape (n,)
        Integers that fit int64, or strings. Strings in an object array are kept exactly; fixed-width ``U``
        arrays have lost trailing NULs before they come here.

    Raises
    ------
    InvalidIdsError
        If ids are of another type, or one is repeated.
    """
    id_type: IdType = "int64" if ids.dtype.kind in "iu" else "string"
    with IdWriter(directory, id_type) as writer:
        writer.append(ids)
        return writer.close()


class IdWriter:
    """Writes the ids of a shard block by block: the bytes do not depend on how they were cut into blocks.

    Leaving a ``with`` block without `close` removes the files.

    Parameters
    ----------
    directory : Path
        An existing folder.
    id_type : {"int64", "string"}
    """

    def __init__(self, directory: Path, id_type: IdType) -> None:
        self._directory = directory
        self._id_type = id_type
        self._count = 0
        self._utf8_bytes = 0
        self._files: list[BinaryIO] = []
        for name in id_files(id_type):
            file = (directory / name).open("wb")
            self._files.append(file)
            file.write(bytes(HEADER_BYTES))
        if id_type == "string":
            self._files[0].write(bytes(8))

    def append(self, block: npt.NDArray[Any]) -> None:
        """Append ids: a one-dimensional array of integers or strings, as the writer's type says."""
        if block.ndim != 1:
            raise InvalidIdsError(f"ids of shape {block.shape} were given: ids are one-dimensional")
        if self._id_type == "int64":
            self._files[0].write(_as_int64(block).tobytes())
        else:
            encoded = _as_utf8(block, self._count)
            lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
            self._files[0].write((np.cumsum(lengths) + self._utf8_bytes).astype(_INT64).tobytes())
            self._files[1].write(b"".join(encoded))
            self._utf8_bytes += int(lengths.sum())
        self._count += len(block)

    def close(self, *, with_run: bool = True) -> list[str]:
        """Finish the files and return their names.

        Parameters
        ----------
        with_run : bool
            Sort the ids, too, and look for repeated ones, in bounded memory.
        """
        lengths = [self._count] if self._id_type == "int64" else [self._count + 1, self._utf8_bytes]
        dtypes: list[np.dtype[Any]] = [_INT64] if self._id_type == "int64" else [_INT64, _UINT8]
        for file, length, dtype in zip(self._files, lengths, dtypes, strict=True):
            file.seek(0)
            file.write(header_of(dtype, length))
            file.close()
        self._files = []
        if not with_run:
            return id_files(self._id_type)
        try:
            with IdTable.open(self._directory, self._id_type, self._count) as table:
                run = write_run(self._directory, table)
        except BaseException:
            self._remove()
            raise
        return [*id_files(self._id_type), *run]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._files:
            for file in self._files:
                file.close()
            self._remove()

    def _remove(self) -> None:
        for name in (*id_files(self._id_type), *RUN_FILES):
            (self._directory / name).unlink(missing_ok=True)


class IdTable:
    """The ids of a shard, mapped read-only. Made by `open`."""

    def __init__(self, id_type: IdType, n: int, columns: dict[str, Column]) -> None:
        self.id_type = id_type
        self._n = n
        self._columns = columns

    @classmethod
    def open(cls, source: Path | Mapping[str, Path], id_type: IdType, n: int) -> Self:
        """Map the id files of a shard after checking their size, header and offsets.

        Parameters
        ----------
        source : Path or mapping
            The folder of the files, or their paths by name.
        id_type : {"int64", "string"}
        n : int
            The number of items of the shard.

        Raises
        ------
        CorruptIndexError
            If a file is not what the shard needs; names the file and the reason.
        """
        paths = {name: source / name if isinstance(source, Path) else source[name] for name in id_files(id_type)}
        columns: dict[str, Column] = {}
        try:
            if id_type == "int64":
                columns[IDS_FILE] = Column(paths[IDS_FILE], _INT64, n)
            else:
                offsets = columns[OFFSETS_FILE] = Column(paths[OFFSETS_FILE], _INT64, n + 1)
                total = _check_offsets(offsets)
                columns[UTF8_FILE] = Column(paths[UTF8_FILE], _UINT8, total)
        except BaseException:
            for column in columns.values():
                column.close()
            raise
        return cls(id_type, n, columns)

    def __len__(self) -> int:
        return self._n

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Unmap the files. Closing again does nothing."""
        for column in self._columns.values():
            column.close()

    def take(self, items: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """The ids of items.

        Parameters
        ----------
        items : ndarray of int64, any shape
            Item numbers; -1 where there is none.

        Returns
        -------
        ndarray, same shape
            int64 with -1 where there is none, or objects: str, and None where there is none.
        """
        items = np.asarray(items)
        if items.dtype.kind not in "iu":
            raise TypeError(f"items are of type {items.dtype}: expected integers")
        if items.size and not (int(items.min()) >= -1 and int(items.max()) < self._n):
            raise IndexError(f"an item outside of 0 to {self._n - 1} was asked for (-1 stands for none)")
        is_there = items >= 0
        wanted = items[is_there].astype(np.intp, copy=False)
        if self.id_type == "int64":
            ids = np.full(items.shape, -1, np.int64)
            ids[is_there] = self._columns[IDS_FILE].array[wanted]
            return ids
        strings = np.full(items.shape, None, object)
        strings[is_there] = self._strings(wanted)
        return strings

    def blocks(self) -> Iterator[tuple[int, npt.NDArray[Any]]]:
        """All ids in order, some at a time: the item number of the first, and the ids. Nothing stays mapped of it."""
        for start in range(0, self._n, _BLOCK):
            count = min(_BLOCK, self._n - start)
            if self.id_type == "int64":
                yield start, self._columns[IDS_FILE].read(start, count)
            else:
                offsets = self._columns[OFFSETS_FILE].read(start, count + 1)
                utf8 = self._columns[UTF8_FILE].read(int(offsets[0]), int(offsets[-1] - offsets[0]))
                yield start, self._decoded(start, utf8, offsets - offsets[0])

    def _strings(self, items: npt.NDArray[np.intp]) -> npt.NDArray[Any]:
        offsets, utf8 = self._columns[OFFSETS_FILE].array, self._columns[UTF8_FILE].array
        strings = np.empty(len(items), object)
        lows, highs = offsets[items].tolist(), offsets[items + 1].tolist()
        for place, (low, high) in enumerate(zip(lows, highs, strict=True)):
            strings[place] = self._text(utf8[low:high], int(items[place]))
        return strings

    def _decoded(self, first: int, utf8: npt.NDArray[Any], bounds: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        strings = np.empty(len(bounds) - 1, object)
        for place, (low, high) in enumerate(pairwise(bounds.tolist())):
            strings[place] = self._text(utf8[low:high], first + place)
        return strings

    def _text(self, utf8: npt.NDArray[Any], item: int) -> str:
        try:
            return str(utf8.data, "utf-8")
        except UnicodeDecodeError as error:
            raise CorruptIndexError(
                f"{self._columns[UTF8_FILE].path} does not hold UTF-8 for item {item}: {error.reason}"
            ) from None


def _check_offsets(offsets: Column) -> int:
    """The number of UTF-8 bytes, once the offsets are known to ascend from 0."""
    last = 0
    for start, block in offsets.blocks(_BLOCK):
        if start == 0 and block[0] != 0:
            raise CorruptIndexError(f"{offsets.path} starts with the offset {int(block[0])}: expected 0")
        if block[0] < last or (block[1:] < block[:-1]).any():
            raise CorruptIndexError(f"{offsets.path} has an offset that is smaller than the one before it")
        last = int(block[-1])
    return last


def _as_int64(block: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    if block.dtype.kind not in "iu":
        raise InvalidIdsError(f"ids of type {block.dtype} were given to an index with int64 ids: expected integers")
    if block.dtype.kind == "u" and block.size and int(block.max()) > 2**63 - 1:
        raise InvalidIdsError(f"the id {int(block.max())} does not fit int64")
    return block.astype(_INT64, copy=False)


def _as_utf8(block: npt.NDArray[Any], start: int) -> list[bytes]:
    if block.dtype.kind not in "OUT":
        raise InvalidIdsError(f"ids of type {block.dtype} were given to an index with string ids: expected strings")
    encoded = []
    for place, string in enumerate(block.tolist()):
        if not isinstance(string, str):
            raise InvalidIdsError(
                f"the id at place {start + place} of the shard is of type {type(string).__name__}: expected a string"
            )
        try:
            encoded.append(string.encode())
        except UnicodeEncodeError as error:
            raise InvalidIdsError(
                f"the id {string!r} at place {start + place} of the shard is not valid Unicode: {error.reason}"
            ) from None
    return encoded

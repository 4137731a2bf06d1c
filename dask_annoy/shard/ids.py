"""The ids of a shard by item number: int64 or strings, written in blocks, mapped for reading.

int64 ids are one ``.npy`` file. Strings are two: the offsets of n + 1 boundaries and the UTF-8 bytes between
them. All are what ``numpy.save`` writes, but the header is fixed here, so the bytes never depend on numpy's
version.
"""

from __future__ import annotations

import hashlib
import mmap
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Literal, Self

import numpy as np
import numpy.typing as npt

from dask_annoy.errors import CorruptIndexError, InvalidIdsError

__all__ = ["IDS_FILE", "OFFSETS_FILE", "UTF8_FILE", "IdTable", "IdType", "IdWriter", "id_files", "write_ids"]

IdType = Literal["int64", "string"]

IDS_FILE: Final = "ids.npy"
OFFSETS_FILE: Final = "ids.offsets.npy"
UTF8_FILE: Final = "ids.utf8.npy"

_INT64: Final = np.dtype("<i8")
_UINT8: Final = np.dtype("u1")
_HEADER_BYTES: Final = 128
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
            file.write(bytes(_HEADER_BYTES))
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

    def close(self) -> list[str]:
        """Finish the files, look for repeated ids in bounded memory, and return the files' names."""
        lengths = [self._count] if self._id_type == "int64" else [self._count + 1, self._utf8_bytes]
        dtypes: list[np.dtype[Any]] = [_INT64] if self._id_type == "int64" else [_INT64, _UINT8]
        for file, length, dtype in zip(self._files, lengths, dtypes, strict=True):
            file.seek(0)
            file.write(_header(dtype, length))
            file.close()
        self._files = []
        try:
            with IdTable.open(self._directory, self._id_type, self._count) as table:
                repeated = table.first_duplicate(scratch=self._directory)
            if repeated is not None:
                raise InvalidIdsError(f"the id {repeated!r} is given to more than one vector: ids must be unique")
        except BaseException:
            self._remove()
            raise
        return id_files(self._id_type)

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
        for name in id_files(self._id_type):
            (self._directory / name).unlink(missing_ok=True)


class IdTable:
    """The ids of a shard, mapped read-only. Made by `open`."""

    def __init__(self, id_type: IdType, n: int, columns: dict[str, _Column]) -> None:
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
        columns: dict[str, _Column] = {}
        try:
            if id_type == "int64":
                columns[IDS_FILE] = _Column(paths[IDS_FILE], _INT64, n)
            else:
                offsets = columns[OFFSETS_FILE] = _Column(paths[OFFSETS_FILE], _INT64, n + 1)
                total = _check_offsets(offsets)
                columns[UTF8_FILE] = _Column(paths[UTF8_FILE], _UINT8, total)
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

    def first_duplicate(self, scratch: Path | None = None) -> int | str | None:
        """An id that occurs twice, or None. Needs some megabytes of memory; for strings also disk space.

        Parameters
        ----------
        scratch : Path, optional
            Where to put 8 bytes a string for a while; by default the temporary directory.
        """
        if self.id_type == "int64":
            repeated = next(_repeated(self._columns[IDS_FILE]), None)
            return None if repeated is None else int(repeated[0])
        with tempfile.NamedTemporaryFile(dir=scratch, prefix=".hashes-") as file:
            file.write(_header(_INT64, self._n))
            for start in range(0, self._n, _BLOCK):
                file.write(self._hashes(start).tobytes())
            file.flush()
            hashes = _Column(Path(file.name), _INT64, self._n)
            try:
                return self._first_repeated_string(hashes)
            finally:
                hashes.close()

    def _first_repeated_string(self, hashes: _Column) -> str | None:
        for candidates in _repeated(hashes):
            seen: set[str] = set()
            for start, block in hashes.blocks():
                for string in self._strings(start + np.flatnonzero(np.isin(block, candidates))):
                    if string in seen:
                        return str(string)
                    seen.add(string)
        return None

    def _hashes(self, start: int) -> npt.NDArray[np.int64]:
        offsets = self._columns[OFFSETS_FILE].read(start, min(_BLOCK, self._n - start) + 1)
        first = int(offsets[0])
        utf8 = self._columns[UTF8_FILE].read(first, int(offsets[-1]) - first).tobytes()
        bounds = (offsets - first).tolist()
        digests = b"".join(hashlib.blake2b(utf8[low:high], digest_size=8).digest() for low, high in pairwise(bounds))
        return np.frombuffer(digests, _INT64)

    def _strings(self, items: npt.NDArray[np.intp]) -> npt.NDArray[Any]:
        offsets, utf8 = self._columns[OFFSETS_FILE], self._columns[UTF8_FILE]
        lows, highs = offsets.array[items].tolist(), offsets.array[items + 1].tolist()
        strings = np.empty(len(items), object)
        for place, (low, high) in enumerate(zip(lows, highs, strict=True)):
            try:
                strings[place] = str(utf8.array[low:high].data, "utf-8")
            except UnicodeDecodeError as error:
                raise CorruptIndexError(
                    f"{utf8.path} does not hold UTF-8 for item {int(items[place])}: {error.reason}"
                ) from None
        return strings


class _Column:
    """One mapped ``.npy`` file of a known type and length."""

    def __init__(self, path: Path, dtype: np.dtype[Any], n: int) -> None:
        self.path = path
        self._dtype = dtype
        self._n = n
        self._map: mmap.mmap | None = None
        self._array: npt.NDArray[Any] | None = np.empty(0, dtype)
        with path.open("rb") as file:
            size = file.seek(0, 2)
            expected = _HEADER_BYTES + n * dtype.itemsize
            if size != expected:
                raise CorruptIndexError(f"{path} has {size} bytes: {n} values of type {dtype.str} take {expected}")
            file.seek(0)
            if file.read(_HEADER_BYTES) != _header(dtype, n):
                raise CorruptIndexError(f"{path} does not start with the header of {n} values of type {dtype.str}")
            if n:
                self._map = mmap.mmap(file.fileno(), expected, access=mmap.ACCESS_READ)
                self._array = np.frombuffer(self._map, dtype, n, _HEADER_BYTES)

    @property
    def array(self) -> npt.NDArray[Any]:
        """The mapped values; views of it must not be handed out."""
        if self._array is None:
            raise ValueError(f"{self.path} was closed")
        return self._array

    def read(self, start: int, count: int) -> npt.NDArray[Any]:
        """A copy of values, read without making the mapping resident."""
        return np.fromfile(self.path, self._dtype, count, offset=_HEADER_BYTES + start * self._dtype.itemsize)

    def blocks(self) -> Iterator[tuple[int, npt.NDArray[Any]]]:
        """Starts and copies of consecutive runs."""
        for start in range(0, self._n, _BLOCK):
            yield start, self.read(start, min(_BLOCK, self._n - start))

    def close(self) -> None:
        self._array = None
        if self._map is not None:
            with suppress(BufferError):  # another thread is looking: the map goes with its array
                self._map.close()
            self._map = None


def _header(dtype: np.dtype[Any], n: int) -> bytes:
    text = f"{{'descr': '{dtype.str}', 'fortran_order': False, 'shape': ({n},), }}"
    magic = b"\x93NUMPY\x01\x00" + (_HEADER_BYTES - 10).to_bytes(2, "little")
    return magic + text.encode().ljust(_HEADER_BYTES - len(magic) - 1) + b"\n"


def _check_offsets(offsets: _Column) -> int:
    """The number of UTF-8 bytes, once the offsets are known to ascend from 0."""
    last = 0
    for start, block in offsets.blocks():
        if start == 0 and block[0] != 0:
            raise CorruptIndexError(f"{offsets.path} starts with the offset {int(block[0])}: expected 0")
        if block[0] < last or (block[1:] < block[:-1]).any():
            raise CorruptIndexError(f"{offsets.path} has an offset that is smaller than the one before it")
        last = int(block[-1])
    return last


def _repeated(values: _Column) -> Iterator[npt.NDArray[np.int64]]:
    """Yield batches of values that occur more than once; each pass over the file holds a part of them."""
    parts = -(-values._n // (8 * _BLOCK))
    for part in range(parts):
        chosen = [block[_part_of(block, parts) == part] for _, block in values.blocks()]
        ordered = np.sort(np.concatenate(chosen))
        repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
        for start in range(0, len(repeated), 1024):
            yield repeated[start : start + 1024]


def _part_of(values: npt.NDArray[np.int64], parts: int) -> npt.NDArray[np.uint64]:
    mixed = values.view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)  # Fibonacci hashing: consecutive ids spread
    return (mixed >> np.uint64(32)) % np.uint64(parts)


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

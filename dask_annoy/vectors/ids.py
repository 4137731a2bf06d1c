"""The ids that users give their vectors: int64 or strings, as many as rows."""

from __future__ import annotations

import abc
import hashlib
import numbers
from collections.abc import Iterator, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from dask_annoy.errors import InvalidIdsError
from dask_annoy.vectors.identity import digest_of_identities

__all__ = ["ArrayIds", "ConcatIds", "IdSource", "IdType", "Ids", "RowNumberIds", "int64_ids", "string_ids"]

IdType: TypeAlias = Literal["int64", "string"]
Ids: TypeAlias = npt.NDArray[Any]
"""int64, or objects that are all str; shape (m,)."""

_LARGEST = np.iinfo(np.int64).max
_STEP = 1 << 16  # ids looked at together


class IdSource(abc.ABC):
    """Ids of rows: picklable, and a description only where they are in a file.

    Attributes
    ----------
    name : str
        What messages call the source. Never holds credentials.
    n_rows : int
        Number of ids.
    id_type : {"int64", "string"}
        What `read` returns.
    """

    name: str
    n_rows: int
    id_type: IdType

    @abc.abstractmethod
    def identity(self) -> dict[str, str | int]:
        """Say which ids these are, as they stand *now*: JSON values, equal in every interpreter."""

    def read(self, start: int = 0, stop: int | None = None) -> Ids:
        """Read the ids of the rows ``start`` to ``stop``.

        Parameters
        ----------
        start, stop : int
            Row numbers, ``0 <= start <= stop <= n_rows``; ``stop=None`` means ``n_rows``.

        Returns
        -------
        numpy.ndarray, shape (stop - start,)
            int64, or objects that are all str, exactly as given.

        Raises
        ------
        ValueError
            If the range is out of range.
        InvalidIdsError
            If an id is null, too large, or cannot be stored as UTF-8, naming the first.
        """
        stop = self.n_rows if stop is None else stop
        if not 0 <= start <= stop <= self.n_rows:
            raise ValueError(f"{self.name}: ids {start} to {stop} were asked for, there are {self.n_rows}")
        if start == stop:
            return np.empty(0, np.int64 if self.id_type == "int64" else object)
        return self._read(start, stop)

    @abc.abstractmethod
    def _read(self, start: int, stop: int) -> Ids:
        """Do the work of `read`; the range is checked and not empty."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {self.n_rows:,} {self.id_type}>"


class RowNumberIds(IdSource):
    """The ids of vectors without ids: their row numbers, counted from `first`."""

    def __init__(self, n_rows: int, first: int = 0) -> None:
        self.name = "row numbers"
        self.n_rows = n_rows
        self._first = first
        self.id_type = "int64"

    def identity(self) -> dict[str, str | int]:
        """Return the number of rows, and the first number if it is not 0."""
        identity: dict[str, str | int] = {"row_numbers": self.n_rows}
        return identity | {"first": self._first} if self._first else identity

    def _read(self, start: int, stop: int) -> Ids:
        return np.arange(self._first + start, self._first + stop, dtype=np.int64)


class ArrayIds(IdSource):
    """Ids in memory.

    Parameters
    ----------
    ids : array_like, shape (n_rows,)
        Integers that fit int64, or strings: an array of numpy's integer or string types, of objects, or a
        sequence.

    Raises
    ------
    InvalidIdsError
        Naming the first position that is neither, or not of the same type as the first, or has no UTF-8.
    """

    def __init__(self, ids: npt.ArrayLike | Sequence[object], *, name: str = "ids") -> None:
        self.name = name
        array = _as_array(ids)
        if array.ndim != 1:
            raise InvalidIdsError(f"{name}: expected one id a row, found an array of the shape {array.shape}")
        self.n_rows = len(array)
        self.id_type = _id_type(array, name)
        if self.id_type == "int64":
            array = int64_ids(array, name, 0)
        self._array = array
        for start in range(0, self.n_rows, _STEP) if self.id_type == "string" else ():
            self._read(start, min(start + _STEP, self.n_rows))

    def identity(self) -> dict[str, str | int]:
        """Return a digest of the ids, the same for all ways of holding them."""
        digest = hashlib.blake2b(self.id_type.encode(), digest_size=16)
        for start in range(0, self.n_rows, _STEP):
            part = self._read(start, min(start + _STEP, self.n_rows))
            if self.id_type == "int64":
                digest.update(part.astype("<i8", copy=False).tobytes())
            else:
                encoded = [text.encode() for text in part]
                digest.update(np.array([len(text) for text in encoded], "<i8").tobytes())
                digest.update(b"".join(encoded))
        return {"array": digest.hexdigest(), "ids": self.n_rows}

    def _read(self, start: int, stop: int) -> Ids:
        if self.id_type == "int64":
            return self._array[start:stop]
        return string_ids(self._array[start:stop], self.name, start)


class ConcatIds(IdSource):
    """The ids of all parts in order.

    Raises
    ------
    InvalidIdsError
        If there are no parts, or some hold integers and some strings.
    """

    def __init__(self, parts: tuple[IdSource, ...]) -> None:
        if not parts:
            raise InvalidIdsError("no sources of ids were given: at least one is needed")
        head = parts[0]
        for part in parts[1:]:
            if part.id_type != head.id_type:
                raise InvalidIdsError(
                    f"{part.name} holds ids of type {part.id_type}, but {head.name} of type {head.id_type}"
                )
        self.parts = tuple(parts)
        self.name = head.name if len(parts) == 1 else f"{len(parts)} sources, {head.name} … {parts[-1].name}"
        self.n_rows = sum(part.n_rows for part in parts)
        self.id_type = head.id_type

    def identity(self) -> dict[str, str | int]:
        """Return a digest of the identities of the parts."""
        return {
            "parts": len(self.parts),
            "digest": digest_of_identities(part.identity() for part in self.parts),
        }

    def _read(self, start: int, stop: int) -> Ids:
        return np.concatenate(list(self._pieces(start, stop)))

    def _pieces(self, start: int, stop: int) -> Iterator[Ids]:
        offset = 0
        for part in self.parts:
            low, high = max(start - offset, 0), min(stop - offset, part.n_rows)
            if low < high:
                yield part.read(low, high)
            offset += part.n_rows


def int64_ids(array: Ids, name: str, first_row: int) -> npt.NDArray[np.int64]:
    """Turn integers, of a numpy type or as objects, into int64.

    Raises
    ------
    InvalidIdsError
        If one does not fit, naming it and its row.
    """
    if array.dtype.kind == "O":
        try:
            return np.fromiter(array, np.int64, len(array))
        except OverflowError:
            row = next(row for row, value in enumerate(array) if not -_LARGEST - 1 <= value <= _LARGEST)
            raise _too_large(name, first_row + row, array[row]) from None
    if array.dtype.kind == "u" and array.dtype.itemsize == 8 and array.size and array.max() > _LARGEST:
        row = int(np.argmax(array > _LARGEST))
        raise _too_large(name, first_row + row, array[row])
    return array.astype(np.int64, copy=False)


def string_ids(array: Ids, name: str, first_row: int) -> Ids:
    """Turn strings, of a numpy type or as objects, into objects that are all str.

    Raises
    ------
    InvalidIdsError
        If one cannot be stored as UTF-8, or is missing, naming its row.
    """
    texts = array if array.dtype.kind == "O" else array.astype(object)
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise InvalidIdsError(f"{name}: row {first_row + row:,} is {text!r}, expected a string")
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        row = next(row for row, text in enumerate(texts) if not _has_utf8(text))
        raise InvalidIdsError(
            f"{name}: row {first_row + row:,} is {texts[row]!a}: half of a surrogate pair has no UTF-8"
        ) from None
    if any(type(text) is not str for text in texts):
        return np.fromiter((str(text) for text in texts), object, len(texts))
    return texts


def _as_array(ids: Any) -> Ids:
    if isinstance(ids, np.ma.MaskedArray) and np.ma.is_masked(ids):
        row = int(np.argmax(np.ma.getmaskarray(ids)))
        raise InvalidIdsError(f"ids: row {row:,} is masked: every row needs an id")
    if isinstance(ids, range):
        try:
            return np.arange(ids.start, ids.stop, ids.step, dtype=np.int64)
        except OverflowError:
            pass
    if isinstance(ids, np.ndarray) or hasattr(ids, "__array__"):
        return np.asarray(ids)
    # Not by numpy: it would make strings of [1, "a"], floats of [1, 2.5], and drop trailing NULs.
    values = list(ids)
    return np.fromiter(values, object, len(values))


def _id_type(array: Ids, name: str) -> IdType:
    kind = array.dtype.kind
    if kind in "iu":
        return "int64"
    if kind in "UT":
        return "string"
    if kind != "O":
        raise InvalidIdsError(
            f"{name}: ids must be integers or strings, these are {array.dtype}"
            + (f"; row 0 is {array[0]}" if len(array) else "")
        )
    if not len(array):
        return "int64"
    first = _object_type(array[0])
    for row, value in enumerate(array):
        found = _object_type(value)
        if found is None:
            raise InvalidIdsError(
                f"{name}: row {row:,} is {value!r} ({type(value).__name__}): ids must be integers or strings"
            )
        if found != first:
            raise InvalidIdsError(
                f"{name}: row {row:,} is {value!r}, but row 0 is {array[0]!r}: ids must be of one type"
            )
    assert first is not None
    return first


def _object_type(value: object) -> IdType | None:
    if isinstance(value, str):
        return "string"
    if isinstance(value, (bool, np.bool)):
        return None
    return "int64" if isinstance(value, numbers.Integral) else None


def _has_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _too_large(name: str, row: int, value: object) -> InvalidIdsError:
    return InvalidIdsError(f"{name}: row {row:,} is {value}, which does not fit int64")

"""The sorted run of a shard's ids, by which ids are found without reading all of them.

Each id has a key of 64 bits that spreads evenly over its range: a bijection of an integer, a hash of a string. A run
is two ``.npy`` files: the keys in ascending order, and the item numbers in that order. So what has keys in a range is a
slice of every run, and runs of several shards are compared slice by slice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Self

import numpy as np
import numpy.typing as npt

from dask_annoy.errors import CorruptIndexError, InvalidIdsError
from dask_annoy.shard.columns import Column, header_of

if TYPE_CHECKING:
    from dask_annoy.shard.ids import IdTable

__all__ = ["ITEMS_FILE", "KEYS_FILE", "RUN_FILES", "IdRun", "keys_of", "write_run"]

KEYS_FILE: Final = "ids.run-keys.npy"
ITEMS_FILE: Final = "ids.run-items.npy"
RUN_FILES: Final = (KEYS_FILE, ITEMS_FILE)

_KEY: Final = np.dtype("<u8")
_ITEM: Final = np.dtype("<u4")
_SORTED_AT_ONCE: Final = 1 << 22  # some 50 bytes each while they are sorted
_CHECKED_AT_ONCE: Final = 1 << 18


def keys_of(ids: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """The keys of ids: of integers by splitmix64's last step, which is a bijection; of strings their BLAKE2b.

    Parameters
    ----------
    ids : ndarray, shape (n,)
        int64, or objects that are all str.
    """
    if ids.dtype.kind in "iu":
        keys = ids.astype(np.int64, copy=False).view(np.uint64).copy()
        keys ^= keys >> np.uint64(30)
        keys *= np.uint64(0xBF58476D1CE4E5B9)
        keys ^= keys >> np.uint64(27)
        keys *= np.uint64(0x94D049BB133111EB)
        keys ^= keys >> np.uint64(31)
        return keys
    digests = b"".join(hashlib.blake2b(text.encode(), digest_size=8).digest() for text in ids.tolist())
    return np.frombuffer(digests, _KEY).astype(np.uint64)


def write_run(directory: Path, table: IdTable) -> list[str]:
    """Write the run of a shard's ids beside them, and return the files' names.

    Raises
    ------
    InvalidIdsError
        If an id is repeated; names it.
    """
    n = len(table)
    parts = -(-n // _SORTED_AT_ONCE)
    with (directory / KEYS_FILE).open("wb") as keys_file, (directory / ITEMS_FILE).open("wb") as items_file:
        keys_file.write(header_of(_KEY, n))
        items_file.write(header_of(_ITEM, n))
        for part in range(parts):
            _write_part(table, part, parts, keys_file, items_file)
    return list(RUN_FILES)


def _write_part(table: IdTable, part: int, parts: int, keys_file: BinaryIO, items_file: BinaryIO) -> None:
    chosen_keys: list[npt.NDArray[np.uint64]] = []
    chosen_items: list[npt.NDArray[np.int64]] = []
    for start, ids in table.blocks():
        keys = keys_of(ids)
        chosen = np.flatnonzero((keys >> np.uint64(32)) * np.uint64(parts) >> np.uint64(32) == part)
        chosen_keys.append(keys[chosen])
        chosen_items.append(chosen + start)
    keys, items = np.concatenate(chosen_keys), np.concatenate(chosen_items)
    order = np.argsort(keys, kind="stable")
    keys, items = keys[order], items[order]
    _check_unique(table, keys, items)
    keys_file.write(keys.astype(_KEY).tobytes())
    items_file.write(items.astype(_ITEM).tobytes())


def _check_unique(table: IdTable, keys: npt.NDArray[np.uint64], items: npt.NDArray[np.int64]) -> None:
    """Equal ids have equal keys, which stand side by side; few others do."""
    equal = keys[1:] == keys[:-1]
    doubtful = np.flatnonzero(np.concatenate([equal, [False]]) | np.concatenate([[False], equal]))
    seen = set()
    for string_or_number in table.take(items[doubtful]).tolist():
        if string_or_number in seen:
            raise InvalidIdsError(f"the id {string_or_number!r} is given to more than one vector: ids must be unique")
        seen.add(string_or_number)


class IdRun:
    """The run of one shard, mapped read-only. Made by `open`."""

    def __init__(self, keys: Column, items: Column, n: int) -> None:
        self._keys, self._items, self._n = keys, items, n

    @classmethod
    def open(cls, paths: Mapping[str, Path], n: int) -> Self:
        """Map the files of a run of `n` ids.

        Raises
        ------
        CorruptIndexError
            If a file is missing in `paths`, or is not what the shard needs.
        """
        for name in RUN_FILES:
            if name not in paths:
                raise CorruptIndexError(f"the manifest names no {name} for a shard of {n} items: build the index again")
        keys = Column(paths[KEYS_FILE], _KEY, n)
        try:
            return cls(keys, Column(paths[ITEMS_FILE], _ITEM, n), n)
        except BaseException:
            keys.close()
            raise

    def __len__(self) -> int:
        return self._n

    def slice(self, low: int, high: int) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
        """Keys from `low` to `high` (excluded; up to 2**64), ascending, and their item numbers."""
        keys = self._keys.array
        start = int(np.searchsorted(keys, np.uint64(low), "left"))
        stop = self._n if high >= 2**64 else int(np.searchsorted(keys, np.uint64(high), "left"))
        return keys[start:stop].astype(np.uint64), self._checked(self._items.array[start:stop])

    def find(self, keys: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The items that have one of the keys.

        Returns
        -------
        places : ndarray of int64
            Which of `keys` each found item has.
        items : ndarray of int64, same shape
        """
        run = self._keys.array
        lows, highs = np.searchsorted(run, keys, "left"), np.searchsorted(run, keys, "right")
        counts = highs - lows
        places = np.repeat(np.arange(len(keys)), counts)
        offsets = np.arange(len(places)) - np.repeat(np.cumsum(counts) - counts, counts)
        return places, self._checked(self._items.array[lows[places] + offsets])

    def check(self, table: IdTable) -> None:
        """Raise CorruptIndexError unless this is the run of the ids in `table`: each item once, by ascending keys.

        Takes a byte an item, and a block of ids.
        """
        is_seen = np.zeros(self._n, bool)
        last = np.uint64(0)
        for start, keys in self._keys.blocks(_CHECKED_AT_ONCE):
            items = self._checked(self._items.read(start, len(keys)))
            if keys[0] < last or (keys[1:] < keys[:-1]).any():
                raise CorruptIndexError(f"{self._keys.path} has a key that is smaller than the one before it")
            last = keys[-1]
            if is_seen[items].any() or len(np.unique(items)) != len(items):
                raise CorruptIndexError(f"{self._items.path} has an item twice, so another one is missing")
            is_seen[items] = True
            wrong = np.flatnonzero(keys_of(table.take(items)) != keys)
            if len(wrong):
                raise CorruptIndexError(
                    f"{self._keys.path} has another key for the item {int(items[wrong[0]])} than its id gives"
                )

    def close(self) -> None:
        """Unmap the files."""
        self._keys.close()
        self._items.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *of_error: object) -> None:
        self.close()

    def _checked(self, items: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        if len(items) and int(items.max()) >= self._n:
            raise CorruptIndexError(
                f"{self._items.path} has the item {int(items.max())}, but the shard has {self._n} items"
            )
        return items.astype(np.int64)

"""Hits: answers of one or more shards to a block of queries, and how they merge."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dask_annoy._native import larger_is_better, merge_rows

__all__ = [
    "BYTES_OF_HIT",
    "FAN_IN",
    "Hits",
    "count_methods",
    "larger_is_better",
    "merge_all",
    "merge_hits",
    "missing_distance",
]

BYTES_OF_HIT: Final = 24  # key, distance and id, if that is short
FAN_IN: Final = 8  # parts merged at a time
_SLOT_SHIFT: Final = 32  # item numbers have 31 bits


@dataclass(frozen=True)
class Hits:
    """The best hits of m queries, nearest first, padded.

    Attributes
    ----------
    keys : int64 array of shape (m, k)
        Slot and item number in one: the order among equal distances. -1 where there is no hit.
    distances : float32 array of shape (m, k)
        Infinity (-infinity for dot) where there is no hit.
    ids : array of shape (m, k)
        int64 with -1, or objects: str, and None.
    methods : mapping of str to int
        How many searches of a shard went by which method.
    """

    keys: npt.NDArray[np.int64]
    distances: npt.NDArray[np.float32]
    ids: npt.NDArray[Any]
    methods: Mapping[str, int] = field(default_factory=dict)

    @staticmethod
    def keys_of(slot: int, items: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The keys of a shard's items; -1 stays -1."""
        return np.where(items >= 0, items + (slot << _SLOT_SHIFT), -1)


def missing_distance(metric: str) -> np.float32:
    """What stands for the distance of a hit that is not there."""
    return np.float32(-np.inf if larger_is_better(metric) else np.inf)


def merge_hits(hits: Sequence[Hits], k: int, metric: str) -> Hits:
    """The best `k` of all hits for each query; ties go to the lower slot, then the lower item number."""
    keys = np.concatenate([part.keys for part in hits], axis=1)
    distances = np.concatenate([part.distances for part in hits], axis=1)
    ids = np.concatenate([part.ids for part in hits], axis=1)
    columns = merge_rows(distances, keys, k, larger_is_better(metric))
    missing = columns < 0
    picked = np.where(missing, 0, columns)
    merged_ids = _picked(ids, picked)
    merged_ids[missing] = -1 if ids.dtype.kind == "i" else None
    merged_distances = _picked(distances, picked)
    merged_distances[missing] = missing_distance(metric)
    merged_keys = _picked(keys, picked)
    merged_keys[missing] = -1
    return Hits(merged_keys, merged_distances, merged_ids, count_methods(hits))


def merge_all(hits: Iterable[Hits], k: int, metric: str) -> Hits:
    """The best `k` of at least one part's hits, which are merged as they come, so that few are held at a time."""
    level = list(_merged_groups(hits, k, metric))
    while len(level) > 1:
        level = list(_merged_groups(level, k, metric))
    return level[0]


def _merged_groups(hits: Iterable[Hits], k: int, metric: str) -> Iterator[Hits]:
    coming = iter(hits)
    while group := list(itertools.islice(coming, FAN_IN)):
        yield group[0] if len(group) == 1 else merge_hits(group, k, metric)


def count_methods(hits: Sequence[Hits]) -> Mapping[str, int]:
    """How many searches of a shard, for any of the hits, went by which method."""
    return dict(sum((Counter(part.methods) for part in hits), Counter()))


def _picked(values: npt.NDArray[Any], columns: npt.NDArray[np.int32]) -> npt.NDArray[Any]:
    if values.shape[1] == 0:  # k = 0
        return np.empty(columns.shape, values.dtype)
    return np.take_along_axis(values, columns, axis=1)

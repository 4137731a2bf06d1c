from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_annoy.shard import Hits, merge_hits, missing_distance

# The hits of one query in each shard: distances, few of them, so that ties are common.
SHARDS = st.lists(st.lists(st.integers(0, 5), max_size=6), min_size=1, max_size=5)
METRIC = st.sampled_from(["angular", "dot"])


def hits_of(shards: list[list[int]], metric: str, id_type: str = "int64") -> list[Hits]:
    """As shards answer: nearest first, items in order among equals, padded to the same k."""
    k = max(1, *map(len, shards))
    made = []
    for slot, distances in enumerate(shards):
        nearest = sorted(distances, reverse=metric == "dot")
        keys = np.full((1, k), -1)
        found = np.full((1, k), missing_distance(metric), np.float32)
        ids: Any = np.full((1, k), -1) if id_type == "int64" else np.full((1, k), None, object)
        for item, distance in enumerate(nearest):
            keys[0, item] = Hits.keys_of(slot, np.array(item))
            found[0, item] = distance
            ids[0, item] = slot * 100 + item if id_type == "int64" else f"{slot}/{item}"
        made.append(Hits(keys, found, ids))
    return made


def oracle(shards: list[list[int]], metric: str, k: int) -> list[tuple[float, int]]:
    """What numpy's sort says: (distance, id), nearest first, ties by slot and item."""
    sign = -1 if metric == "dot" else 1
    everything = [
        (sign * distance, slot, item)
        for slot, distances in enumerate(shards)
        for item, distance in enumerate(sorted(distances, reverse=metric == "dot"))
    ]
    best = [(float(sign * distance), slot * 100 + item) for distance, slot, item in sorted(everything)[:k]]
    return best + [(float(missing_distance(metric)), -1)] * (k - len(best))


def listed(hits: Hits) -> list[tuple[Any, ...]]:
    return list(zip(hits.distances[0].tolist(), hits.ids[0].tolist(), strict=True))


@given(shards=SHARDS, metric=METRIC, k=st.integers(1, 40))
def test_merging_is_sorting(shards: list[list[int]], metric: str, k: int) -> None:
    assert listed(merge_hits(hits_of(shards, metric), k, metric)) == oracle(shards, metric, k)


@given(shards=SHARDS, metric=METRIC, k=st.integers(1, 8), order=st.randoms(use_true_random=False))
def test_the_order_of_merging_does_not_matter(shards: list[list[int]], metric: str, k: int, order: Any) -> None:
    parts = hits_of(shards, metric)
    at_once = merge_hits(parts, k, metric)
    order.shuffle(parts)
    while len(parts) > 1:
        cut = order.randint(2, len(parts))
        parts = [merge_hits(parts[:cut], k, metric), *parts[cut:]]
        order.shuffle(parts)
    merged = merge_hits(parts, k, metric)
    for one, other in [
        (merged.keys, at_once.keys), (merged.distances, at_once.distances), (merged.ids, at_once.ids)
    ]:  # fmt: skip
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("metric", ["angular", "dot"])
def test_strings_pad_with_none(metric: str) -> None:
    merged = merge_hits(hits_of([[1], [2, 2]], metric, "string"), 5, metric)
    expected = ["1/0", "1/1", "0/0"] if metric == "dot" else ["0/0", "1/0", "1/1"]
    assert merged.ids.tolist() == [[*expected, None, None]]
    assert merged.distances[0, 3:].tolist() == [missing_distance(metric)] * 2


def test_no_queries_and_no_hits_keep_their_shape() -> None:
    nothing = Hits(np.empty((0, 3), np.int64), np.empty((0, 3), np.float32), np.empty((0, 3), np.int64))
    assert merge_hits([nothing, nothing], 4, "angular").ids.shape == (0, 4)
    empty = Hits(np.empty((2, 0), np.int64), np.empty((2, 0), np.float32), np.empty((2, 0), np.int64))
    merged = merge_hits([empty], 2, "dot")
    assert merged.ids.tolist() == [[-1, -1], [-1, -1]]
    assert merged.distances.tolist() == [[-np.inf] * 2] * 2


def test_keys_order_by_slot_and_then_item() -> None:
    keys = [int(Hits.keys_of(slot, np.array(item))) for slot in (0, 1, 2**20) for item in (0, 1, 2**31 - 2)]
    assert keys == sorted(set(keys))
    assert Hits.keys_of(5, np.array([-1])).tolist() == [-1]

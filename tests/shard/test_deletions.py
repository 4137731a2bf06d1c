"""Sets of deleted items: published once, joined, and not believed."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest

from dask_annoy.errors import CorruptIndexError
from dask_annoy.shard import ShardHandle, add_deletions, build_shard, open_shard, read_deletions
from dask_annoy.shard.columns import header_of
from dask_annoy.storage import DeletionEntry, IndexFolder, ShardEntry, deletion_name

from .conftest import MakeTask

ROWS = np.random.default_rng(3).normal(size=(300, 8)).astype(np.float32)


@pytest.fixture
def entry(make_task: MakeTask) -> ShardEntry:
    return build_shard(make_task(ROWS)).entry


def forged(folder: IndexFolder, entry: ShardEntry, values: Any, count: int, dtype: str = "<u4") -> ShardEntry:
    """An entry whose deletion set has any content, with a checksum that fits."""
    array = np.asarray(values, dtype)
    payload = header_of(array.dtype, len(array)) + array.tobytes()
    folder.write_bytes(deletion_name("f" * 32), payload)
    digest = hashlib.sha256(payload).hexdigest()
    deletions = DeletionEntry(uuid="f" * 32, items=count, bytes=len(payload), sha256=digest)
    return entry.model_copy(update={"deletions": deletions})


def test_sets_are_joined_in_new_files_and_the_old_ones_stay(folder: IndexFolder, entry: ShardEntry) -> None:
    first = add_deletions(folder, entry, np.array([7, 3]))
    second = add_deletions(folder, first, np.array([3, 299, 0]))
    assert read_deletions(folder, entry).tolist() == []
    assert read_deletions(folder, first).tolist() == [3, 7]
    assert read_deletions(folder, second).tolist() == [0, 3, 7, 299]
    assert add_deletions(folder, second, np.array([7])) is second
    assert len(list(folder.files("deletions"))) == 2
    assert second.live_items == 296


def test_a_search_looks_at_no_deleted_item_and_counts_none(folder: IndexFolder, entry: ShardEntry) -> None:
    handle = ShardHandle(folder, entry, "angular", 8, "int64")
    hits = open_shard(handle).search(ROWS[:1], 300, 10**6)
    nearest, items = hits.ids[0], (hits.keys[0] & 0xFFFFFFFF).astype(np.int64)
    deleted = add_deletions(folder, entry, np.sort(items[:280]))
    found = open_shard(ShardHandle(folder, deleted, "angular", 8, "int64")).search(ROWS[:1], 10, 10)
    assert found.ids[0].tolist() == nearest[280:290].tolist()
    assert open_shard(handle).search(ROWS[:1], 1, 10).ids[0].tolist() == [0]


@pytest.mark.parametrize(
    ("values", "count", "dtype", "reason"),
    [
        ([0, 300], 2, "<u4", "no ascending set of the 300 items"),
        ([5, 5], 2, "<u4", "no ascending set"),
        ([7, 3], 2, "<u4", "no ascending set"),
        ([3, 2**32 - 1], 2, "<u4", "no ascending set"),
        ([1, 2, 3], 2, "<u4", "140 bytes: 2 values"),
        ([1, 2], 4, "<i8", "header"),
    ],
)
def test_a_forged_set_is_refused_by_its_file(
    folder: IndexFolder, entry: ShardEntry, values: Any, count: int, dtype: str, reason: str
) -> None:
    wrong = forged(folder, entry, values, count, dtype)
    with pytest.raises(CorruptIndexError, match=reason) as caught:
        open_shard(ShardHandle(folder, wrong, "angular", 8, "int64"))
    assert "f" * 32 in str(caught.value)

"""Ids that two shards share: found by their runs, and by nothing else read than what both have."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dask_annoy.shard import IdTable, add_deletions, build_shard, find_shared, id_runs, id_search
from dask_annoy.storage import IndexFolder, ShardEntry

from .conftest import MakeTask

RNG = np.random.default_rng(8)


def as_type(numbers: Any, id_type: str) -> Any:
    return np.asarray(numbers) if id_type == "int64" else np.array([f"é{number}" for number in numbers], object)


def shard(make_task: MakeTask, ids: Any) -> ShardEntry:
    return build_shard(make_task(RNG.normal(size=(len(ids), 4)).astype(np.float32), ids=ids, n_trees=1)).entry


def with_ids(folder: IndexFolder, entry: ShardEntry, id_type: Any, deleted: Any) -> tuple[ShardEntry, dict[Any, int]]:
    """The shard without some items, and those that are left by their ids."""
    with id_search.ShardIds(folder, entry, id_type) as opened:
        ids = opened.table.take(np.arange(entry.items)).tolist()
    if len(deleted):
        entry = add_deletions(folder, entry, np.asarray(deleted))
    return entry, {name: item for item, name in enumerate(ids) if item not in deleted}


@pytest.mark.parametrize("id_type", ["int64", "string"])
@pytest.mark.parametrize("at_once", [1, 7, 64, 1 << 18])
@pytest.mark.parametrize("collisions", [False, True])
def test_shared_ids_are_those_that_both_shards_have_and_have_not_deleted(
    folder: IndexFolder, make_task: MakeTask, monkeypatch: Any, id_type: Any, at_once: int, collisions: bool
) -> None:
    monkeypatch.setattr(id_search, "_COMPARED_AT_ONCE", at_once)
    if collisions:
        keys_of = id_runs.keys_of
        monkeypatch.setattr(id_runs, "keys_of", lambda ids: keys_of(ids) & np.uint64(0xF000000000000000))
    left, right = RNG.permutation(400)[:90] - 100, RNG.permutation(400)[:250] - 100
    old, olds = with_ids(folder, shard(make_task, as_type(left, id_type)), id_type, [0, 5, 89])
    new, news = with_ids(folder, shard(make_task, as_type(right, id_type)), id_type, np.arange(3, 250, 9))
    found = find_shared(folder, old, new, id_type)
    expected = {(news[name], olds[name]) for name in olds.keys() & news.keys()}
    assert 10 < len(expected) == len(found)
    assert set(zip(found.places.tolist(), found.items.tolist(), strict=True)) == expected


def test_only_the_strings_that_both_shards_have_are_read(
    folder: IndexFolder, make_task: MakeTask, monkeypatch: Any
) -> None:
    old = shard(make_task, as_type(np.arange(100), "string"))
    new = shard(make_task, as_type(np.arange(93, 1000), "string"))
    decoded = []
    text = IdTable._text
    monkeypatch.setattr(IdTable, "_text", lambda *arguments: decoded.append(arguments) or text(*arguments))
    assert len(find_shared(folder, old, new, "string")) == 7
    assert len(decoded) == 2 * 7

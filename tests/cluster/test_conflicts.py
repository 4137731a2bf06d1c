"""Writers at the same time: what can be joined is, what cannot is refused, and nothing is mixed or lost."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dask_annoy_test_racers import append, claim

from dask_annoy import ShardedIndex, build_index, open_index
from dask_annoy.cluster import append as append_module
from dask_annoy.cluster import build as build_module
from dask_annoy.cluster import compact as compact_module
from dask_annoy.cluster import delete as delete_module
from dask_annoy.errors import CommitConflictError
from dask_annoy.storage import read_manifest

from .test_life import OPTIONS, by_row, holds

ROUNDS = int(os.environ.get("DASK_ANNOY_RACE_ROUNDS", 4))


def meanwhile(monkeypatch: Any, module: Any, change: Callable[[], object]) -> None:
    """Let `change` happen once, after the writer of a module has looked at the newest version."""
    commit_change = module.commit_change

    def later(*arguments: Any) -> Any:
        monkeypatch.setattr(module, "commit_change", commit_change)
        change()
        return commit_change(*arguments)

    monkeypatch.setattr(module, "commit_change", later)


@pytest.fixture
def index(rows: Any, tmp_path: Path) -> ShardedIndex:
    return build_index(rows[:500], tmp_path, ids=np.arange(500), **OPTIONS)


def test_two_appends_at_the_same_time_both_succeed(index: ShardedIndex, rows: Any, monkeypatch: Any) -> None:
    meanwhile(monkeypatch, append_module, lambda: index.append(rows[500:600], np.arange(500, 600)))
    both = index.append(rows[600:700], np.arange(600, 700))
    assert both.version == 3
    holds(both, by_row(rows[:700]))


def test_an_append_joins_a_deletion(index: ShardedIndex, rows: Any, monkeypatch: Any) -> None:
    meanwhile(monkeypatch, append_module, lambda: index.delete(np.arange(100)))
    holds(index.append(rows[500:600], np.arange(500, 600)), by_row(rows[100:600], 100))


def test_the_same_ids_appended_meanwhile_are_a_conflict_or_settled_as_asked(
    index: ShardedIndex, rows: Any, monkeypatch: Any
) -> None:
    meanwhile(monkeypatch, append_module, lambda: index.append(rows[500:600], np.arange(500, 600)))
    with pytest.raises(CommitConflictError, match=r"50 of the new ids, .* by another writer"):
        index.append(rows[700:800], np.arange(550, 650))
    holds(open_index(index.url, client=False), by_row(rows[:600]))
    meanwhile(monkeypatch, append_module, lambda: index.append(rows[600:700], np.arange(600, 700)))
    replaced = index.upsert(rows[1000:1100], np.arange(650, 750))
    holds(replaced, by_row(rows[:700]) | by_row(rows[1000:1100], 650))
    meanwhile(monkeypatch, append_module, lambda: index.append(rows[1200:1300], np.arange(1200, 1300)))
    kept = index.append(rows[1300:1400], np.arange(1250, 1350), on_duplicate="keep")
    assert len(kept) == len(replaced) + 150
    np.testing.assert_array_equal(kept.query(rows[1250:1300], k=1, search_k=10**6).ids[:, 0], np.arange(1250, 1300))


def test_row_numbers_are_not_given_twice(rows: Any, tmp_path: Path, monkeypatch: Any) -> None:
    index = build_index(rows[:500], tmp_path, **OPTIONS)
    meanwhile(monkeypatch, append_module, lambda: index.append(rows[500:600]))
    with pytest.raises(CommitConflictError, match="the row numbers from 500 on"):
        index.append(rows[600:700])
    holds(index.append(rows[600:700]), by_row(rows[:700]))


def test_two_deletions_join_also_in_one_shard(index: ShardedIndex, rows: Any, monkeypatch: Any) -> None:
    meanwhile(monkeypatch, delete_module, lambda: index.delete(np.arange(0, 200, 2)))
    holds(index.delete(np.arange(0, 200, 5)), {
        key: row for key, row in by_row(rows[:500]).items() if key >= 200 or (key % 2 and key % 5)
    })  # fmt: skip


def test_a_deletion_does_not_take_what_was_put_in_the_place_meanwhile(
    index: ShardedIndex, rows: Any, monkeypatch: Any
) -> None:
    meanwhile(monkeypatch, delete_module, lambda: index.upsert(rows[900:910], np.arange(10)))
    after = index.delete(np.arange(20))  # as if it came first: it was of the old items
    holds(after, by_row(rows[20:500], 20) | by_row(rows[900:910]))


def test_a_deletion_in_rewritten_shards_is_a_conflict(index: ShardedIndex, rows: Any, monkeypatch: Any) -> None:
    index = index.delete(np.arange(0, 500, 3))
    meanwhile(monkeypatch, delete_module, index.compact)
    with pytest.raises(CommitConflictError, match="were rewritten by another writer"):
        index.delete([1])
    assert 1 in open_index(index.url, client=False).query(rows[1:2], search_k=10**6).ids
    again = index.delete([1])
    assert 1 not in again.query(rows[1:2], search_k=10**6).ids


def test_a_compaction_keeps_what_was_appended_and_gives_way_to_a_deletion(
    index: ShardedIndex, rows: Any, monkeypatch: Any
) -> None:
    worn = index.delete(np.arange(0, 500, 3))
    expected = {key: row for key, row in by_row(rows[:500]).items() if key % 3}
    meanwhile(monkeypatch, compact_module, lambda: worn.append(rows[500:600], np.arange(500, 600)))
    expected |= by_row(rows[500:600], 500)
    compacted = worn.compact()
    assert compacted.manifest.totals.deleted == 0
    holds(compacted, expected)
    worn = compacted.delete(np.arange(1, 500, 3))
    meanwhile(monkeypatch, compact_module, lambda: worn.delete([2]))
    with pytest.raises(CommitConflictError, match="changed by another writer"):
        worn.compact()
    newest = open_index(worn.url, client=False)
    holds(newest, {key: row for key, row in expected.items() if (key % 3 == 2 and key != 2) or key >= 500})


def test_a_build_anew_is_not_taken_for_what_another_writer_made_of_the_former_one(
    index: ShardedIndex, rows: Any, monkeypatch: Any
) -> None:
    def again(overwrite: bool) -> ShardedIndex:
        return build_index(rows[:500], index.url, ids=np.arange(500), **OPTIONS, overwrite=overwrite)

    build_shards = build_module.build_shards

    def slowly(*arguments: Any, **options: Any) -> Any:
        made = build_shards(*arguments, **options)
        open_index(index.url, client=False).delete([7])
        return made

    index.delete([3])
    monkeypatch.setattr(build_module, "build_shards", slowly)
    with pytest.raises(CommitConflictError, match="version 3"):
        again(True)
    monkeypatch.undo()
    assert len(again(False)) == 498
    assert len(again(True)) == 500


def test_an_index_that_another_build_replaced_is_not_changed(index: ShardedIndex, rows: Any) -> None:
    other = build_index(rows[:300], index.url, ids=np.arange(300), **OPTIONS, overwrite=True)
    for change in (
        lambda: index.append(rows[500:510], np.arange(500, 510)),
        lambda: index.delete([1]),
        lambda: index.compact(max_deleted=0),
    ):
        with pytest.raises(CommitConflictError, match="is of another build"):
            change()
    holds(other, by_row(rows[:300]))
    with pytest.raises(CommitConflictError):
        index.rollback(1)
    holds(open_index(index.url, client=False).rollback(1), by_row(rows[:500]))


# Real processes


def race(function: Callable[..., None], url: str, writers: int, rounds: int) -> dict[int, Any]:
    context = multiprocessing.get_context("spawn")
    barrier, outcomes = context.Barrier(writers), context.Queue()
    processes = [
        context.Process(target=function, args=(url, writer, rounds, barrier, outcomes)) for writer in range(writers)
    ]
    for process in processes:
        process.start()
    try:
        found = dict(outcomes.get(timeout=120) for _ in processes)
    finally:
        for process in processes:
            process.join(10)
            process.kill()
    assert not [outcome for outcome in found.values() if isinstance(outcome, str)], found
    return found


def test_of_processes_that_append_at_the_same_time_none_loses_anything(index: ShardedIndex, rows: Any) -> None:
    found = race(append, index.url, 3, ROUNDS)
    expected = {*range(500), *(key for done in found.values() for key in done)}
    newest = open_index(index.url, client=False)
    assert newest.version == 1 + 3 * ROUNDS
    answer = newest.query(rows[:1], k=len(expected) + 1, search_k=10**8).ids[0].tolist()
    assert answer[-1] == -1
    assert sorted(answer[:-1]) == sorted(expected)
    parents = [read_manifest(newest._folder, version).parent for version in range(2, newest.version + 1)]
    assert parents == list(range(1, newest.version))


def test_of_processes_that_claim_an_id_exactly_one_gets_it(index: ShardedIndex) -> None:
    found = race(claim, index.url, 2, ROUNDS)
    assert [sum(wins) for wins in zip(*found.values(), strict=True)] == [1] * ROUNDS
    assert len(open_index(index.url, client=False)) == 500 + ROUNDS

"""Changes that are made anew because others committed first: what was written is kept, and the answers are right."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dask_annoy import ShardedIndex, build_index, open_index
from dask_annoy.cluster import append as append_module
from dask_annoy.cluster import compact as compact_module
from dask_annoy.errors import CommitConflictError
from dask_annoy.storage import IndexFolder, deletion_name, shard_folder, succession

from .test_conflicts import meanwhile
from .test_life import OPTIONS, by_row, holds

TEN_SHARDS = OPTIONS | {"shard_rows": 50}


def before_each_commit(monkeypatch: Any, changes: Sequence[Callable[[], object]]) -> None:
    """Let one more of `changes` be committed just before each attempt of another change to commit."""
    commit, left = succession.commit, list(changes)

    def later(*arguments: Any) -> Any:
        if left:
            change, rest = left[0], left[1:]
            left.clear()  # what the change itself commits is not disturbed
            change()
            left.extend(rest)
        return commit(*arguments)

    monkeypatch.setattr(succession, "commit", later)


@pytest.fixture
def written(monkeypatch: Any) -> list[str]:
    """The names of deletion sets, as they are written."""
    names: list[str] = []
    write_bytes = IndexFolder.write_bytes

    def noting(self: IndexFolder, name: str, payload: bytes) -> None:
        if name.startswith(deletion_name("0" * 32).partition("/")[0]):
            names.append(threading.current_thread().name)
        write_bytes(self, name, payload)

    monkeypatch.setattr(IndexFolder, "write_bytes", noting)
    return names


@pytest.fixture(params=["local", "memory"])
def index(request: pytest.FixtureRequest, rows: Any, tmp_path: Path) -> ShardedIndex:
    """500 items in ten shards."""
    url = str(tmp_path) if request.param == "local" else f"memory://{uuid.uuid4().hex}"
    return build_index(rows[:500], url, ids=np.arange(500), **TEN_SHARDS)


def test_a_deletion_made_anew_writes_only_the_sets_of_shards_that_were_changed_meanwhile(
    index: ShardedIndex, rows: Any, monkeypatch: Any, written: list[str]
) -> None:
    before_each_commit(monkeypatch, [
        lambda: index.delete([1]), lambda: index.delete([52, 5]),
        lambda: index.append(rows[500:520], np.arange(500, 520)),
    ])  # fmt: skip
    after = index.delete(np.arange(0, 500, 5))
    # Ten at first; then one for the first shard, and two for the first and second; and three by the others.
    assert len(written) == 10 + 1 + 2 + 3
    assert after.version == 5
    gone = {1, 52, *range(0, 500, 5)}
    holds(after, {key: row for key, row in by_row(rows[:520]).items() if key not in gone})
    assert after.verify("full").ok


def test_sets_are_written_a_few_at_a_time_where_each_is_a_request(
    rows: Any, tmp_path: Path, s3: Any, written: list[str]
) -> None:
    own_thread = threading.current_thread().name
    for url, options, is_remote in ((str(tmp_path), {}, False), (f"{s3.url}/index", s3.options, True)):
        index = build_index(rows[:500], url, ids=np.arange(500), storage_options=options, **TEN_SHARDS)
        written.clear()
        holds(index.delete(np.arange(0, 500, 5)), {key: row for key, row in by_row(rows[:500]).items() if key % 5})
        assert len(written) == 10
        assert all((name == own_thread) != is_remote for name in written)


def test_an_upsert_made_anew_writes_no_set_again(
    index: ShardedIndex, rows: Any, monkeypatch: Any, written: list[str]
) -> None:
    before_each_commit(monkeypatch, [
        lambda start=start: index.append(rows[start : start + 10], np.arange(start, start + 10))
        for start in (600, 610, 620)
    ])  # fmt: skip
    after = index.upsert(rows[1000:1100], np.arange(0, 500, 5))
    assert len(written) == 10
    assert after.version == 5
    expected = by_row(rows[:500]) | by_row(rows[600:630], 600)
    expected |= dict(zip(range(0, 500, 5), rows[1000:1100], strict=True))
    holds(after, expected)


def test_of_new_items_that_are_kept_out_those_that_others_added_meanwhile_are_too(
    index: ShardedIndex, rows: Any, monkeypatch: Any
) -> None:
    before_each_commit(monkeypatch, [
        lambda: index.append(rows[520:540], np.arange(520, 540)), lambda: index.delete([498]),
        lambda: index.append(rows[545:550], np.arange(545, 550)),
    ])  # fmt: skip
    kept = index.append(rows[1000:1060], np.arange(490, 550), on_duplicate="keep")
    others = {key: row for key, row in by_row(rows[:500]).items() if key != 498}
    others |= by_row(rows[520:540], 520) | by_row(rows[545:550], 545)
    holds(kept, by_row(rows[1000:1060], 490) | others)


# Appends that find shards of an earlier run


@pytest.mark.parametrize("on_duplicate", ["raise", "keep", "replace"])
def test_an_append_whose_finished_shards_a_rollback_brings_back_meanwhile_is_a_conflict(
    rows: Any, tmp_path: Path, monkeypatch: Any, on_duplicate: Any
) -> None:
    index = build_index(rows[:500], tmp_path, ids=np.arange(500), **OPTIONS)
    new, ids = rows[600:700], np.arange(450, 550)
    if on_duplicate == "raise":
        ids = np.arange(500, 600)
    index.append(new, ids, on_duplicate=on_duplicate).rollback(1)
    undone = open_index(tmp_path, client=False)
    meanwhile(monkeypatch, append_module, lambda: undone.rollback(2))
    with pytest.raises(CommitConflictError, match=r"have come back meanwhile with version 4 \(rollback\)"):
        undone.append(new, ids, on_duplicate=on_duplicate)
    back = open_index(tmp_path, client=False)
    assert back.version == 4
    if on_duplicate == "raise":
        return
    expected, added = by_row(rows[:500]), dict(zip(ids.tolist(), new, strict=True))
    again = back.append(new, ids, on_duplicate=on_duplicate)
    holds(again, expected | added if on_duplicate == "replace" else added | expected)
    assert again.verify("full").ok


def test_the_same_rows_appended_again_after_they_were_deleted_are_there_once(rows: Any, tmp_path: Path) -> None:
    index = build_index(rows[:300], tmp_path, ids=np.arange(300), **OPTIONS)
    new, ids = rows[300:400], np.arange(300, 400)
    all_gone = index.append(new, ids).delete(ids)
    again = all_gone.append(new, ids)
    holds(again, by_row(rows[:400]))
    assert again.manifest.totals.deleted == 100  # the shard of the first time stands beside
    assert again.verify("full").ok
    half_gone = again.delete(ids[:50])
    with pytest.raises(ValueError, match="50 of its ids"):
        half_gone.append(new, ids)
    kept = half_gone.append(new, ids, on_duplicate="keep")
    holds(kept, by_row(rows[:400]))
    assert kept.verify("full").ok
    compacted = kept.compact()
    holds(compacted, by_row(rows[:400]))
    assert compacted.manifest.totals.deleted == 0


# Compactions that only drop shards


def test_a_compaction_whose_last_other_shard_goes_meanwhile_leaves_a_version_with_a_shard(
    rows: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    index = build_index(rows[:500], tmp_path, ids=np.arange(500), **OPTIONS)
    first_empty = index.delete(np.arange(250))

    def the_rest_goes() -> None:
        assert len(first_empty.delete(np.arange(250, 500)).compact().manifest.shards) == 1

    meanwhile(monkeypatch, compact_module, the_rest_goes)
    compacted = first_empty.compact()
    assert (compacted.version, len(compacted), len(compacted.manifest.shards)) == (4, 0, 1)
    holds(compacted.append(rows[:100], np.arange(100)), by_row(rows[:100]))


def test_of_empty_shards_one_stays_if_what_else_there_was_is_given_up_meanwhile(
    rows: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    index = build_index(rows[:700], tmp_path, ids=np.arange(700), **OPTIONS | {"shard_rows": 240})
    live = index.manifest.shards[-1]
    others_empty = index.delete(np.arange(live.row_start))

    def the_rest_is_lost() -> None:
        (tmp_path / shard_folder(live.uuid) / "forest.ann").unlink()
        assert len(others_empty.repair(drop=True).index.manifest.shards) == 2

    meanwhile(monkeypatch, compact_module, the_rest_is_lost)
    compacted = others_empty.compact()
    assert [shard.uuid for shard in compacted.manifest.shards] == [index.manifest.shards[0].uuid]
    assert len(compacted) == 0

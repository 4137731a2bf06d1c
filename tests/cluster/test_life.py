"""Append, delete, upsert, compact, versions, tags, rollback: against a dictionary of what should be there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
from numpy.typing import NDArray

from dask_annoy import ShardedIndex, build_index, open_index
from dask_annoy.cluster import append as append_module
from dask_annoy.cluster import compact as compact_module
from dask_annoy.cluster import copying as copying_module
from dask_annoy.errors import (
    CommitConflictError,
    CompactionError,
    CorruptIndexError,
    IndexExistsError,
    IndexNotFoundError,
    InvalidIdsError,
    InvalidVectorsError,
    UnsupportedStorageError,
)
from dask_annoy.shard import RecallTrace

from .conftest import TREES, names_below

OPTIONS: dict[str, Any] = {"shard_rows": 250, "n_trees": TREES, "metric": "euclidean", "client": False}
EVERYTHING = 10**7  # a search budget


def holds(index: ShardedIndex, expected: dict[Any, NDArray[np.float32]]) -> None:
    """The index finds each of the expected vectors by itself, with its id, and nothing else."""
    assert len(index) == len(expected)
    assert index.info()["items"] == len(expected)
    rows = np.array(list(expected.values()))
    result = index.query(rows, k=1, search_k=EVERYTHING)
    np.testing.assert_array_equal(result.distances[:, 0], 0)
    assert result.ids[:, 0].tolist() == list(expected)
    everything = index.query(rows[:1], k=len(expected) + 5, search_k=EVERYTHING).ids[0].tolist()
    missing = -1 if index.manifest.id_type == "int64" else None
    assert set(everything[: len(expected)]) == set(expected)
    assert everything[len(expected) :] == [missing] * 5


def by_row(rows: NDArray[np.float32], start: int = 0) -> dict[Any, NDArray[np.float32]]:
    return {start + number: row for number, row in enumerate(rows)}


def names(rows: NDArray[np.float32], prefix: str) -> NDArray[Any]:
    return np.array([f"{prefix}{number}\0é" for number in range(len(rows))], object)


# Append


def test_appended_vectors_are_found_and_row_numbers_go_on(rows: Any, tmp_path: Path, client: Any) -> None:
    first = build_index(rows[:600], tmp_path, **OPTIONS | {"client": client})
    second = first.append(rows[600:900])
    third = second.append(da.from_array(rows[900:1000], chunks=(30, 16)))
    assert [index.version for index in (first, second, third)] == [1, 2, 3]
    holds(third, by_row(rows[:1000]))
    holds(first, by_row(rows[:600]))  # a snapshot stays what it was
    holds(open_index(tmp_path, version=2, client=False), by_row(rows[:900]))
    assert [shard.slot for shard in third.manifest.shards] == list(range(len(third.manifest.shards)))
    assert {shard.n_trees for shard in third.manifest.shards} == {TREES}
    assert max(shard.items for shard in third.manifest.shards) <= 250
    assert not list((tmp_path / "staging").iterdir()) or names_below(tmp_path / "staging") == set()
    assert names_below(tmp_path / "work") == set()


def test_appended_vectors_have_recall_at_the_budget_that_is_chosen(digits: Any, tmp_path: Path) -> None:
    index = build_index(digits[:900], tmp_path, metric="euclidean", shard_rows=300, client=False)
    index = index.append(digits[900:])
    assert index.manifest.tuning is not None
    assert index.manifest.tuning.recall >= 0.9
    distances = ((digits[None, :] - digits[:200, None]) ** 2).sum(axis=2)
    truth = np.argsort(distances, axis=1, kind="stable")[:, :10]
    found = index.query(digits[:200], k=10).ids
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found.tolist(), truth.tolist(), strict=True)])
    assert recall >= 0.85


def test_the_same_append_as_the_last_change_is_done_already(rows: Any, tmp_path: Path) -> None:
    index = build_index(rows[:300], tmp_path, **OPTIONS)
    once = index.append(rows[300:400])
    again = index.append(rows[300:400])
    assert (once.version, again.version) == (2, 2)
    other = again.append(rows[400:500]).append(rows[300:400])
    assert (other.version, len(other)) == (4, 600)


def test_an_append_that_was_stopped_goes_on_from_its_shards(rows: Any, tmp_path: Path, monkeypatch: Any) -> None:
    index = build_index(rows[:300], tmp_path, **OPTIONS)
    with monkeypatch.context() as patched:
        patched.setattr(append_module, "commit_change", stop)
        with pytest.raises(KeyboardInterrupt):
            index.append(rows[300:900])
    before = names_below(tmp_path / "shards")
    assert len(index.append(rows[300:900])) == 900
    assert names_below(tmp_path / "shards") == before
    assert len({name.split("/")[0] for name in before}) == 2 + 3


def stop(*arguments: Any) -> None:
    raise KeyboardInterrupt


def test_a_build_run_again_after_changes_finds_the_changed_index_and_overwrites_it_if_told(
    rows: Any, tmp_path: Path
) -> None:
    build_index(rows[:300], tmp_path, **OPTIONS).delete([5])
    again = build_index(rows[:300], tmp_path, **OPTIONS)
    assert (again.version, len(again)) == (2, 299)
    fresh = build_index(rows[:300], tmp_path, **OPTIONS, overwrite=True)
    assert (fresh.version, len(fresh)) == (3, 300)


@pytest.mark.parametrize("kind", ["int64", "string"])
def test_an_id_that_is_there_is_refused_kept_or_replaced(rows: Any, tmp_path: Path, kind: str) -> None:
    ids = np.arange(600) * 3 - 500 if kind == "int64" else names(rows[:600], "id ")
    old, new = rows[:400], rows[600:900]
    index = build_index(old, tmp_path, ids=ids[:400], **OPTIONS)
    overlapping = np.concatenate([ids[100:250], ids[400:550]])
    with pytest.raises(InvalidIdsError, match=r"150 of its ids, .* are in the index"):
        index.append(new, overlapping)
    assert open_index(tmp_path, client=False).version == 1
    before = dict(zip(ids.tolist(), old, strict=False))
    added = dict(zip(overlapping.tolist(), new, strict=True))
    kept = index.append(new, overlapping, on_duplicate="keep")
    holds(kept, added | before)
    back = kept.rollback(1)
    replaced = back.upsert(new, overlapping)
    holds(replaced, before | added)
    assert replaced.versions()[-1].operation == "upsert"
    assert replaced.manifest.totals.deleted == 150


def test_keeping_all_old_items_changes_nothing(rows: Any, tmp_path: Path) -> None:
    index = build_index(rows[:300], tmp_path, ids=np.arange(300), **OPTIONS)
    assert index.append(rows[300:400], np.arange(100), on_duplicate="keep").version == 1


def test_an_id_twice_among_the_new_is_always_refused(rows: Any, tmp_path: Path) -> None:
    index = build_index(rows[:300], tmp_path, ids=np.arange(300), **OPTIONS)
    twice = np.arange(1000, 1600)
    twice[-1] = 1000  # in another shard
    for on_duplicate in ("raise", "keep", "replace"):
        with pytest.raises(InvalidIdsError, match="1000 is given to more than one"):
            index.append(rows[300:900], twice, on_duplicate=on_duplicate)


def test_what_does_not_fit_is_not_appended(rows: Any, tmp_path: Path) -> None:
    index = build_index(rows[:300], tmp_path / "numbers", **OPTIONS)
    named = build_index(rows[:300], tmp_path / "names", ids=names(rows[:300], "x"), **OPTIONS)
    with pytest.raises(InvalidVectorsError, match="8 columns"):
        index.append(rows[:5, :8])
    with pytest.raises(InvalidIdsError, match="of type string"):
        index.append(rows[:5], names(rows[:5], "x"))
    with pytest.raises(InvalidIdsError, match="so new ones need ids"):
        named.append(rows[:5])
    with pytest.raises(ValueError, match="on_duplicate must be"):
        index.append(rows[:5], on_duplicate="merge")  # type: ignore[arg-type]
    assert open_index(tmp_path / "numbers", client=False).version == 1


# Delete


@pytest.mark.parametrize("kind", ["int64", "string"])
def test_deleted_items_are_gone_and_k_answers_still_come(rows: Any, tmp_path: Path, client: Any, kind: str) -> None:
    ids = np.arange(700) if kind == "int64" else names(rows[:700], "name ")
    index = build_index(rows[:700], tmp_path, ids=ids, **OPTIONS | {"client": client})
    query = rows[:1]
    nearest = index.query(query, k=300, search_k=EVERYTHING).ids[0]
    changed = index.delete(nearest[:290])
    # With a small budget, too: what is deleted is left out before anything is scored.
    for search_k in (1, 10, None, EVERYTHING):
        found = changed.query(query, k=10, search_k=search_k)
        assert np.isfinite(found.distances).all()
        assert not set(found.ids[0]) & set(nearest[:290])
    assert changed.query(query, k=10, search_k=EVERYTHING).ids[0].tolist() == nearest[290:].tolist()
    lazy = changed.query(da.from_array(query, chunks=(1, 16)), k=10, search_k=EVERYTHING).ids
    assert lazy.compute(scheduler="threads")[0].tolist() == nearest[290:].tolist()
    holds(changed, {key: row for key, row in zip(ids.tolist(), rows, strict=False) if key not in set(nearest[:290])})
    holds(index, dict(zip(ids.tolist(), rows[:700], strict=True)))


def test_ids_that_are_not_there_are_named_or_ignored(rows: Any, tmp_path: Path) -> None:
    index = build_index(rows[:300], tmp_path, **OPTIONS)
    with pytest.raises(InvalidIdsError, match="2 of the 3 ids to delete, 300 for one"):
        index.delete([5, 300, -1])
    changed = index.delete([5, 300, -1], missing="ignore")
    assert (changed.version, len(changed)) == (2, 299)
    with pytest.raises(InvalidIdsError, match="5 for one"):
        changed.delete([5])
    assert changed.delete([5], missing="ignore").version == 2  # nothing to change
    assert changed.delete([]).version == 2
    with pytest.raises(InvalidIdsError, match="of type string"):
        changed.delete(["5"])
    with pytest.raises(ValueError, match="missing must be"):
        changed.delete([6], missing="maybe")  # type: ignore[arg-type]


def test_everything_can_be_deleted_and_something_added(rows: Any, tmp_path: Path) -> None:
    index = build_index(rows[:300], tmp_path, **OPTIONS).delete(np.arange(300))
    assert len(index) == 0
    assert index.query(rows[:2], k=2).ids.tolist() == [[-1, -1], [-1, -1]]
    assert len(index.compact()) == 0
    holds(index.append(rows[300:400]), by_row(rows[300:400], 300))


def test_a_damaged_set_of_deletions_is_refused_by_its_name(rows: Any, tmp_path: Path) -> None:
    index = build_index(rows[:300], tmp_path, **OPTIONS).delete([1, 2, 3])
    (path,) = (tmp_path / "deletions").iterdir()
    payload = path.read_bytes()
    path.write_bytes(payload[:-1] + b"\1")
    with pytest.raises(CorruptIndexError, match=path.name):
        index.query(rows[:1])
    path.write_bytes(payload)
    assert 1 not in index.query(rows[1:2], search_k=EVERYTHING).ids


def test_shards_are_not_touched_by_a_deletion(rows: Any, tmp_path: Path) -> None:
    index = build_index(rows[:300], tmp_path, **OPTIONS)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "shards").rglob("*")}
    index.delete([7])
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "shards").rglob("*")} == before


# Compact


@pytest.mark.parametrize("metric", ["angular", "euclidean", "dot", "hamming"])
def test_compacting_keeps_every_item_and_drops_the_deleted(rows: Any, tmp_path: Path, metric: str, client: Any) -> None:
    values = np.packbits(rows > 0, axis=1) if metric == "hamming" else rows
    form = {"packed": True, "width": 16} if metric == "hamming" else {}
    options = OPTIONS | {"metric": metric, "client": client} | form
    index = build_index(values[:600], tmp_path, ids=np.arange(600) + 7, **options)
    for start in (600, 640, 680):
        index = index.append(values[start : start + 40], np.arange(start, start + 40) + 7)
    index = index.delete(np.arange(0, 200, 2) + 7)
    after = index.compact(max_deleted=0.1)
    assert after.manifest.totals.deleted == 0
    assert after.n_shards < index.n_shards
    expected = set(range(7, 727)) - set(range(7, 207, 2))
    found, expected_answers = (one.query(values[:50], k=720, search_k=EVERYTHING) for one in (after, index))
    assert set(found.ids[0][: len(expected)].tolist()) == expected
    np.testing.assert_array_equal(found.distances, expected_answers.distances)  # the vectors are the same
    assert index.query(values[:2], k=3).ids.shape == (2, 3)  # the old version stays


def test_an_index_of_full_shards_is_left_alone(rows: Any, tmp_path: Path) -> None:
    index = build_index(rows[:500], tmp_path, **OPTIONS)
    assert index.compact().version == 1
    once = index.append(rows[500:520])
    assert once.compact().version == 2  # one small shard: rewriting it gains nothing
    few = once.delete([3])
    assert few.compact().version == 3
    assert few.compact(max_deleted=0).version == 4
    with pytest.raises(ValueError, match="max_deleted must be"):
        few.compact(max_deleted=1.5)


def test_a_compaction_whose_shards_find_less_is_not_committed(rows: Any, tmp_path: Path, monkeypatch: Any) -> None:
    index = build_index(rows[:600], tmp_path, **OPTIONS).delete(np.arange(0, 600, 2))
    # As if the trees had gone wrong: what was found within a budget needs two hundred times as much.
    build = compact_module.build_shards

    def worse(*arguments: Any) -> Any:
        receipts = build(*arguments)
        for receipt in receipts:
            budgets = receipt.trace.budget_array() * 200
            trace = RecallTrace.of(receipt.trace.distance_array(), budgets)
            receipt.__dict__["trace"] = trace
        return receipts

    monkeypatch.setattr(compact_module, "build_shards", worse)
    with pytest.raises(CompactionError, match="for the same work the rewritten shards find"):
        index.compact()
    assert open_index(tmp_path, client=False).version == 2


def test_a_compaction_that_loses_an_item_is_not_committed(rows: Any, tmp_path: Path, monkeypatch: Any) -> None:
    index = build_index(rows[:600], tmp_path, **OPTIONS).delete(np.arange(0, 600, 2))
    live_ids = compact_module.ShardItemIds._read

    def wrong(self: Any, start: int, stop: int) -> Any:
        ids = live_ids(self, start, stop).copy()
        ids[ids == 301] = 100_000
        return ids

    monkeypatch.setattr(compact_module.ShardItemIds, "_read", wrong)
    with pytest.raises(CompactionError, match="or their ids differ"):
        index.compact()
    assert open_index(tmp_path, client=False).version == 2


# Versions


def test_versions_tags_and_the_way_back(rows: Any, tmp_path: Path) -> None:
    first = build_index(rows[:300], tmp_path, **OPTIONS)
    first.tag("good")
    first.tag("good")
    second = first.delete(np.arange(100))
    with pytest.raises(CommitConflictError, match=r"'good' .* names version 1"):
        second.tag("good")
    second.tag("small.1")
    assert [(one.version, one.operation, one.items, one.tags) for one in second.versions()] == [
        (1, "build", 300, ("good",)), (2, "delete", 200, ("small.1",)),
    ]  # fmt: skip
    holds(open_index(tmp_path, version="good", client=False), by_row(rows[:300]))
    with pytest.raises(CommitConflictError, match=r"version 2 .* was committed after version 1"):
        first.rollback(1)
    back = second.rollback("good")
    assert (back.version, back.versions()[-1].operation) == (3, "rollback")
    holds(back, by_row(rows[:300]))
    holds(back.append(rows[300:310]), by_row(rows[:310]))
    back.untag("good")
    for missing in ("good", "never"):
        with pytest.raises(IndexNotFoundError, match="there is no tag"):
            open_index(tmp_path, version=missing, client=False)
    for wrong in ("", "../x", "A", "1", "a/b", "a" * 65):
        with pytest.raises(ValueError, match="is not a tag"):
            back.tag(wrong)


# Elsewhere


def test_storage_without_exclusive_creation_takes_an_index_only_by_permission(rows: Any, tmp_path: Path) -> None:
    (tmp_path / "index").mkdir()
    url = f"dir::file://{tmp_path}/index"
    with pytest.raises(UnsupportedStorageError, match="allow_unsafe_publish=True"):
        build_index(rows[:300], url, **OPTIONS)
    assert names_below(tmp_path) == set()
    index = build_index(rows[:300], url, **OPTIONS, allow_unsafe_publish=True)
    holds(index.append(rows[300:400]).delete([0]), by_row(rows[1:400], 1))
    read_only = open_index(url, client=False)
    holds(read_only, by_row(rows[1:400], 1))
    with pytest.raises(UnsupportedStorageError, match="allow_unsafe_publish=True"):
        read_only.delete([1])


def test_a_copy_is_an_index_of_its_own(rows: Any, tmp_path: Path, s3: Any, client: Any) -> None:
    index = build_index(rows[:500], tmp_path, **OPTIONS | {"client": client}).delete([1, 499])
    copied = index.copy(f"{s3.url}/copy", storage_options=s3.options)
    expected = {key: row for key, row in by_row(rows[:500]).items() if key not in (1, 499)}
    holds(copied, expected)
    assert copied.version == 1
    assert copied.manifest.index_id != index.manifest.index_id
    holds(copied.delete([2]), {key: row for key, row in expected.items() if key != 2})
    holds(index, expected)
    with pytest.raises(IndexExistsError, match="holds an index already"):  # and it has changed since
        index.copy(f"{s3.url}/copy", storage_options=s3.options)


def test_a_damaged_shard_is_not_copied(rows: Any, tmp_path: Path) -> None:
    index = build_index(rows[:500], tmp_path / "index", **OPTIONS)
    forest = next((tmp_path / "index" / "shards").rglob("forest.ann"))
    payload = bytearray(forest.read_bytes())
    payload[100] ^= 1
    forest.write_bytes(payload)
    with pytest.raises(CorruptIndexError, match=r"forest\.ann"):
        index.copy(tmp_path / "copy")
    with pytest.raises(IndexNotFoundError):
        open_index(tmp_path / "copy")


def test_an_export_is_read_by_annoy_itself(rows: Any, tmp_path: Path) -> None:
    annoy = pytest.importorskip("annoy")
    import json

    index = build_index(rows[:500], tmp_path / "index", ids=np.arange(500) * 2, **OPTIONS).delete([10])
    index.export(tmp_path / "plain")
    described = json.loads((tmp_path / "plain" / "index.json").read_text())
    assert (described["metric"], described["width"], described["items"]) == ("euclidean", 16, 499)
    listed = {file["name"] for shard in described["shards"] for file in shard["files"]}
    assert listed | {"index.json"} == names_below(tmp_path / "plain")
    found: dict[int, Any] = {}
    for shard in range(len(described["shards"])):
        forest = annoy.AnnoyIndex(16, "euclidean")
        forest.load(str(tmp_path / "plain" / f"{shard:08d}.ann"))
        ids = np.load(tmp_path / "plain" / f"{shard:08d}.ids.npy", allow_pickle=False)
        gone = tmp_path / "plain" / f"{shard:08d}.deleted.npy"
        deleted = np.load(gone, allow_pickle=False).tolist() if gone.exists() else []
        found |= {int(ids[i]): forest.get_item_vector(i) for i in range(forest.get_n_items()) if i not in deleted}
    assert sorted(found) == [2 * row for row in range(500) if row != 5]
    np.testing.assert_array_equal(np.float32(found[998]), rows[499])
    with pytest.raises(IndexExistsError, match="holds an export"):
        index.export(tmp_path / "plain")


def test_an_export_goes_on_where_another_was_killed_and_holds_nothing_of_it(
    rows: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    index = build_index(rows[:500], tmp_path / "index", **OPTIONS)
    less = index.delete([1, 2])
    with monkeypatch.context() as patched:
        patched.setattr(copying_module.json, "dumps", lambda *_, **__: stop())  # just before it is whole
        with pytest.raises(KeyboardInterrupt):
            less.export(tmp_path / "plain")
    assert any("deleted" in name for name in names_below(tmp_path / "plain"))
    (tmp_path / "plain" / "notes.npy").write_text("not ours")
    index.export(tmp_path / "plain")
    assert not any("deleted" in name for name in names_below(tmp_path / "plain"))
    assert (tmp_path / "plain" / "notes.npy").exists()


def test_an_export_does_not_go_into_an_index(rows: Any, tmp_path: Path) -> None:
    index = build_index(rows[:300], tmp_path / "index", **OPTIONS)
    before = names_below(tmp_path / "index")
    with pytest.raises(IndexExistsError, match="holds an index"):
        index.export(tmp_path / "index")
    assert names_below(tmp_path / "index") == before

from __future__ import annotations

import pickle
import shutil
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dask_annoy.errors import CorruptIndexError
from dask_annoy.shard import Shard, ShardHandle, build_shard, open_shard
from dask_annoy.shard import shard as shard_module
from dask_annoy.storage import IndexFolder, configure_cache, shard_folder, shared_cache

from .conftest import MakeTask

ROWS = np.random.default_rng(5).normal(size=(400, 16)).astype(np.float32)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path) -> Iterator[None]:
    configure_cache(tmp_path / "cache", 2**30)
    yield
    configure_cache()


@pytest.fixture
def memory_folder() -> IndexFolder:
    return IndexFolder(f"memory://{uuid.uuid4().hex}")


def handle_of(task: Any) -> ShardHandle:
    return ShardHandle(task.folder, build_shard(task).entry, task.metric, task.width, task.ids.id_type)


def files_of(handle: ShardHandle) -> dict[str, Path]:
    parent = shard_folder(handle.entry.uuid)
    return {file.name: handle.folder.local_path(f"{parent}/{file.name}") for file in handle.entry.files}


def test_a_shard_answers_with_slot_item_and_id(make_task: MakeTask) -> None:
    ids = [f"row {row}" for row in range(400)]
    hits = open_shard(handle_of(make_task(ROWS, ids=ids, shard_rows=100, slot=2))).search(ROWS[200:210], 3, 10**6)
    assert hits.ids[:, 0].tolist() == [f"row {row}" for row in range(200, 210)]
    assert (hits.keys >> 32 == 2).all()
    assert (hits.keys & 0xFFFFFFFF < 100).all()
    assert len(set(hits.keys[:, 0].tolist())) == 10
    assert hits.distances[:, 0] == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("name", ["forest.ann", "ids.npy", "ids.offsets.npy", "ids.utf8.npy"])
@pytest.mark.parametrize("harm", ["bit", "cut", "grown", "swapped", "empty", "missing"])
def test_a_damaged_file_is_named_before_anything_is_searched(
    make_task: MakeTask, other_folder: IndexFolder, name: str, harm: str
) -> None:
    ids = None if name == "ids.npy" else [f"row {row}" for row in range(400)]
    handle = handle_of(make_task(ROWS, ids=ids))
    path = files_of(handle)[name if name in files_of(handle) else "forest.ann"]
    payload = bytearray(path.read_bytes())
    if harm == "bit":
        payload[len(payload) // 2] ^= 4
    elif harm == "cut":
        del payload[-16:]
    elif harm == "grown":
        payload += bytes(16)
    elif harm == "empty":
        payload.clear()
    elif harm == "swapped":  # a good file of another shard, with the same size
        other = handle_of(make_task(ROWS + 1, ids=None if ids is None else ids[::-1], into=other_folder))
        payload[:] = files_of(other)[path.name].read_bytes().ljust(len(payload), b"\0")[: len(payload)]
        if bytes(payload) == path.read_bytes():
            payload[-1] ^= 1
    path.unlink()
    if harm == "missing":
        with pytest.raises(CorruptIndexError, match=f"{path.name} is missing"):
            open_shard(handle)
        return
    path.write_bytes(payload)
    with pytest.raises(CorruptIndexError, match=path.name):
        open_shard(handle)
    with pytest.raises(CorruptIndexError, match=path.name):  # not remembered as good
        open_shard(handle)


def test_a_forged_forest_with_a_right_checksum_is_refused_too(make_task: MakeTask) -> None:
    from dask_annoy.storage import file_entry

    handle = handle_of(make_task(ROWS))
    path = files_of(handle)["forest.ann"]
    good = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(40):
        payload = bytearray(good)
        for _ in range(4):
            payload[int(rng.integers(len(good) // 2, len(good)))] = int(rng.integers(256))
        path.unlink()
        path.write_bytes(payload)
        entry = handle.entry.model_copy(update={"files": (file_entry(path), *handle.entry.files[1:])})
        forged = ShardHandle(handle.folder, entry, handle.metric, handle.width, handle.id_type)
        try:
            shard = Shard(forged)
        except CorruptIndexError as error:
            # Another forest than that of the cells, if it is a sound one.
            assert "forest.ann" in str(error) or "cells.bin" in str(error)  # noqa: PT017
            refused += 1
        else:  # the bytes of a plane, say: then it is a legal forest
            hits = shard.search(ROWS[:5], 3, 100)
            assert ((hits.ids >= -1) & (hits.ids < 400)).all()
    assert refused > 0


def test_a_manifest_that_counts_other_items_is_refused(make_task: MakeTask) -> None:
    handle = handle_of(make_task(ROWS))
    entry = handle.entry.model_copy(update={"items": 399, "row_stop": 399})
    with pytest.raises(CorruptIndexError, match=r"forest\.ann holds 400 items, but its manifest says 399"):
        Shard(ShardHandle(handle.folder, entry, handle.metric, handle.width, handle.id_type))
    entry = handle.entry.model_copy(update={"files": handle.entry.files[:1]})
    with pytest.raises(CorruptIndexError, match=r"names no ids\.npy"):
        Shard(ShardHandle(handle.folder, entry, handle.metric, handle.width, handle.id_type))


def test_a_failed_opening_holds_nothing(make_task: MakeTask, memory_folder: IndexFolder) -> None:
    handle = handle_of(make_task(ROWS, into=memory_folder))
    entry = handle.entry.model_copy(update={"items": 399, "row_stop": 399})
    with pytest.raises(CorruptIndexError):
        Shard(ShardHandle(handle.folder, entry, handle.metric, handle.width, handle.id_type))
    small = configure_cache(shared_cache().directory, 1)  # nothing that is not leased has room
    with small.lease(handle.folder, shard_folder(entry.uuid), handle.entry.files):
        assert small.stats().bytes > 0
    assert small.stats().bytes == 0
    assert open_shard(handle).search(ROWS[:1], 1, 1000).ids.tolist() == [[0]]


def test_many_threads_map_a_shard_once(make_task: MakeTask, memory_folder: IndexFolder) -> None:
    handle = handle_of(make_task(ROWS, into=memory_folder))
    barrier = threading.Barrier(12)

    def open_it(_: int) -> Shard:
        barrier.wait()
        return open_shard(pickle.loads(pickle.dumps(handle)))

    with ThreadPoolExecutor(12) as pool:
        shards = list(pool.map(open_it, range(12)))
    assert len({id(shard) for shard in shards}) == 1
    assert shared_cache().stats().downloads == 3  # the forest, its cells and the ids; the sorted run is for changes


def test_a_cache_without_room_never_takes_what_is_in_use(make_task: MakeTask, memory_folder: IndexFolder) -> None:
    handles = [
        handle_of(make_task(ROWS, shard_rows=100, slot=slot, metric="euclidean", into=memory_folder))
        for slot in range(4)
    ]
    truth = [Shard(handle).search(ROWS[:50], 5, 10**6) for handle in handles]  # not kept open
    cache = configure_cache(shared_cache().directory, handles[0].bytes + 1)
    held = open_shard(handles[0])

    def ask(number: int) -> None:
        for slot in np.random.default_rng(number).integers(0, 4, 20):
            hits = open_shard(handles[slot]).search(ROWS[:50], 5, 10**6, n_jobs=1)
            np.testing.assert_array_equal(hits.ids, truth[slot].ids)
            np.testing.assert_array_equal(hits.distances, truth[slot].distances)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(ask, range(6)))
    np.testing.assert_array_equal(held.search(ROWS[:50], 5, 10**6).ids, truth[0].ids)
    assert cache.stats().evictions > 0


def test_local_shards_take_no_room_of_the_cache(make_task: MakeTask) -> None:
    handles = [handle_of(make_task(ROWS, shard_rows=100, slot=slot)) for slot in range(3)]
    configure_cache(shared_cache().directory, 1)
    shards = [open_shard(handle) for handle in handles]
    assert [open_shard(handle) for handle in handles] == shards


def test_an_open_shard_outlives_the_file_and_the_registry(make_task: MakeTask, monkeypatch: Any) -> None:
    handle = handle_of(make_task(ROWS, metric="euclidean"))
    shard = open_shard(handle)
    monkeypatch.setattr(shard_module, "_MOST_OPEN", 1)
    open_shard(handle_of(make_task(ROWS[:50])))  # the first is let go of
    shutil.rmtree(Path(handle.folder.url, "shards"))
    assert shard.search(ROWS[:5], 1, 10**6).ids.ravel().tolist() == [0, 1, 2, 3, 4]


def test_a_handle_is_small_and_says_no_secret(make_task: MakeTask) -> None:
    handle = handle_of(make_task(ROWS))
    assert len(pickle.dumps(handle)) < 5000
    assert handle.__sizeof__() < 10_000
    secret = ShardHandle(IndexFolder("s3://bucket/x", {"secret": "hush"}), handle.entry, "angular", 16, "int64")
    assert "hush" not in repr(secret)

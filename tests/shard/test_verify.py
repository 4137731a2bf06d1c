"""A damaged shard is told from a sound one, whatever is wrong with it, and the damage is named."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_annoy.errors import CorruptIndexError
from dask_annoy.shard import (
    RecallPromise,
    ShardHandle,
    add_deletions,
    build_shard,
    check_shard,
    look_at_shard,
    open_shard,
)
from dask_annoy.storage import IndexFolder, deletion_name, file_entry, shard_folder

from .conftest import MakeTask

ROWS = np.random.default_rng(8).normal(size=(400, 12)).astype(np.float32)
NAMES = np.array([f"name {row} é" for row in range(400)], object)
_SOUND: dict[str, ShardHandle] = {}
PROMISE = RecallPromise(search_k=200, k=10, recall=0.9, n_shards=1)
FILES = {
    "int64": ["forest.ann", "cells.bin", "ids.npy", "ids.run-keys.npy", "ids.run-items.npy"],
    "string": ["ids.offsets.npy", "ids.utf8.npy", "ids.run-keys.npy"],
}


def handle_of(task: Any) -> ShardHandle:
    return ShardHandle(task.folder, build_shard(task).entry, task.metric, task.width, task.ids.id_type)


def path_of(handle: ShardHandle, name: str) -> Path:
    return handle.folder.local_path(f"{shard_folder(handle.entry.uuid)}/{name}")


def forged(handle: ShardHandle, name: str, payload: bytes) -> ShardHandle:
    """The handle of a manifest that names other bytes, with their checksum."""
    path = path_of(handle, name)
    path.unlink()
    path.write_bytes(payload)
    files = tuple(file_entry(path) if file.name == name else file for file in handle.entry.files)
    return dataclasses.replace(handle, entry=handle.entry.model_copy(update={"files": files}))


@pytest.mark.parametrize("metric", ["angular", "euclidean", "hamming", "dot"])
def test_a_sound_shard_is_sound_and_its_recall_is_measured(make_task: MakeTask, metric: str) -> None:
    rows = (ROWS > 0).astype(np.float32) if metric == "hamming" else ROWS
    handle = handle_of(make_task(rows, metric=metric, ids=NAMES))
    assert look_at_shard(handle.folder, handle.entry).ok
    found = check_shard(handle, dataclasses.replace(PROMISE, search_k=400))
    assert found.ok, found.damages
    assert found.recall == 1.0  # every item is looked at
    assert (found.items, found.deleted, found.bytes) == (400, 0, handle.entry.bytes)
    assert check_shard(handle, None).recall is None


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in FILES.items() for name in names])
@pytest.mark.parametrize("harm", ["missing", "cut", "a bit flipped"])
def test_each_damaged_file_is_named(make_task: MakeTask, kind: str, name: str, harm: str) -> None:
    handle = handle_of(make_task(ROWS, ids=NAMES if kind == "string" else None))
    open_shard(handle)  # what this process has checked before is not believed
    path = path_of(handle, name)
    payload = bytearray(path.read_bytes())
    payload[-3] ^= 16
    status = path.stat()
    path.unlink()
    if harm != "missing":
        path.write_bytes(payload[:-9] if harm == "cut" else payload)
    found = check_shard(handle, PROMISE)
    (damage,) = found.damages
    assert damage.file == f"{shard_folder(handle.entry.uuid)}/{name}"
    assert damage.kind == {"missing": "missing", "cut": "size"}.get(harm, "checksum")
    assert str(path) in damage.reason
    assert found.is_damaged
    assert not found.ok
    assert look_at_shard(handle.folder, handle.entry).ok == (harm == "a bit flipped")
    assert status.st_size == len(payload)


def test_a_bit_that_flips_without_a_new_time_is_found(make_task: MakeTask) -> None:
    handle = handle_of(make_task(ROWS))
    open_shard(handle)
    path = path_of(handle, "forest.ann")
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(500)
        byte = file.read(1)
        file.seek(500)
        file.write(bytes([byte[0] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert [damage.kind for damage in check_shard(handle, None).damages] == ["checksum"]


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), kept=st.booleans())
def test_any_flipped_bit_and_any_cut_is_found(make_task: MakeTask, place: float, bit: int, kept: bool) -> None:
    handle = _SOUND.get("handle")
    if handle is None or not path_of(handle, "forest.ann").exists():
        handle = _SOUND["handle"] = handle_of(make_task(ROWS, ids=NAMES))
    position = int(place * handle.entry.bytes)  # in all files, one after the other
    for file in handle.entry.files:
        if position < file.bytes:
            break
        position -= file.bytes
    path = path_of(handle, file.name)
    payload = path.read_bytes()
    harmed = bytearray(payload)
    harmed[position] ^= 1 << bit
    path.write_bytes(harmed if kept else payload[:position])
    found = check_shard(handle, None)
    path.write_bytes(payload)
    assert [damage.file for damage in found.damages] == [f"{shard_folder(handle.entry.uuid)}/{file.name}"]
    assert found.damages[0].kind == ("checksum" if kept else "size")


def test_two_damaged_files_are_both_named(make_task: MakeTask) -> None:
    handle = handle_of(make_task(ROWS))
    path_of(handle, "ids.npy").unlink()
    path_of(handle, "cells.bin").write_bytes(b"")
    assert [damage.kind for damage in check_shard(handle, None).damages] == ["size", "missing"]


def test_ids_and_runs_that_do_not_agree_are_found_though_their_checksums_are_right(make_task: MakeTask) -> None:
    header = 128
    handle = handle_of(make_task(ROWS))
    keys = np.frombuffer(path_of(handle, "ids.run-keys.npy").read_bytes()[header:], "<u8").copy()
    items = np.frombuffer(path_of(handle, "ids.run-items.npy").read_bytes()[header:], "<u4").copy()
    start_of_keys = path_of(handle, "ids.run-keys.npy").read_bytes()[:header]
    start_of_items = path_of(handle, "ids.run-items.npy").read_bytes()[:header]

    def reason(name: str, payload: bytes) -> str:
        wrong = forged(handle_of(make_task(ROWS)), name, payload)
        (damage,) = check_shard(wrong, None).damages
        assert damage.kind == "ids"
        return damage.reason

    swapped = keys.copy()
    swapped[[3, 4]] = keys[[4, 3]]
    assert "smaller than the one before" in reason("ids.run-keys.npy", start_of_keys + swapped.tobytes())
    twice = items.copy()
    twice[7] = items[8]
    assert "an item twice" in reason("ids.run-items.npy", start_of_items + twice.tobytes())
    other = items.copy()
    other[[0, 1]] = items[[1, 0]]
    assert "another key for the item" in reason("ids.run-items.npy", start_of_items + other.tobytes())
    beyond = items.copy()
    beyond[9] = 400
    assert "has the item 400" in reason("ids.run-items.npy", start_of_items + beyond.tobytes())


def test_a_forest_whose_nodes_are_wrong_is_found_though_its_checksum_is_right(make_task: MakeTask) -> None:
    handle = handle_of(make_task(ROWS))
    payload = path_of(handle, "forest.ann").read_bytes()
    (damage,) = check_shard(forged(handle, "forest.ann", payload[: len(payload) // 2]), None).damages
    assert damage.kind == "structure"


def test_a_file_that_the_manifest_leaves_out_is_missed(make_task: MakeTask) -> None:
    handle = handle_of(make_task(ROWS))
    files = tuple(file for file in handle.entry.files if file.name != "ids.run-keys.npy")
    handle = dataclasses.replace(handle, entry=handle.entry.model_copy(update={"files": files}))
    (damage,) = check_shard(handle, None).damages
    assert "names no ids.run-keys.npy" in damage.reason


@pytest.mark.parametrize("harm", ["missing", "a bit flipped", "cut"])
def test_a_damaged_deletion_set_is_named(make_task: MakeTask, folder: IndexFolder, harm: str) -> None:
    handle = handle_of(make_task(ROWS))
    handle = dataclasses.replace(handle, entry=add_deletions(folder, handle.entry, np.array([1, 7, 9])))
    sound = check_shard(handle, PROMISE)
    assert (sound.ok, sound.items, sound.deleted) == (True, 397, 3)
    assert handle.entry.deletions is not None
    path = folder.local_path(deletion_name(handle.entry.deletions.uuid))
    payload = path.read_bytes()
    path.unlink()
    if harm != "missing":
        path.write_bytes(payload[:-1] if harm == "cut" else payload[:-1] + b"\x01")
    for found in (
        check_shard(handle, PROMISE),
        *([] if harm == "a bit flipped" else [look_at_shard(folder, handle.entry)]),
    ):
        assert [damage.kind for damage in found.damages] == ["deletions"]
        assert found.damages[0].file == f"deletions/{path.name}"


def test_a_shard_that_does_not_find_its_own_neighbours_is_reported_but_not_called_damaged(make_task: MakeTask) -> None:
    handle = handle_of(make_task(ROWS, n_trees=1))
    found = check_shard(handle, dataclasses.replace(PROMISE, search_k=1))
    assert [damage.kind for damage in found.damages] == ["recall"]
    assert found.recall is not None
    assert found.recall < 0.54
    assert (found.ok, found.is_damaged) == (False, False)


def test_a_query_of_a_damaged_shard_says_what_to_run(make_task: MakeTask) -> None:
    handle = handle_of(make_task(ROWS))
    path_of(handle, "cells.bin").unlink()
    with pytest.raises(CorruptIndexError, match=r"cells\.bin is missing.*slot 0 \(400 items\).*verify\(\).*repair\(\)"):
        open_shard(handle)

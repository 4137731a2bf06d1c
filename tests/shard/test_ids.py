from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dask_annoy.errors import CorruptIndexError, InvalidIdsError
from dask_annoy.shard import id_runs
from dask_annoy.shard import ids as ids_module
from dask_annoy.shard.id_runs import RUN_FILES, IdRun, keys_of
from dask_annoy.shard.ids import IDS_FILE, OFFSETS_FILE, UTF8_FILE, IdTable, IdWriter, id_files, write_ids

STRINGS = ["", "a", "a\0", "\0", "a\0\0", "é", "𝄞 clef", "日本", "x" * 5000, "a b", "None", "-1"]


def strings(*values: str) -> np.ndarray[Any, Any]:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def test_integers_come_back_exactly_and_missing_ones_are_marked(tmp_path: Path) -> None:
    ids = np.array([7, -(2**63), 2**63 - 1, 0, -5])
    assert write_ids(tmp_path, ids) == [IDS_FILE, *RUN_FILES]
    with IdTable.open(tmp_path, "int64", 5) as table:
        assert len(table) == 5
        got = table.take(np.array([[4, -1, 0], [1, 2, 3]]))
    assert got.dtype == np.int64
    assert got.tolist() == [[-5, -1, 7], [-(2**63), 2**63 - 1, 0]]


def test_strings_come_back_exactly_and_missing_ones_are_none(tmp_path: Path) -> None:
    assert write_ids(tmp_path, strings(*STRINGS)) == [OFFSETS_FILE, UTF8_FILE, *RUN_FILES]
    paths = {name: tmp_path / name for name in id_files("string")}
    with IdTable.open(paths, "string", len(STRINGS)) as table:
        items = np.array([-1, *range(len(STRINGS)), -1]).reshape(2, -1)
        assert table.take(items).ravel().tolist() == [None, *STRINGS, None]
        assert table.take(np.int64(3)).item() == "\0"
        assert table.take(np.empty((0, 3), np.int64)).shape == (0, 3)


def test_files_are_what_numpy_saves(tmp_path: Path) -> None:
    write_ids(tmp_path, np.arange(1000, dtype=np.uint16))
    np.save(tmp_path / "oracle.npy", np.arange(1000, dtype="<i8"))
    assert (tmp_path / IDS_FILE).read_bytes() == (tmp_path / "oracle.npy").read_bytes()
    write_ids(tmp_path, strings("ab", "", "é"))
    assert np.load(tmp_path / OFFSETS_FILE, allow_pickle=False).tolist() == [0, 2, 2, 4]
    assert np.load(tmp_path / UTF8_FILE, allow_pickle=False).tobytes() == "abé".encode()


@settings(max_examples=25, deadline=None)
@given(
    ids=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), max_size=30, unique=True)
    | st.lists(st.integers(-(2**63), 2**63 - 1), max_size=30, unique=True),
    cuts=st.lists(st.integers(0, 30), max_size=5),
)
def test_bytes_do_not_depend_on_how_ids_were_cut_into_blocks(
    tmp_path_factory: pytest.TempPathFactory, ids: list[Any], cuts: list[int]
) -> None:
    one, other = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("other")
    array = np.array(ids, np.int64) if ids and isinstance(ids[0], int) else strings(*ids)
    names = write_ids(one, array)
    with IdWriter(other, "int64" if array.dtype.kind == "i" else "string") as writer:
        bounds = sorted({0, *(min(cut, len(ids)) for cut in cuts), len(ids)})
        for start, stop in pairwise(bounds):
            writer.append(array[start:stop])
        assert writer.close() == names
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes()
    with IdTable.open(one, writer._id_type, len(ids)) as table:
        assert table.take(np.arange(len(ids))).tolist() == ids


def test_a_shard_without_ids_or_bytes_can_be_written(tmp_path: Path) -> None:
    write_ids(tmp_path, strings(""))
    with IdTable.open(tmp_path, "string", 1) as table:
        assert table.take(np.array([0])).tolist() == [""]
    write_ids(tmp_path, np.empty(0, np.int64))
    with IdTable.open(tmp_path, "int64", 0) as table:
        assert table.take(np.array([-1])).tolist() == [-1]


@pytest.mark.parametrize("block", [4, 1 << 20])
@pytest.mark.parametrize(
    ("ids", "named"),
    [
        (np.array([3, 1, 2, 9, 8, 7, 6, 1]), "1"),
        (strings("x", "y", "", "z", "q", ""), "''"),
        (strings("a", "a\0", "b", "a\0"), r"'a\\x00'"),
    ],
)
def test_a_repeated_id_is_named_and_leaves_no_files(
    tmp_path: Path, ids: np.ndarray[Any, Any], named: str, block: int, monkeypatch: Any
) -> None:
    monkeypatch.setattr(ids_module, "_BLOCK", block)
    with pytest.raises(InvalidIdsError, match=f"the id {named} is given to more than one"):
        write_ids(tmp_path, ids)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("id_type", ["int64", "string"])
def test_every_id_is_found_by_its_key_however_many_passes_sorted_them(
    tmp_path: Path, id_type: ids_module.IdType, monkeypatch: Any
) -> None:
    monkeypatch.setattr(ids_module, "_BLOCK", 16)
    monkeypatch.setattr(id_runs, "_SORTED_AT_ONCE", 100)
    numbers = np.random.default_rng(0).permutation(3000)
    ids = numbers if id_type == "int64" else strings(*map(str, numbers))
    names = write_ids(tmp_path, ids)
    with IdRun.open({name: tmp_path / name for name in names}, 3000) as run:
        places, items = run.find(keys_of(ids))
        assert places.tolist() == list(range(3000))
        assert items.tolist() == list(range(3000))
        unknown = keys_of(np.array([-1]) if id_type == "int64" else strings("-1"))
        assert run.find(unknown)[0].tolist() == []
        slices = [run.slice(low * 2**60, (low + 1) * 2**60) for low in range(16)]
    keys = np.concatenate([keys for keys, _ in slices])
    assert (keys[1:] > keys[:-1]).all()
    assert min(len(part) for part, _ in slices) > 100  # keys spread evenly
    np.testing.assert_array_equal(keys_of(ids)[np.concatenate([items for _, items in slices])], keys)


def test_strings_of_equal_hash_are_compared_themselves(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(id_runs, "keys_of", lambda ids: np.zeros(len(ids), np.uint64))
    write_ids(tmp_path, strings("a", "b", "c"))
    with IdRun.open({name: tmp_path / name for name in RUN_FILES}, 3) as run:
        places, items = run.find(np.zeros(2, np.uint64))
    assert (places.tolist(), items.tolist()) == ([0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2])
    with pytest.raises(InvalidIdsError, match="'b'"):
        write_ids(tmp_path, strings("a", "b", "c", "b"))


def test_a_run_that_names_items_outside_of_the_shard_is_refused(tmp_path: Path) -> None:
    write_ids(tmp_path, np.arange(3))
    np.save(tmp_path / "ids.run-items.npy", np.array([0, 1, 3], "<u4"))
    paths = {name: tmp_path / name for name in RUN_FILES}
    with IdRun.open(paths, 3) as run, pytest.raises(CorruptIndexError, match="has the item 3"):
        run.find(keys_of(np.arange(3)))
    with pytest.raises(CorruptIndexError, match=r"names no ids\.run-items"):
        IdRun.open({"ids.run-keys.npy": paths["ids.run-keys.npy"]}, 3)
    with pytest.raises(CorruptIndexError, match="bytes"):
        IdRun.open(paths, 4)


@pytest.mark.parametrize(
    "ids",
    [
        np.array([1.0]), np.array([True]), np.array([b"a"]), strings("a", "\ud800"), np.array([2**63],
        np.uint64),
        np.array([[1]]), np.array(["2020-01-01"], "M8[D]"), np.array(["a", None, 3], object),
    ],
)  # fmt: skip
def test_other_types_of_ids_are_refused(tmp_path: Path, ids: np.ndarray[Any, Any]) -> None:
    with pytest.raises(InvalidIdsError):
        write_ids(tmp_path, ids)
    assert list(tmp_path.iterdir()) == []


def test_items_outside_of_the_shard_are_refused(tmp_path: Path) -> None:
    write_ids(tmp_path, np.arange(3))
    table = IdTable.open(tmp_path, "int64", 3)
    for wrong in (3, -2, 2**62):
        with pytest.raises(IndexError, match="outside of 0 to 2"):
            table.take(np.array([0, wrong]))
    table.close()
    table.close()
    with pytest.raises(ValueError, match="closed"):
        table.take(np.array([0]))


@pytest.mark.parametrize("id_type", ["int64", "string"])
def test_an_id_file_cut_or_changed_anywhere_in_its_head_is_refused(tmp_path: Path, id_type: ids_module.IdType) -> None:
    write_ids(tmp_path, np.arange(9) if id_type == "int64" else strings(*"abcdefghi"))
    for name in id_files(id_type):
        path = tmp_path / name
        whole = path.read_bytes()
        damaged = [whole[:length] for length in range(len(whole))] + [whole + b"\0"]
        damaged += [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(128)]
        for payload in damaged:
            path.write_bytes(payload)
            with pytest.raises(CorruptIndexError, match=name):
                IdTable.open(tmp_path, id_type, 9)
        path.write_bytes(whole)
    for wrong in (0, 8, 10):
        with pytest.raises(CorruptIndexError):
            IdTable.open(tmp_path, id_type, wrong)


@pytest.mark.parametrize("offsets", [[0, 2, 1, 3], [1, 1, 2, 3], [0, 1, 2, 2**62], [0, -1, 2, 3], [0, 1, 2, 4]])
@pytest.mark.parametrize("block", [2, 1 << 20])
def test_offsets_that_do_not_fit_the_bytes_are_refused(
    tmp_path: Path, offsets: list[int], block: int, monkeypatch: Any
) -> None:
    monkeypatch.setattr(ids_module, "_BLOCK", block)
    write_ids(tmp_path, strings("a", "b", "c"))
    np.save(tmp_path / OFFSETS_FILE, np.array(offsets, "<i8"))
    with pytest.raises(CorruptIndexError, match=r"ids\.(offsets|utf8)\.npy"):
        IdTable.open(tmp_path, "string", 3)


def test_bytes_that_are_not_utf8_are_refused_by_file_and_item(tmp_path: Path) -> None:
    write_ids(tmp_path, strings("a", "é", "c"))
    np.save(tmp_path / OFFSETS_FILE, np.array([0, 1, 2, 4], "<i8"))  # cuts a letter in two
    with IdTable.open(tmp_path, "string", 3) as table:
        assert table.take(np.array([0])).tolist() == ["a"]
        with pytest.raises(CorruptIndexError, match=r"ids\.utf8\.npy does not hold UTF-8 for item 1"):
            table.take(np.array([0, 1]))


def test_leaving_a_writer_unfinished_removes_its_files(tmp_path: Path) -> None:
    with IdWriter(tmp_path, "string") as writer:
        writer.append(strings("a"))
    assert list(tmp_path.iterdir()) == []

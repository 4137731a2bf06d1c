"""What holds for every source, whatever its format."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import uuid
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from dask_annoy.errors import InvalidVectorsError
from dask_annoy.vectors import (
    ArraySource,
    BinSource,
    ConcatSource,
    NpySource,
    ParquetSource,
    RowSource,
    ZarrSource,
    open_source,
)

TABLE = np.random.default_rng(3).normal(size=(61, 5)).astype(np.float32)


def write_npy(folder: str, table: np.ndarray = TABLE) -> RowSource:
    with fsspec.open(f"{folder}/x.npy", "wb") as file:
        np.save(file, table)
    return NpySource(f"{folder}/x.npy")


def write_fortran_npy(folder: str, table: np.ndarray = TABLE) -> RowSource:
    return write_npy(folder, np.asfortranarray(table))


def write_fbin(folder: str, table: np.ndarray = TABLE) -> RowSource:
    with fsspec.open(f"{folder}/x.fbin", "wb") as file:
        file.write(np.array(table.shape, "<u4").tobytes() + table.tobytes())
    return BinSource(f"{folder}/x.fbin")


def write_parquet(folder: str, table: np.ndarray = TABLE) -> RowSource:
    third = len(table) // 3
    for number, part in enumerate((table[:third], table[third:])):
        column = pa.FixedSizeListArray.from_arrays(pa.array(part.ravel()), part.shape[1])
        with fsspec.open(f"{folder}/x/part.{number}.parquet", "wb") as file:
            pq.write_table(pa.table({"v": column}), file, row_group_size=16)
    return ParquetSource(f"{folder}/x")


def write_lists(folder: str, table: np.ndarray = TABLE) -> RowSource:
    with fsspec.open(f"{folder}/lists.parquet", "wb") as file:
        pq.write_table(pa.table({"v": list(table)}), file, row_group_size=25)
    return ParquetSource(f"{folder}/lists.parquet", "v")


def write_zarr(folder: str, table: np.ndarray = TABLE) -> RowSource:
    array = zarr.create_array(f"{folder}/x.zarr", shape=table.shape, chunks=(8, 3), dtype=table.dtype)
    array[:] = table
    return ZarrSource(f"{folder}/x.zarr")


def hold_array(folder: str, table: np.ndarray = TABLE) -> RowSource:
    return ArraySource(table)


def concat(folder: str, table: np.ndarray = TABLE) -> RowSource:
    return ConcatSource((ArraySource(table[:7]), write_npy(folder, table[7:7]), write_fbin(folder, table[7:])))


WRITERS = [
    hold_array,
    write_npy,
    write_fortran_npy,
    write_fbin,
    write_parquet,
    write_lists,
    write_zarr,
    concat,
]


@pytest.fixture(scope="module", params=["disk", "memory"])
def folder(request, tmp_path_factory) -> str:
    if request.param == "disk":
        return str(tmp_path_factory.mktemp("vectors"))
    return f"memory://{uuid.uuid4().hex}"


@pytest.fixture(scope="module", params=WRITERS, ids=lambda writer: writer.__name__)
def source(request, folder: str) -> RowSource:
    own = f"{folder}/{request.param.__name__}"
    fsspec.url_to_fs(own)[0].makedirs(own, exist_ok=True)
    return request.param(own)


bounds = st.tuples(st.integers(0, len(TABLE)), st.integers(0, len(TABLE))).map(sorted)


@settings(max_examples=30, deadline=None)
@given(bounds=bounds, max_bytes=st.integers(1, 3000))
def test_blocks_put_together_are_the_rows(source, bounds, max_bytes):
    start, stop = bounds
    next_row = start
    for first, rows in source.blocks(start, stop, max_bytes=max_bytes):
        assert first == next_row
        assert rows.shape[1] == source.width
        assert rows.dtype == source.dtype
        np.testing.assert_array_equal(rows, TABLE[first : first + len(rows)])
        next_row += len(rows)
    assert next_row == stop


@settings(max_examples=20, deadline=None)
@given(max_bytes=st.integers(1, 3000))
def test_a_block_has_at_least_one_row_and_at_most_max_bytes(source, max_bytes):
    for _, rows in source.blocks(max_bytes=max_bytes):
        assert len(rows) == 1 or 1 < len(rows) <= max_bytes // source.row_bytes


@settings(max_examples=20, deadline=None)
@given(rows=st.sets(st.integers(0, len(TABLE) - 1)).map(sorted))
def test_take_is_indexing(source, rows):
    taken = source.take(np.array(rows, int))
    assert taken.dtype == source.dtype
    np.testing.assert_array_equal(taken, TABLE[rows])


def test_a_source_says_its_shape_and_type(source):
    assert (source.n_rows, source.width, source.dtype) == (61, 5, np.float32)
    assert source.name in repr(source)


def test_a_source_survives_pickling(source):
    copy = pickle.loads(pickle.dumps(source))
    assert copy.identity() == source.identity()
    np.testing.assert_array_equal(copy.take(np.arange(61)), TABLE)


def test_a_source_of_files_is_small_when_pickled(source):
    if not isinstance(source, (ArraySource, ConcatSource)):
        assert len(pickle.dumps(source)) < 2000


def test_an_identity_is_plain_json(source):
    identity = source.identity()
    assert json.loads(json.dumps(identity)) == identity
    assert all(isinstance(value, (str, int)) for value in identity.values())


@pytest.mark.parametrize("rows", [[3, 2], [2, 2], [-1], [61], [0.5], [[1]]])
def test_take_refuses_row_numbers_that_are_no_increasing_rows(source, rows):
    with pytest.raises(ValueError, match="row numbers"):
        source.take(np.array(rows))


@pytest.mark.parametrize(("start", "stop"), [(-1, 3), (4, 3), (0, 62)])
def test_blocks_refuse_a_range_outside_the_rows_at_once(source, start, stop):
    with pytest.raises(ValueError, match="there are 61"):
        source.blocks(start, stop, max_bytes=100)


def test_a_bound_of_no_bytes_is_refused(source):
    with pytest.raises(ValueError, match="max_bytes"):
        source.blocks(max_bytes=0)


def test_rows_can_be_read_by_two_readers_in_turn(source):
    readers = [source.blocks(max_bytes=300), source.blocks(max_bytes=300)]
    for (_, left), (_, right) in zip(*readers, strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.__name__)
@pytest.mark.parametrize("where", ["disk", "memory"])
def test_an_identity_changes_with_the_data(writer, where, tmp_path, memory_url):
    folder = str(tmp_path) if where == "disk" else memory_url
    before = writer(folder).identity()
    other = TABLE.copy()
    other[30, 2] += 1
    if writer is write_zarr:
        zarr.open_array(f"{folder}/x.zarr", mode="r+")[:] = other
        assert ZarrSource(f"{folder}/x.zarr").identity() != before
    else:
        assert writer(folder, other).identity() != before


@pytest.mark.parametrize("writer", [write_npy, write_fbin, write_parquet, write_lists, write_zarr, hold_array])
def test_an_identity_is_the_same_in_another_interpreter(writer, tmp_path):
    source = writer(str(tmp_path))
    code = (
        "import pickle, sys, json; print(json.dumps(pickle.loads(sys.stdin.buffer.read()).identity(), sort_keys=True))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps(source),
        capture_output=True,
        check=True,
        env=os.environ | {"PYTHONPATH": ":".join(p for p in sys.path if p), "PYTHONHASHSEED": "99"},
    )
    assert json.loads(answer.stdout) == source.identity()


@pytest.mark.parametrize("writer", [write_npy, write_fbin, write_parquet])
@pytest.mark.parametrize("where", ["disk", "memory"])
def test_a_file_that_changed_after_it_was_opened_is_not_read(writer, where, tmp_path, memory_url):
    folder = str(tmp_path) if where == "disk" else memory_url
    source = writer(folder)
    writer(folder, TABLE + 1)
    with pytest.raises(InvalidVectorsError, match="has changed"):
        list(source.blocks(max_bytes=1000))
    with pytest.raises(InvalidVectorsError, match="has changed"):
        source.take(np.array([1]))


@pytest.mark.parametrize("writer", [hold_array, write_npy, write_fbin, write_parquet, write_zarr])
def test_no_rows_are_legal(writer, tmp_path):
    source = writer(str(tmp_path), TABLE[:0])
    assert (source.n_rows, source.width) == (0, 5)
    assert list(source.blocks(max_bytes=100)) == []
    assert source.take(np.array([], int)).shape == (0, 5)


def test_a_source_opens_as_itself(source):
    assert open_source(source) is source


def test_the_layer_imports_neither_dask_nor_an_optional_package():
    code = (
        "import sys, types; package = types.ModuleType('dask_annoy'); "
        f"package.__path__ = [{str(Path(sys.modules['dask_annoy'].__file__).parent)!r}]; "
        "sys.modules['dask_annoy'] = package; import dask_annoy.vectors; "
        "print(sorted({m.split('.')[0] for m in sys.modules} "
        "& {'dask', 'distributed', 'zarr', 'pyarrow', 's3fs', 'pandas'}))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=True,
        text=True,
        env={"PYTHONPATH": ":".join(p for p in sys.path if p)},
    )
    assert answer.stdout.strip() == "[]"

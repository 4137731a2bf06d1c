from __future__ import annotations

import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dask_annoy.errors import InvalidVectorsError, MissingExtraError
from dask_annoy.vectors import ParquetSource


def fixed(table: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(table.ravel()), table.shape[1])


def write(path, columns, **options) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, **options)
    return str(path)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "u1", "i4", "u8", "?"])
@pytest.mark.parametrize("kind", [pa.list_, pa.large_list, "fixed"])
def test_all_lists_of_numbers_are_read(tmp_path, dtype, kind):
    table = np.arange(12).reshape(4, 3).astype(dtype)
    value = pa.from_numpy_dtype(table.dtype)
    column = pa.array(list(table), pa.list_(value, 3) if kind == "fixed" else kind(value))
    source = ParquetSource(write(tmp_path / "x.parquet", {"v": column}))
    assert (source.width, source.dtype) == (3, table.dtype)
    np.testing.assert_array_equal(source.take(np.arange(4)), table)


def test_the_only_column_of_lists_need_not_be_named(tmp_path):
    path = write(tmp_path / "x.parquet", {"id": [1, 2], "text": ["a", "b"], "v": [[1.0], [2.0]]})
    assert ParquetSource(path).column == "v"


def test_candidates_are_named_when_there_are_several(tmp_path):
    path = write(tmp_path / "x.parquet", {"a": [[1.0]], "b": [[2.0]], "c": [["x"]]})
    with pytest.raises(InvalidVectorsError, match=r"column=…\); a, b hold lists of numbers"):
        ParquetSource(path)


def test_a_missing_column_is_answered_with_the_columns(tmp_path):
    path = write(tmp_path / "x.parquet", {"a": [[1.0]], "n": [2]})
    with pytest.raises(InvalidVectorsError, match="no column 'v'; its columns are a, n"):
        ParquetSource(path, "v")
    with pytest.raises(InvalidVectorsError, match="'n' holds int64, not lists"):
        ParquetSource(path, "n")


def test_a_file_without_lists_is_refused(tmp_path):
    with pytest.raises(InvalidVectorsError, match="no column holds lists of numbers"):
        ParquetSource(write(tmp_path / "x.parquet", {"n": [2]}))


@pytest.mark.parametrize(
    ("bad", "words"),
    [([1.0], "has 1 values, the others have 2"), (None, "is null"), ([1.0, None], "holds a null")],
)
@pytest.mark.parametrize("max_bytes", [1, 1000, 1 << 20])
def test_the_first_bad_row_is_named_with_its_file(tmp_path, bad, words, max_bytes):
    good = [1.0, 2.0]
    write(tmp_path / "x" / "a.parquet", {"v": [good] * 10})
    write(tmp_path / "x" / "b.parquet", {"v": [*[good] * 7, bad, good, None, [1.0]]}, row_group_size=4)
    source = ParquetSource(tmp_path / "x")
    with pytest.raises(InvalidVectorsError, match=rf"b\.parquet: row 17 of column 'v' {words}"):
        list(source.blocks(max_bytes=max_bytes))
    with pytest.raises(InvalidVectorsError, match="row 17"):
        source.take(np.array([12, 17]))


@pytest.mark.parametrize(("bad", "words"), [(None, "is null"), ([1.0, None], "holds a null")])
def test_bad_rows_of_lists_of_a_fixed_size_are_named(tmp_path, bad, words):
    column = pa.array([[1.0, 2.0], [1.0, 2.0], bad, None], pa.list_(pa.float32(), 2))
    source = ParquetSource(write(tmp_path / "x.parquet", {"v": column}))
    with pytest.raises(InvalidVectorsError, match=f"row 2 of column 'v' {words}"):
        list(source.blocks(1, max_bytes=1000))


def test_a_first_row_that_is_null_is_named(tmp_path):
    path = write(tmp_path / "x.parquet", {"v": [None, [1.0]]})
    with pytest.raises(InvalidVectorsError, match=r"row 0 .*is null"):
        ParquetSource(path)


def test_lists_of_unknown_length_need_a_row(tmp_path):
    path = write(tmp_path / "x.parquet", {"v": pa.array([], pa.list_(pa.float32()))})
    with pytest.raises(InvalidVectorsError, match="has no rows"):
        ParquetSource(path)


def test_files_of_a_folder_come_in_the_order_of_their_numbers(tmp_path):
    for number in (10, 2, 0):
        write(tmp_path / f"part.{number}.parquet", {"v": [[float(number)]]})
    write(tmp_path / "_metadata.parquet", {"v": [[99.0]]})
    (tmp_path / "notes.txt").write_text("no data")
    assert ParquetSource(tmp_path).take(np.arange(3)).ravel().tolist() == [0, 2, 10]
    assert ParquetSource(tmp_path / "part.*.parquet").take(np.arange(3)).ravel().tolist() == [0, 2, 10]


def test_a_list_of_files_keeps_its_order(tmp_path):
    paths = [write(tmp_path / f"{number}.parquet", {"v": [[float(number)]]}) for number in (3, 1)]
    assert ParquetSource(paths).take(np.arange(2)).ravel().tolist() == [3, 1]


def test_a_folder_in_a_relative_path_is_found(tmp_path, monkeypatch):
    write(tmp_path / "data" / "x=1" / "a.parquet", {"v": [[1.0]]})
    monkeypatch.chdir(tmp_path)
    assert ParquetSource("data").n_rows == ParquetSource("data/*/*.parquet").n_rows == 1


def test_a_folder_without_parquet_files_is_refused(tmp_path):
    with pytest.raises(InvalidVectorsError, match="no Parquet files"):
        ParquetSource(tmp_path)


def test_files_must_agree_on_the_type(tmp_path):
    write(tmp_path / "a.parquet", {"v": fixed(np.zeros((2, 3), "f4"))})
    write(tmp_path / "b.parquet", {"v": fixed(np.zeros((2, 4), "f4"))})
    with pytest.raises(InvalidVectorsError, match=r"b\.parquet.*lists of 4 float32.*lists of 3 float32"):
        ParquetSource(tmp_path)


def test_a_damaged_file_is_refused_by_name(tmp_path):
    path = tmp_path / "x.parquet"
    write(path, {"v": fixed(np.random.default_rng(0).normal(size=(1000, 8)))}, write_page_checksum=True)
    data = bytearray(path.read_bytes())
    path.write_bytes(data[:-30])
    with pytest.raises(InvalidVectorsError, match=r"x\.parquet cannot be read as Parquet"):
        ParquetSource(path)
    data[3000] ^= 1
    path.write_bytes(data)
    with pytest.raises(InvalidVectorsError, match=r"x\.parquet cannot be read as Parquet"):
        list(ParquetSource(path).blocks(max_bytes=10_000))


@pytest.mark.parametrize("kind", ["fixed", "lists"])
def test_memory_does_not_depend_on_the_size_of_row_groups(tmp_path, rng, kind):
    table = rng.normal(size=(60_000, 64)).astype(np.float32)  # 15 MB in one row group
    column = fixed(table) if kind == "fixed" else fixed(table).cast(pa.list_(pa.float32()))
    path = write(tmp_path / "x.parquet", {"v": column}, row_group_size=1 << 20, data_page_size=1 << 16,
                 use_dictionary=False)  # fmt: skip
    source = ParquetSource(path)
    max_bytes = 3 << 20
    before = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(before)
    pa.set_memory_pool(pool)
    try:
        n_rows = 0
        for _, rows in source.blocks(20_000, max_bytes=max_bytes):
            n_rows += len(rows)
            del rows
    finally:
        pa.set_memory_pool(before)
    assert n_rows == 40_000
    assert pool.max_memory() <= max_bytes


def test_take_reads_only_row_groups_that_hold_the_rows(memory_url, bytes_read, rng, tmp_path):
    import fsspec

    table = rng.normal(size=(20_000, 16)).astype(np.float32)
    path = write(tmp_path / "x.parquet", {"v": fixed(table)}, row_group_size=1000)
    data = (tmp_path / "x.parquet").read_bytes()
    fsspec.filesystem("memory").pipe_file(f"{memory_url}/x.parquet", data)
    source = ParquetSource(f"{memory_url}/x.parquet")
    bytes_read.clear()
    rows = np.array([1500, 1501, 19_999])
    np.testing.assert_array_equal(source.take(rows), table[rows])
    assert sum(bytes_read) < len(data) / 4
    assert path


def test_pyarrow_is_asked_for_by_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"dask-annoy\[parquet\]"):
        ParquetSource(tmp_path)

from __future__ import annotations

import io

import fsspec
import numpy as np
import pytest

from dask_annoy.errors import InvalidVectorsError
from dask_annoy.vectors import NpySource


def save(path, array, version=None) -> str:
    with path.open("wb") as file:
        np.lib.format.write_array(file, array, version=version)
    return str(path)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_all_versions_of_the_format_are_read(tmp_path, version):
    table = np.arange(12.0).reshape(4, 3)
    source = NpySource(save(tmp_path / "x.npy", table, version))
    np.testing.assert_array_equal(source.take(np.arange(4)), table)


@pytest.mark.parametrize("dtype", ["?", "i1", "u1", "<i4", ">i8", "<u8", "<f2", ">f2", ">f4", "<f8", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_all_numbers_of_both_byte_orders_are_read_as_stored(tmp_path, dtype, order):
    table = np.array([[0, 1, 2], [3, 4, 5]]).astype(dtype, order=order)
    source = NpySource(save(tmp_path / "x.npy", table))
    assert source.dtype == np.dtype(dtype)
    ((first, rows),) = source.blocks(max_bytes=1 << 20)
    assert first == 0
    assert rows.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(rows, table)


def test_a_cut_npy_file_is_refused_with_both_sizes(tmp_path):
    path = tmp_path / "x.npy"
    save(path, np.zeros((10, 4), np.float32))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InvalidVectorsError, match=r"x\.npy is cut: .* needs 288 bytes, the file has 268"):
        NpySource(path)


def test_an_npy_file_with_bytes_behind_its_values_is_refused(tmp_path):
    path = tmp_path / "x.npy"
    save(path, np.zeros((10, 4), np.float32))
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(InvalidVectorsError, match=r"too long: .* needs 288 bytes, the file has 292"):
        NpySource(path)


@pytest.mark.parametrize("length", [0, 5, 8, 11, 60, 127])
def test_a_file_cut_within_its_header_is_refused(tmp_path, length):
    path = tmp_path / "x.npy"
    save(path, np.zeros((10, 4), np.float32))
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(InvalidVectorsError, match=r"x\.npy"):
        NpySource(path)


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 4), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (10**9, 4), }",
        "{'descr': '<f4', 'fortran_order': False}",
        "{'descr': 'no type', 'fortran_order': False, 'shape': (1, 4), }",
        "((((((((",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999999, 99999999999), }",
    ],
)
def test_a_forged_header_is_refused_by_name(tmp_path, header):
    text = header.encode().ljust(118 - 10) + b"\n"
    path = tmp_path / "forged.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(16))
    with pytest.raises(InvalidVectorsError, match=r"forged\.npy"):
        NpySource(path)


def test_pickled_objects_are_never_loaded(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.array([[{}]]), allow_pickle=True)
    with pytest.raises(InvalidVectorsError, match="pickled objects"):
        NpySource(path)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros(3), "x\\[None, :\\]"),
        (np.zeros((2, 2, 2)), "reshape"),
        (np.zeros((3, 0)), "without columns"),
        (np.zeros((2, 2), complex), "complex"),
        (np.array([["a"]]), "strings"),
        (np.zeros((2, 2), "f4,f4"), "records"),
        (np.float64(1.0), "reshape"),
    ],
)
def test_what_is_no_table_of_numbers_is_refused_with_a_hint(tmp_path, array, words):
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(InvalidVectorsError, match=words):
        NpySource(tmp_path / "x.npy")


def test_a_missing_file_is_a_file_not_found_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.npy"):
        NpySource(tmp_path / "none.npy")


def test_a_folder_is_no_npy_file(tmp_path):
    (tmp_path / "x.npy").mkdir()
    with pytest.raises(InvalidVectorsError, match="is a folder"):
        NpySource(tmp_path / "x.npy")


def put(url: str, table: np.ndarray) -> NpySource:
    buffer = io.BytesIO()
    np.save(buffer, table)
    fsspec.filesystem("memory").pipe_file(url, buffer.getvalue())
    return NpySource(url)


def test_take_from_afar_reads_the_rows_and_little_else(memory_url, bytes_read, rng):
    table = rng.normal(size=(100_000, 16)).astype(np.float32)
    source = put(f"{memory_url}/x.npy", table)
    rows = np.arange(500, 100_000, 9_999)
    bytes_read.clear()
    np.testing.assert_array_equal(source.take(rows), table[rows])
    assert sum(bytes_read) == len(rows) * source.row_bytes


def test_take_joins_rows_that_are_near_each_other(memory_url, bytes_read, rng):
    table = rng.normal(size=(10_000, 16)).astype(np.float32)
    source = put(f"{memory_url}/x.npy", table)
    bytes_read.clear()
    np.testing.assert_array_equal(source.take(np.arange(0, 10_000, 3)), table[::3])
    assert len(bytes_read) == 1


@pytest.mark.parametrize("where", ["disk", "memory"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_reading_blocks_allocates_no_more_than_the_bound(tmp_path, memory_url, where, order, rng, peak_memory):
    table = np.asarray(rng.normal(size=(40_000, 32)), np.float32, order=order)
    on_disk = where == "disk"
    source = NpySource(save(tmp_path / "x.npy", table)) if on_disk else put(f"{memory_url}/x.npy", table)
    max_bytes = 1 << 20
    next(source.blocks(max_bytes=100))  # what is imported and cached once does not count
    with peak_memory() as peak:
        reader = source.blocks(max_bytes=max_bytes)
        n_rows = 0
        for _, rows in reader:
            n_rows += len(rows)
            del rows
        assert peak() < max_bytes + 100_000
    assert n_rows == 40_000

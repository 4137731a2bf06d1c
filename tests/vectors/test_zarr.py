from __future__ import annotations

import sys

import numpy as np
import pytest
import zarr

from dask_annoy.errors import InvalidVectorsError, MissingExtraError
from dask_annoy.vectors import ZarrSource

TABLE = np.arange(400, dtype=np.float32).reshape(100, 4)


def write(url: str, table: np.ndarray = TABLE, **options) -> str:
    array = zarr.create_array(url, shape=table.shape, dtype=table.dtype, **options)
    array[:] = table
    return url


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<f2", "i1", "<u8", "?"])
def test_both_formats_and_all_numbers_are_read(tmp_path, zarr_format, dtype):
    table = TABLE.astype(dtype)
    source = ZarrSource(write(str(tmp_path / "x.zarr"), table, chunks=(7, 4), zarr_format=zarr_format))
    np.testing.assert_array_equal(np.concatenate([rows for _, rows in source.blocks(max_bytes=999)]), table)
    np.testing.assert_array_equal(source.take(np.array([3, 99])), table[[3, 99]])


def test_blocks_end_where_chunks_end(tmp_path):
    source = ZarrSource(write(str(tmp_path / "x.zarr"), chunks=(10, 4)))
    sizes = [len(rows) for _, rows in source.blocks(5, 98, max_bytes=3 * 25 * source.row_bytes)]
    assert sizes == [15, 20, 20, 20, 18]


def test_a_chunk_larger_than_the_bound_is_decoded_once(tmp_path, monkeypatch):
    source = ZarrSource(write(str(tmp_path / "x.zarr"), chunks=(50, 4)))
    reads = []
    original = zarr.Array.__getitem__
    monkeypatch.setattr(zarr.Array, "__getitem__", lambda self, key: reads.append(key) or original(self, key))
    sizes = [len(rows) for _, rows in source.blocks(max_bytes=3 * 8 * source.row_bytes)]
    assert len(reads) == 2
    assert max(sizes) == 8
    assert sum(sizes) == 100


def test_shards_are_read_by_the_chunks_inside(tmp_path):
    source = ZarrSource(write(str(tmp_path / "x.zarr"), chunks=(5, 4), shards=(50, 4)))
    sizes = [len(rows) for _, rows in source.blocks(max_bytes=3 * 7 * source.row_bytes)]
    assert set(sizes) == {5}


def test_an_array_inside_a_group_is_read(tmp_path):
    zarr.open_group(tmp_path / "x.zarr", mode="w")
    write(str(tmp_path / "x.zarr" / "train"), chunks=(7, 4))
    assert ZarrSource(tmp_path / "x.zarr" / "train").n_rows == 100
    with pytest.raises(InvalidVectorsError, match="group with the arrays train"):
        ZarrSource(tmp_path / "x.zarr")


def test_a_missing_array_is_a_file_not_found_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"x\.zarr"):
        ZarrSource(tmp_path / "x.zarr")


def test_what_is_no_table_of_numbers_is_refused(tmp_path):
    with pytest.raises(InvalidVectorsError, match="single vector"):
        ZarrSource(write(str(tmp_path / "a.zarr"), TABLE[0]))
    with pytest.raises(InvalidVectorsError, match="complex"):
        ZarrSource(write(str(tmp_path / "b.zarr"), TABLE.astype(complex)))


def test_an_array_that_changed_its_shape_is_not_read(tmp_path):
    source = ZarrSource(write(str(tmp_path / "x.zarr"), chunks=(7, 4)))
    zarr.open_array(tmp_path / "x.zarr").resize((90, 4))
    with pytest.raises(InvalidVectorsError, match="has changed"):
        list(source.blocks(max_bytes=1000))


def test_take_reads_only_chunks_that_hold_the_rows(memory_url, monkeypatch):
    from fsspec.implementations.memory import MemoryFileSystem

    source = ZarrSource(write(f"{memory_url}/x.zarr", chunks=(1, 4)))
    paths = []
    original = MemoryFileSystem.cat_file
    monkeypatch.setattr(
        MemoryFileSystem,
        "cat_file",
        lambda self, path, *rest, **options: paths.append(path) or original(self, path, *rest, **options),
    )
    source.take(np.array([3, 50]))
    assert sum("/c/" in path for path in paths) == 2


def test_zarr_is_asked_for_by_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(MissingExtraError, match=r"dask-annoy\[zarr\]"):
        ZarrSource(tmp_path)

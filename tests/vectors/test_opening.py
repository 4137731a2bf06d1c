from __future__ import annotations

from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr

from dask_annoy.errors import InvalidIdsError, InvalidVectorsError
from dask_annoy.vectors import (
    ArrayIds,
    ArraySource,
    BinSource,
    ConcatIds,
    ConcatSource,
    NpyIds,
    NpySource,
    ParquetIds,
    ParquetSource,
    RowNumberIds,
    ZarrSource,
    open_ids,
    open_source,
)

TABLE = np.arange(12, dtype=np.float32).reshape(4, 3)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    np.save(tmp_path / "x.npy", TABLE)
    (tmp_path / "x.fbin").write_bytes(np.array(TABLE.shape, "<u4").tobytes() + TABLE.tobytes())
    table = pa.table({"v": list(TABLE), "id": [4, 3, 2, 1], "name": list("abcd")})
    (tmp_path / "rows").mkdir()
    pq.write_table(table, tmp_path / "rows" / "x.parquet")
    zarr.save_array(tmp_path / "x.zarr", TABLE)
    zarr.save_array(tmp_path / "plain", TABLE)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("x.npy", NpySource),
        ("x.fbin", BinSource),
        ("rows/x.parquet", ParquetSource),
        ("rows", ParquetSource),
        ("rows/*.parquet", ParquetSource),
        ("x.zarr", ZarrSource),
        ("x.zarr/", ZarrSource),
        ("plain", ZarrSource),
    ],
)
def test_a_file_is_known_by_its_suffix_and_a_folder_by_its_content(data, name, kind):
    for vectors in (f"{data}/{name}", f"file://{data}/{name}"):
        source = open_source(vectors)
        assert type(source) is kind
        np.testing.assert_array_equal(source.take(np.arange(4)), TABLE)


def test_a_path_and_its_url_are_the_same_data(data):
    assert open_source(data / "x.npy").identity() == open_source(f"file://{data}/x.npy").identity()


@pytest.mark.parametrize("vectors", [TABLE, TABLE.tolist(), pd.DataFrame(TABLE), [TABLE[0], TABLE[1]]])
def test_what_numpy_understands_is_an_array(vectors):
    source = open_source(vectors)
    assert type(source) is ArraySource
    assert source.width == 3


def test_a_pattern_of_npy_files_is_read_in_the_order_of_their_numbers(tmp_path):
    for number in (10, 9):
        np.save(tmp_path / f"x{number}.npy", np.full((1, 2), number))
    source = open_source(f"{tmp_path}/x*.npy")
    assert type(source) is ConcatSource
    assert source.take(np.arange(2)).tolist() == [[9, 9], [10, 10]]
    with pytest.raises(FileNotFoundError, match="no file matches"):
        open_source(f"{tmp_path}/y*.npy")
    (tmp_path / "x10.npy").rename(tmp_path / "x[1].npy")
    assert open_source(tmp_path / "x[1].npy").take(np.arange(1)).tolist() == [[10, 10]]


def test_a_pattern_works_in_the_root_of_a_storage():
    filesystem = fsspec.filesystem("memory")
    with filesystem.open("/root_of_vectors.npy", "wb") as file:
        np.save(file, TABLE)
    try:
        assert open_source("memory://root_of_v*.npy").n_rows == 4
        assert open_source("memory:///root_of_vectors.npy").n_rows == 4
    finally:
        filesystem.rm("/root_of_vectors.npy")


def test_an_unknown_suffix_is_answered_with_the_known_ones(tmp_path):
    (tmp_path / "x.txt").write_text("1 2 3")
    for name in ("x.txt", "missing", "x"):
        with pytest.raises(InvalidVectorsError, match=r"\.npy, \.fbin, .*\.zarr"):
            open_source(tmp_path / name)


def test_a_column_is_for_parquet_only(data):
    assert open_source(data / "rows", column="v").n_rows == 4
    for vectors in (data / "x.npy", data / "x.zarr", TABLE):
        with pytest.raises(InvalidVectorsError, match="column='v' is for Parquet"):
            open_source(vectors, column="v")


def test_collections_and_open_arrays_are_not_pulled_into_memory(data):
    array = zarr.open_array(data / "x.zarr", mode="r")
    with pytest.raises(InvalidVectorsError, match="URL of its folder"):
        open_source(array)
    da = pytest.importorskip("dask.array")
    with pytest.raises(InvalidVectorsError, match="Dask collection"):
        open_source(da.zeros((3, 2)))
    with pytest.raises(InvalidIdsError, match="Dask collection"):
        open_ids(da.zeros(3), vectors=open_source(TABLE))


def test_ids_are_opened_by_what_they_are(data):
    vectors = open_source(data / "x.npy")
    rows = open_source(data / "rows")
    np.save(data / "ids.npy", np.arange(4))
    assert type(open_ids(None, vectors=vectors)) is RowNumberIds
    assert type(open_ids([1, 2, 3, 4], vectors=vectors)) is ArrayIds
    assert type(open_ids(f"{data}/ids.npy", vectors=vectors)) is NpyIds
    assert type(open_ids(data / "ids.npy", vectors=rows)) is NpyIds
    assert type(open_ids(f"{data}/ids.npy", vectors=rows)) is NpyIds
    assert open_ids("id", vectors=rows).read().tolist() == [4, 3, 2, 1]
    own = open_ids("name", vectors=rows)
    assert type(own) is ParquetIds
    assert open_ids(own, vectors=vectors) is own


def test_a_column_of_parquet_sources_one_after_another_gives_their_ids(data):
    rows = open_source(data / "rows")
    ids = open_ids("name", vectors=ConcatSource((rows, rows)))
    assert type(ids) is ConcatIds
    assert "".join(ids.read()) == "abcdabcd"


def test_a_missing_column_of_ids_is_answered_with_the_columns(data):
    with pytest.raises(InvalidIdsError, match="no column 'nix'; its columns are v, id, name"):
        open_ids("nix", vectors=open_source(data / "rows"))


def test_a_signed_url_of_ids_is_read_and_its_signature_is_not_shown(data):
    url = "https://host.invalid/ids.npy?X-Amz-Signature=geheim"
    for vectors in (open_source(data / "rows"), open_source(data / "x.npy")):
        with pytest.raises(Exception, match=r"host\.invalid") as caught:  # it is asked for, and there is no such host
            open_ids(url, vectors=vectors)
        assert not isinstance(caught.value, InvalidIdsError)
        assert "geheim" not in str(caught.value)
    with pytest.raises(InvalidIdsError, match=r"no column 'https://host\.invalid/ids\.csv'"):
        open_ids("https://host.invalid/ids.csv?sig=geheim", vectors=open_source(data / "rows"))


def test_as_many_ids_as_vectors_are_needed(data):
    vectors = open_source(data / "x.npy")
    with pytest.raises(InvalidIdsError, match=r"3 ids were given for the 4 vectors of .*x\.npy"):
        open_ids([1, 2, 3], vectors=vectors)


@pytest.mark.parametrize("ids", ["ids.csv", Path("ids.parquet"), 7])
def test_what_are_no_ids_is_refused(ids):
    with pytest.raises(InvalidIdsError):
        open_ids(ids, vectors=open_source(TABLE))

"""Errors name the source and the first bad row; none of them publishes anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest

from dask_annoy import build_index, plan_index
from dask_annoy.errors import CorruptIndexError, InvalidIdsError, InvalidVectorsError, UnsupportedStorageError


@pytest.fixture
def bad(rows: Any) -> Any:
    values = rows.astype(np.float64)
    values[1321, 4] = np.nan
    return values


def table_of(values: list[Any]) -> Any:
    with dask.config.set({"dataframe.convert-string": False}):
        return dd.from_pandas(pd.DataFrame({"v": pd.Series(values, dtype=object)}), npartitions=3)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
@pytest.mark.parametrize("form", ["numpy", "dask", "npy", "dataframe"])
def test_a_value_without_distances_is_named_by_its_row(
    bad: Any, value: float, form: str, tmp_path: Path, client: Any
) -> None:
    bad[1321, 4] = value
    column = None
    vectors: Any = bad
    name = "numpy array"
    if form == "dask":
        vectors, name = da.from_array(bad, chunks=(500, 7)), "Dask array"
    elif form == "npy":
        np.save(tmp_path / "bad.npy", bad)
        vectors, name = str(tmp_path / "bad.npy"), str(tmp_path / "bad.npy")
    elif form == "dataframe":
        vectors, name, column = table_of(bad.tolist()), "column 'v' of a Dask dataframe", "v"
    with pytest.raises(InvalidVectorsError, match=rf"{name}.*row 1,321, column 4 is "):
        build_index(vectors, tmp_path / "index", column=column, shard_rows=600, client=client)
    assert not (tmp_path / "index" / "versions").exists()


def ragged(rows: Any, row: int, value: Any) -> Any:
    values = rows.tolist()
    values[row] = value
    return table_of(values)


@pytest.mark.parametrize("value", [[1.0, 2.0], None, "text", 5], ids=str)
def test_a_row_of_a_dataframe_that_is_no_vector_is_named(
    rows: Any, value: Any, tmp_path: Path, process_client: Any
) -> None:
    for client in (False, process_client):
        with pytest.raises(InvalidVectorsError, match=r"column 'v' of a Dask dataframe.*row 1000"):
            build_index(ragged(rows, 1000, value), tmp_path, column="v", client=client)


def test_a_partition_of_another_width_is_named(rows: Any, tmp_path: Path) -> None:
    values = rows.tolist()
    values[1400:] = [row[:9] for row in values[1400:]]
    frame = dd.concat([table_of(values[:1400]), table_of(values[1400:])])
    with pytest.raises(InvalidVectorsError, match=r"expected 16 columns, found 9 columns in row 1,[4-9]"):
        build_index(frame, tmp_path, column="v", client=False)


def test_masked_rows_of_a_dask_array_are_refused(rows: Any, tmp_path: Path) -> None:
    mask = np.zeros(rows.shape, bool)
    mask[1111, 3] = True
    masked = da.from_array(np.ma.masked_array(rows, mask), chunks=(600, 16), asarray=False)
    with pytest.raises(InvalidVectorsError, match="row 1111 has masked values"):
        build_index(masked, tmp_path, client=False)
    whole = da.from_array(np.ma.masked_array(rows, np.zeros(rows.shape, bool)), chunks=(600, 16), asarray=False)
    assert len(build_index(whole, tmp_path, client=False)) == 2000


def test_a_collection_whose_chunks_have_other_lengths_than_it_says_is_refused(rows: Any, tmp_path: Path) -> None:
    lying = da.from_array(rows, chunks=(500, 16)).map_blocks(lambda block: block[:-1], dtype=rows.dtype)
    with pytest.raises(InvalidVectorsError, match="chunk 0 should have 500 rows, but had 499"):
        build_index(lying, tmp_path, client=False)
    assert not list(tmp_path.rglob("*.npy"))


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"width": 15}, InvalidVectorsError, "16 columns, but width=15"),
        ({"packed": True}, InvalidVectorsError, "hamming"),
        ({"packed": True, "metric": "hamming"}, InvalidVectorsError, "width"),
        ({"packed": True, "metric": "hamming", "width": 17}, InvalidVectorsError, "16 bytes a row"),
        ({"column": "v"}, InvalidVectorsError, "column='v'"),
        ({"ids": [1, 2]}, InvalidIdsError, "2 ids were given for the 2,?000"),
        ({"ids": np.arange(2000) / 2}, InvalidIdsError, "integers or strings"),
        ({"ids": [*range(1999), "x"]}, InvalidIdsError, "1,999.*of one type"),
        ({"ids": [*range(1999), 2**63]}, InvalidIdsError, "does not fit int64"),
        ({"ids": np.zeros((2000, 2), int)}, InvalidIdsError, "one id a row|shape"),
        ({"n_trees": 0}, ValueError, "n_trees"),
        ({"shard_rows": 0}, ValueError, "shard_rows"),
        ({"target_recall": 2}, ValueError, "target_recall"),
        ({"metric": "cosine"}, ValueError, "cosine"),
    ],
    ids=str,
)
@pytest.mark.parametrize("form", ["numpy", "dask"])
def test_what_does_not_fit_is_said_before_anything_is_written(
    rows: Any, tmp_path: Path, arguments: dict[str, Any], error: type[Exception], said: str, form: str
) -> None:
    vectors = rows if form == "numpy" else da.from_array(rows, chunks=(700, 16))
    with pytest.raises(error, match=said):
        build_index(vectors, tmp_path / "index", **arguments, client=False)
    assert not list(tmp_path.rglob("*.npy"))


@pytest.mark.parametrize("vectors", [np.ones((0, 4)), da.ones((0, 4)), da.ones((0, 4), chunks=((0, 0), (4,)))], ids=str)
def test_no_rows_are_no_index(vectors: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no rows"):
        build_index(vectors, tmp_path, client=False)


def test_dask_ids_that_do_not_fit_are_named(rows: Any, tmp_path: Path, process_client: Any) -> None:
    vectors = da.from_array(rows, chunks=(700, 16))
    for client in (False, process_client):
        for ids, said in [
            (da.arange(5), "5 ids were given for 2000 vectors"),
            (da.ones((2000, 2)), "dimensions"),
            (da.ones(2000), "integers or strings"),
            (da.from_array(np.array([*range(1999), "x"], object), chunks=700), "x.*one type|some ids are"),
            (da.from_array(np.array([None] * 2000, object), chunks=700), "None"),
        ]:
            with pytest.raises(InvalidIdsError, match=said):
                build_index(vectors, tmp_path, ids=ids, client=client)
    with pytest.raises(InvalidIdsError, match="Dask collection"):
        build_index(rows, tmp_path, ids=da.arange(2000), client=False)
    assert not list(tmp_path.rglob("*.rows.npy"))


def test_a_dataframe_needs_a_column_that_it_has(rows: Any, tmp_path: Path) -> None:
    frame = table_of(rows.tolist())
    for column, said in [(None, "which column.*'v'"), ("w", "no column 'w'.*'v'")]:
        for function in (build_index, plan_index):
            arguments = (frame, tmp_path) if function is build_index else (frame,)
            with pytest.raises(InvalidVectorsError, match=said):
                function(*arguments, column=column, client=False)


def test_a_storage_that_cannot_publish_is_refused_before_the_work(rows: Any) -> None:
    with pytest.raises(UnsupportedStorageError, match="atomically"):
        build_index(rows, "ftp://localhost/x", client=False)


def test_missing_vectors_are_missing_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.npy"):
        build_index(str(tmp_path / "nothing.npy"), tmp_path / "index", client=False)
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize("name", ["forest.ann", "ids.npy"])
def test_a_damaged_shard_is_named_by_a_query(rows: Any, tmp_path: Path, client: Any, name: str) -> None:
    index = build_index(rows, tmp_path, shard_rows=900, n_trees=2, client=client)
    uuid = index.manifest.shards[1].uuid
    path = tmp_path / "shards" / uuid / name
    payload = bytearray(path.read_bytes())
    payload[len(payload) // 3] ^= 1
    path.unlink()
    path.write_bytes(payload)
    with pytest.raises(CorruptIndexError, match=f"{uuid}/{name}"):
        index.query(rows[:5])
    lazy = index.query(da.from_array(rows[:5]))
    with pytest.raises(CorruptIndexError, match=f"{uuid}/{name}"):
        client.compute(lazy.ids).result() if client else lazy.ids.compute(scheduler="sync")

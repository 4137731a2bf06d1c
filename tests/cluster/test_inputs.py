"""The same rows give the same shards, whatever they come in and wherever they are built."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr

from dask_annoy import build_index, exact_neighbors, plan_index
from dask_annoy.errors import InvalidIdsError, InvalidVectorsError

from .conftest import SHARD_ROWS, TREES, fingerprint

Rows = np.ndarray[Any, Any]
FORMS: dict[str, Callable[[Rows, Path], Any]] = {}


def form(function: Callable[[Rows, Path], Any]) -> Callable[[Rows, Path], Any]:
    FORMS[function.__name__] = function
    return function


@form
def numpy_array(rows: Rows, _: Path) -> Any:
    return rows


@form
def float64(rows: Rows, _: Path) -> Any:
    return rows.astype(np.float64)


@form
def fortran_order(rows: Rows, _: Path) -> Any:
    return np.asfortranarray(rows)


@form
def big_endian_and_read_only(rows: Rows, _: Path) -> Any:
    swapped = rows.astype(">f4")
    swapped.flags.writeable = False
    return swapped


@form
def strided_view(rows: Rows, _: Path) -> Any:
    return np.repeat(np.repeat(rows, 2, axis=0), 2, axis=1)[::2, ::2]


@form
def npy_file(rows: Rows, folder: Path) -> Any:
    np.save(folder / "x.npy", rows)
    return folder / "x.npy"


@form
def fbin_file(rows: Rows, folder: Path) -> Any:
    with (folder / "x.fbin").open("wb") as file:
        file.write(np.array(rows.shape, "<u4").tobytes() + rows.astype("<f4").tobytes())
    return str(folder / "x.fbin")


@form
def parquet_folder(rows: Rows, folder: Path) -> Any:
    (folder / "table").mkdir()
    for part, start in enumerate((0, 900)):
        chunk = rows[start : 900 if part == 0 else None]
        pq.write_table(pa.table({"v": pa.array(list(chunk), pa.list_(pa.float32()))}), folder / f"table/{part}.parquet")
    return str(folder / "table")


@form
def zarr_folder(rows: Rows, folder: Path) -> Any:
    array = zarr.create_array(str(folder / "x.zarr"), shape=rows.shape, chunks=(300, 7), dtype=rows.dtype)
    array[:] = rows
    return str(folder / "x.zarr")


@form
def dask_array(rows: Rows, _: Path) -> Any:
    return da.from_array(rows, chunks=(333, -1))


@form
def dask_array_with_chunks_in_columns_and_empty_ones(rows: Rows, _: Path) -> Any:
    return da.from_array(rows).rechunk(((0, 1, 0, 1500, 499, 0), (3, 13)))


@form
def dask_array_of_unknown_chunks(rows: Rows, _: Path) -> Any:
    array = da.from_array(rows, chunks=(450, -1))
    return array[da.ones(len(rows), chunks=450, dtype=bool)]


@form
def dask_array_big_endian_in_fortran_order(rows: Rows, _: Path) -> Any:
    return da.from_array(np.asfortranarray(rows.astype(">f8")), chunks=(700, -1))


@form
def dask_array_of_delayed_parts(rows: Rows, _: Path) -> Any:
    parts = [dask.delayed(np.array)(rows[start : start + 800]) for start in range(0, len(rows), 800)]
    return da.concatenate(
        [
            da.from_delayed(part, shape=(min(800, len(rows) - 800 * number), rows.shape[1]), dtype=rows.dtype)
            for number, part in enumerate(parts)
        ]
    )


def frame(rows: Rows, kind: str) -> pd.DataFrame:
    if kind == "arrow":
        vectors: Any = pd.array(list(rows), dtype=pd.ArrowDtype(pa.list_(pa.float32())))
    elif kind == "fixed":
        vectors = pd.array(list(rows), dtype=pd.ArrowDtype(pa.list_(pa.float32(), rows.shape[1])))
    else:
        vectors = [row.tolist() if kind == "lists" else row for row in rows]
    return pd.DataFrame({"v": vectors, "name": [f"row {number}" for number in range(len(rows))]})


@form
def dataframe_of_arrow_lists(rows: Rows, _: Path) -> Any:
    return dd.from_pandas(frame(rows, "arrow"), npartitions=3)


@form
def dataframe_of_fixed_size_lists(rows: Rows, _: Path) -> Any:
    return dd.from_pandas(frame(rows, "fixed"), npartitions=3)


@form
def dataframe_of_python_lists(rows: Rows, _: Path) -> Any:
    with dask.config.set({"dataframe.convert-string": False}):
        return dd.from_pandas(frame(rows, "lists"), npartitions=3)


@form
def dataframe_of_arrays_with_empty_partitions(rows: Rows, _: Path) -> Any:
    with dask.config.set({"dataframe.convert-string": False}):
        table = dd.from_pandas(frame(rows, "arrays"), npartitions=4, sort=False)
    empty = table[table["name"] == "nobody"]
    return dd.concat([empty, table, empty])


@form
def series_of_a_dataframe(rows: Rows, _: Path) -> Any:
    return dd.from_pandas(frame(rows, "arrow"), npartitions=2)["v"]


def column_of(vectors: Any) -> str | None:
    return "v" if isinstance(vectors, dd.DataFrame) or str(vectors).endswith("table") else None


@pytest.fixture(scope="session")
def expected(rows: Rows, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return fingerprint(
        build_index(rows, tmp_path_factory.mktemp("expected"), shard_rows=SHARD_ROWS, n_trees=TREES, client=False)
    )


@pytest.mark.parametrize("where", ["no client", "processes"])
@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_the_rows_gives_the_same_shards(
    name: str, where: str, rows: Rows, tmp_path: Path, expected: Any, request: pytest.FixtureRequest
) -> None:
    client = False if where == "no client" else request.getfixturevalue("process_client")
    vectors = FORMS[name](rows, tmp_path)
    options: Any = {
        "column": column_of(vectors), "shard_rows": SHARD_ROWS, "n_trees": TREES, "client": client
    }  # fmt: skip
    plan = plan_index(vectors, **options)
    index = build_index(vectors, tmp_path / "index", **options)
    assert fingerprint(index) == expected
    if not name.startswith(("dataframe", "series")):  # whose element type only the values tell
        assert index.manifest.source_dtype == plan.source_dtype
    assert plan.n_rows == 2000
    assert plan.build_id in (None, index.manifest.build_id)
    assert not (tmp_path / "index" / "staging").exists() or not list((tmp_path / "index" / "staging").rglob("*.npy"))
    again = build_index(vectors, tmp_path / "index", **options)
    assert again.manifest == index.manifest


def test_a_numpy_array_is_the_same_build_with_and_without_a_cluster(
    rows: Rows, tmp_path: Path, process_client: Any, threaded_client: Any
) -> None:
    first = build_index(rows, tmp_path / "index", shard_rows=SHARD_ROWS, n_trees=TREES, client=process_client)
    for client in (False, threaded_client):
        again = build_index(rows, tmp_path / "index", shard_rows=SHARD_ROWS, n_trees=TREES, client=client)
        assert again.manifest == first.manifest


@pytest.mark.parametrize("chunks", [(333, 16), (2000, 4), ((1999, 1), 16)])
def test_a_dask_array_is_the_same_build_however_it_is_chunked(rows: Rows, tmp_path: Path, chunks: Any) -> None:
    ids = np.arange(2000) * 7
    first = build_index(da.from_array(rows, chunks=100), tmp_path, ids=da.from_array(ids, chunks=17), client=False)
    again = build_index(da.from_array(rows, chunks=chunks), tmp_path, ids=da.from_array(ids), client=False)
    assert again.manifest == first.manifest


@pytest.mark.parametrize("kind", ["int64", "string"])
@pytest.mark.parametrize("form_of_ids", ["array", "dask array", "column", "series", "npy file", "list"])
def test_ids_come_back_exactly_from_every_form(
    rows: Rows, tmp_path: Path, kind: str, form_of_ids: str, client: Any
) -> None:
    rows = rows[:300]
    numbers = np.random.default_rng(0).permutation(300) * (2**40) - 5
    numbers[:3] = [2**63 - 1, -(2**63), -1]
    ids: Any = numbers if kind == "int64" else np.array([f"é {n}" for n in numbers], object)
    table = frame(rows, "arrow").assign(id=ids)
    vectors: Any = da.from_array(rows, chunks=77)
    given: Any = ids
    column = None
    if form_of_ids == "dask array":
        given = da.from_array(ids, chunks=31)
    elif form_of_ids == "column":
        vectors, given, column = dd.from_pandas(table, npartitions=3), "id", "v"
    elif form_of_ids == "series":
        partitioned = dd.from_pandas(table, npartitions=3)
        vectors, given = partitioned["v"], partitioned["id"]
    elif form_of_ids == "npy file":
        np.save(tmp_path / "ids.npy", ids.astype("U") if kind == "string" else ids)
        given = str(tmp_path / "ids.npy")
    elif form_of_ids == "list":
        vectors, given = rows, ids.tolist()
    index = build_index(
        vectors, tmp_path / "index", ids=given, column=column, metric="euclidean", shard_rows=130, client=client
    )
    found = index.query(rows, k=1, search_k=10**6).ids[:, 0]
    assert found.tolist() == ids.tolist()
    assert found.dtype == (np.int64 if kind == "int64" else object)
    assert index.manifest.id_type == kind


@pytest.mark.parametrize("shape", [(1, 3), (2, 3), (11, 1), (40, 5)])
@pytest.mark.parametrize("shard_rows", [1, 3, "auto"])
def test_tiny_inputs_are_indexed_too(shape: tuple[int, int], shard_rows: Any) -> None:
    import uuid

    rows = np.random.default_rng(0).normal(size=shape)
    index = build_index(rows, f"memory://{uuid.uuid4().hex}", metric="euclidean", shard_rows=shard_rows, client=False)
    result = index.query(rows, k=3, search_k=1000)
    assert result.ids[:, 0].tolist() == list(range(shape[0]))
    assert (result.ids[:, 1:] == -1).sum() == max(0, 3 - shape[0]) * shape[0]


def test_hamming_takes_bits_packed_or_not(tmp_path: Path, client: Any) -> None:
    bits = np.random.default_rng(0).random((600, 21)) > 0.5
    packed = np.packbits(bits, axis=1)
    options: Any = {"metric": "hamming", "shard_rows": 250, "n_trees": 3, "client": client}
    built = [
        build_index(bits, tmp_path / "bool", **options),
        build_index(bits.astype(np.float64), tmp_path / "float", **options),
        build_index(da.from_array(bits, chunks=(100, 5)), tmp_path / "dask", **options),
        build_index(packed, tmp_path / "packed", packed=True, width=21, **options),
        build_index(da.from_array(packed, chunks=(77, 2)), tmp_path / "dask packed", packed=True, width=21, **options),
    ]
    assert all(fingerprint(index) == fingerprint(built[0]) for index in built)
    for index in built:
        for queries in (bits[:9], packed[:9]):
            result = index.query(queries, k=2, search_k=10**5)
            assert result.ids[:, 0].tolist() == list(range(9))
            assert result.distances[:, 1].tolist() == sorted_distances(bits)[:, 1].tolist()
        lazy = index.query(da.from_array(packed[:9], chunks=4), k=2, search_k=10**5)
        with dask.config.set(scheduler="sync"):
            assert lazy.ids.compute()[:, 0].tolist() == list(range(9))


def sorted_distances(bits: Any) -> Any:
    return np.sort((bits[:9, None] != bits[None]).sum(axis=2), axis=1)


def test_a_relative_path_is_the_callers_wherever_the_workers_are(
    rows: Rows, tmp_path: Path, process_client: Any, monkeypatch: Any
) -> None:
    import os

    monkeypatch.chdir(tmp_path)
    np.save("rows.npy", rows)
    np.save("ids.npy", np.arange(2000) + 7)
    before = process_client.run(os.getcwd)
    process_client.run(os.chdir, "/")
    try:
        options: Any = {"metric": "euclidean", "shard_rows": 900, "n_trees": 2, "client": process_client}
        index = build_index("rows.npy", Path("index"), ids="ids.npy", **options)
        assert index.query(rows[:3], k=1, search_k=10**5).ids.tolist() == [[7], [8], [9]]
        assert index.url == str(tmp_path / "index")
        assert build_index(Path("rows.npy"), "index", ids=Path("ids.npy"), **options).manifest == index.manifest
        truth = exact_neighbors("rows.npy", rows[:3], k=1, metric="euclidean", client=process_client)
        assert truth.ids.tolist() == [[0], [1], [2]]
    finally:
        process_client.run(os.chdir, next(iter(before.values())))


def test_a_source_behind_a_cache_of_fsspec_is_read(rows: Rows, tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", rows[:100])
    index = build_index(f"simplecache::file://{tmp_path}/rows.npy", tmp_path / "index", client=False)
    assert len(index) == 100


def test_a_column_of_ids_is_found_though_a_file_has_its_name(rows: Rows, tmp_path: Path, monkeypatch: Any) -> None:
    table = pa.table({"v": pa.FixedSizeListArray.from_arrays(pa.array(rows[:50].ravel()), 16), "id": np.arange(50) + 3})
    pq.write_table(table, tmp_path / "rows.parquet")
    monkeypatch.chdir(tmp_path)
    Path("id").touch()
    index = build_index("rows.parquet", "index", column="v", ids="id", metric="euclidean", client=False)
    assert index.query(rows[:2], k=1).ids.tolist() == [[3], [4]]


def test_masked_ids_of_a_collection_are_refused(rows: Rows, tmp_path: Path) -> None:
    ids = da.ma.masked_array(da.arange(100, chunks=40), mask=da.arange(100, chunks=40) == 3)
    with pytest.raises(InvalidIdsError, match="mask"):
        build_index(da.from_array(rows[:100], chunks=(40, 16)), tmp_path, ids=ids, client=False)


@pytest.mark.parametrize(
    ("vectors", "ids", "error", "said"),
    [
        (lambda frame: frame, "idd", InvalidIdsError, "has no column 'idd' of ids; it has 'v', 'id'"),
        (lambda frame: frame, "https://u:geheim@h/ids.csv?sig=geheim", InvalidIdsError, "has no column 'https://h/ids"),
        (lambda frame: frame["v"], "id", InvalidIdsError, "are not a dataframe with columns"),
        (lambda frame: frame, dask.delayed([1, 2]), InvalidIdsError, "ids of type Delayed"),
        (lambda _: dask.delayed([[1.0]]), None, InvalidVectorsError, "are not supported: give a Dask array"),
        (lambda frame: frame[frame["id"] < 0], "id", InvalidVectorsError, "has no rows"),
    ],
    ids=["misspelt", "a file's URL", "of a series", "delayed ids", "delayed vectors", "no rows"],
)
def test_what_a_collection_cannot_be_is_said(
    rows: Rows, tmp_path: Path, vectors: Any, ids: Any, error: type[Exception], said: str
) -> None:
    frame = pd.DataFrame({"v": pd.Series(list(rows[:60])), "id": np.arange(60)})
    with dask.config.set({"dataframe.convert-string": False}):
        given = vectors(dd.from_pandas(frame, npartitions=2))
    column = "v" if isinstance(given, dd.DataFrame) else None
    for call in (build_index, plan_index):
        with dask.config.set({"dataframe.convert-string": False}), pytest.raises(error) as caught:
            call(given, *([tmp_path] if call is build_index else []), ids=ids, column=column, client=False)
        assert said in str(caught.value)
        assert "geheim" not in str(caught.value)

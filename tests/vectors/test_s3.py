"""The same promises on S3, as the moto server plays it."""

from __future__ import annotations

import io
import pickle
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr

from dask_annoy.errors import InvalidVectorsError
from dask_annoy.vectors import open_ids, open_source

TABLE = np.random.default_rng(5).normal(size=(3000, 8)).astype(np.float32)


@pytest.fixture
def options(s3_options: dict[str, Any]) -> dict[str, Any]:
    return s3_options


@pytest.fixture
def writer(options):
    return fsspec.filesystem("s3", **options)


def npy(table: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, table)
    return buffer.getvalue()


@pytest.mark.parametrize("suffix", ["npy", "parquet", "folder", "zarr"])
def test_rows_come_back_and_the_identity_follows_the_content(writer, options, suffix):
    def write(table: np.ndarray) -> str:
        if suffix == "npy":
            writer.pipe_file("bucket/x.npy", npy(table))
            return "s3://bucket/x.npy"
        if suffix == "zarr":
            array = zarr.create_array(
                "s3://bucket/x.zarr", shape=table.shape, chunks=(1000, 8), dtype="f4", storage_options=options,
                overwrite=True,
            )  # fmt: skip
            array[:] = table
            return "s3://bucket/x.zarr"
        buffer = io.BytesIO()
        pq.write_table(pa.table({"v": list(table), "id": np.arange(len(table))}), buffer, row_group_size=700)
        writer.pipe_file("bucket/rows/x.parquet", buffer.getvalue())
        return "s3://bucket/rows" if suffix == "folder" else "s3://bucket/rows/x.parquet"

    source = pickle.loads(pickle.dumps(open_source(write(TABLE), storage_options=options)))
    rows = np.concatenate([rows for _, rows in source.blocks(10, 2900, max_bytes=30_000)])
    np.testing.assert_array_equal(rows, TABLE[10:2900])
    np.testing.assert_array_equal(source.take([5, 6, 2999]), TABLE[[5, 6, 2999]])
    before = source.identity()
    assert "S3CRET" not in repr(source) + source.name + str(before)
    if suffix != "zarr":
        assert open_ids(None if suffix == "npy" else "id", vectors=source).read(7, 9).tolist() == [7, 8]
    assert open_source(write(TABLE + 1), storage_options=options).identity() != before
    if suffix != "zarr":
        with pytest.raises(InvalidVectorsError, match="has changed"):
            list(source.blocks(max_bytes=30_000))


def test_a_file_that_another_process_wrote_is_seen_at_once(writer, options):
    with pytest.raises(FileNotFoundError):
        open_source("s3://bucket/new/x.npy", storage_options=options)
    writer.pipe_file("bucket/new/x.npy", npy(TABLE))
    assert open_source("s3://bucket/new/x.npy", storage_options=options).n_rows == 3000
    writer.pipe_file("bucket/new/y.npy", npy(TABLE))
    assert open_source("s3://bucket/new/*.npy", storage_options=options).n_rows == 6000

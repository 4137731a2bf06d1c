"""A file that changes while it is read is an error, not rows of two versions."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dask_annoy.errors import InvalidIdsError, InvalidVectorsError
from dask_annoy.vectors import NpyIds, RowSource, open_ids, open_source
from dask_annoy.vectors.stored_file import ByteReader, StoredFile

TABLE = np.arange(4000, dtype=np.float32).reshape(500, 8)
OTHER = TABLE[::-1].copy()
BLOCK = 100 * 32


def put(url: str, payload: bytes) -> None:
    filesystem, path = fsspec.url_to_fs(url)
    filesystem.pipe_file(path, payload)


def backdate(url: str) -> None:
    """Make local files old: times are as coarse as the kernel's ticks, and what is written next is to be newer."""
    if "://" not in url:
        for path in [Path(url), *Path(url).rglob("*")]:
            os.utime(path, (1e9, 1e9))


def npy(table: np.ndarray, order: str = "C") -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(table, order=order))
    return buffer.getvalue()


def parquet(table: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    columns = {"v": pa.FixedSizeListArray.from_arrays(pa.array(table.ravel()), 8), "id": np.arange(len(table))}
    pq.write_table(pa.table(columns), buffer, row_group_size=100, compression="none", use_dictionary=False)
    return buffer.getvalue()


WRITERS: dict[str, Callable[[str, np.ndarray], None]] = {
    "x.npy": lambda url, table: put(url, npy(table)),
    "columns.npy": lambda url, table: put(url, npy(table, "F")),
    "x.fbin": lambda url, table: put(url, np.array(table.shape, "<u4").tobytes() + table.tobytes()),
    "x.parquet": lambda url, table: put(url, parquet(table)),
}


@pytest.fixture(params=["local", "remote"])
def parent(request: pytest.FixtureRequest, tmp_path: Path, memory_url: str) -> str:
    return str(tmp_path) if request.param == "local" else memory_url


@pytest.fixture(params=WRITERS)
def source_and_overwrite(request: pytest.FixtureRequest, parent: str) -> tuple[RowSource, Callable[[], None]]:
    """A source, and how to put other rows, of the same size, in the place of its own."""
    url, write = f"{parent}/{request.param}", WRITERS[request.param]
    write(url, TABLE)
    backdate(url)
    return open_source(url), lambda: write(url, OTHER)


@pytest.mark.parametrize("when", [1, 3])
def test_rows_that_change_while_they_are_read_are_an_error(
    source_and_overwrite: tuple[RowSource, Callable[[], None]], when: int
) -> None:
    source, overwrite = source_and_overwrite
    assert len(list(source.blocks(max_bytes=BLOCK))) > 3
    blocks = source.blocks(max_bytes=BLOCK)
    for _ in range(when):
        next(blocks)
    overwrite()
    with pytest.raises(InvalidVectorsError, match="has changed since it was looked at"):
        list(blocks)


def test_rows_that_changed_since_they_were_looked_at_are_an_error(
    source_and_overwrite: tuple[RowSource, Callable[[], None]],
) -> None:
    source, overwrite = source_and_overwrite
    overwrite()
    with pytest.raises(InvalidVectorsError, match="has changed since it was looked at"):
        list(source.blocks(max_bytes=BLOCK))


def test_a_reader_that_stops_early_is_not_troubled_by_later_changes(
    source_and_overwrite: tuple[RowSource, Callable[[], None]],
) -> None:
    source, overwrite = source_and_overwrite
    blocks = source.blocks(max_bytes=BLOCK)
    _, rows = next(blocks)
    overwrite()
    blocks.close()  # type: ignore[attr-defined]
    np.testing.assert_array_equal(rows, TABLE[: len(rows)])


@pytest.fixture
def while_read(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """Have something done after the next bytes of any file that are read."""

    def arrange(action: Callable[[], None]) -> None:
        actions = [action]
        for reader in ByteReader.__subclasses__():
            fill = reader.fill

            def filling(self: Any, targets: Any, fill: Any = fill) -> None:
                fill(self, targets)
                while actions:
                    actions.pop()()

            monkeypatch.setattr(reader, "fill", filling)

    return arrange


def test_single_rows_of_a_file_that_changes_meanwhile_are_an_error(parent: str, while_read: Any) -> None:
    url = f"{parent}/x.npy"
    put(url, npy(TABLE))
    backdate(url)
    source = open_source(url)
    while_read(lambda: put(url, npy(OTHER)))
    with pytest.raises(InvalidVectorsError, match="has changed since it was looked at"):
        source.take([3, 400])


def test_ids_of_a_file_that_changes_meanwhile_are_an_error(parent: str, while_read: Any) -> None:
    url = f"{parent}/ids.npy"
    put(url, npy(np.arange(500)))
    backdate(url)
    ids = NpyIds(url)
    while_read(lambda: put(url, npy(np.arange(500)[::-1])))
    with pytest.raises(InvalidIdsError, match="has changed since it was looked at"):
        ids.read(100, 200)


def test_ids_of_a_parquet_file_that_changes_meanwhile_are_an_error(
    parent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{parent}/x.parquet"
    put(url, parquet(TABLE))
    backdate(url)
    ids = open_ids("id", vectors=open_source(url, column="v"))
    batches = pq.ParquetFile.iter_batches

    def changing(*arguments: Any, **options: Any) -> Any:
        for batch in batches(*arguments, **options):
            put(url, parquet(OTHER))
            yield batch

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", changing)
    with pytest.raises(InvalidIdsError, match="has changed since it was looked at"):
        ids.read()


def test_a_file_is_looked_at_once_more_for_each_pass(parent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"{parent}/x.npy"
    put(url, npy(TABLE))
    source = open_source(url)
    looks = []
    check = StoredFile._check_unchanged
    monkeypatch.setattr(StoredFile, "_check_unchanged", lambda *arguments: looks.append(1) or check(*arguments))
    assert len(list(source.blocks(max_bytes=BLOCK))) > 3
    assert len(looks) == 2

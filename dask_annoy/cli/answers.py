"""Where answers go: a table for people, JSON lines, an ``.npz`` or a Parquet file."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import click

from dask_annoy.cli.output import echo_table

if TYPE_CHECKING:
    from dask_annoy.cluster import QueryResult

__all__ = ["FILE_SUFFIXES", "Write", "answer_file", "no_answers", "print_json", "print_table"]

Write: TypeAlias = "Callable[[int, QueryResult], None]"
"""Called with the number of the first query of a block, and the answers to the block."""

FILE_SUFFIXES: Final = (".npz", ".parquet")


def no_answers(first: int, result: QueryResult) -> None:
    """Show nothing."""


def print_table(first: int, result: QueryResult) -> None:
    """Print a line an answer."""
    rows = [
        [str(query), str(rank), f"{distance:.6g}", str(item)]
        for query, found in _found(first, result)
        for rank, (item, distance) in enumerate(found, 1)
    ]
    echo_table(["query", "rank", "distance", "id"], rows)


def print_json(first: int, result: QueryResult) -> None:
    """Print a JSON line a query; where there are fewer than k answers, the lists are shorter."""
    lines = []
    for query, found in _found(first, result):
        ids, distances = [item for item, _ in found], [distance for _, distance in found]
        lines.append(json.dumps({"query": query, "ids": ids, "distances": distances}, ensure_ascii=False))
    click.echo("\n".join(lines))


@contextlib.contextmanager
def answer_file(path: Path, id_type: str) -> Iterator[Write]:
    """Write a file by its suffix; it is there, whole, only after the last answer.

    ``.npz`` is held in memory until then: ``queries`` (row numbers), ``ids`` and ``distances``, without pickles. Where
    there are fewer than k answers, ids are -1 or "" and distances infinite. Parquet is written block by block: a row a
    query, with lists, shorter where there are fewer answers.
    """
    half = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}")
    try:
        with (_npz if path.suffix == ".npz" else _parquet)(half, id_type) as write:
            yield write
        os.replace(half, path)  # noqa: PTH105 - the same, and both names are at hand
    finally:
        half.unlink(missing_ok=True)


def _found(first: int, result: QueryResult) -> Iterator[tuple[int, list[tuple[Any, float]]]]:
    """Each query's number, and its answers without padding."""
    import numpy as np

    is_there = np.isfinite(result.distances) | ((result.ids != -1) & (result.ids != None))  # noqa: E711 - of arrays
    for row, there in enumerate(is_there):
        pairs = zip(result.ids[row][there].tolist(), result.distances[row][there].tolist(), strict=True)
        yield first + row, list(pairs)


@contextlib.contextmanager
def _npz(path: Path, id_type: str) -> Iterator[Write]:
    import numpy as np

    from dask_annoy.errors import InvalidIdsError

    numbers: list[Any] = []
    ids: list[Any] = []
    distances: list[Any] = []

    def write(first: int, result: QueryResult) -> None:
        numbers.append(np.arange(first, first + len(result.ids)))
        if id_type == "int64":
            ids.append(result.ids)
        else:
            plain = np.where(result.ids == None, "", result.ids)  # noqa: E711
            ids.append(plain.astype("U"))
            if (ids[-1] != plain).any():
                altered = plain[ids[-1] != plain][0]
                raise InvalidIdsError(f"the id {altered!r} ends in NUL, which .npz cannot hold: use .parquet or --json")
        distances.append(result.distances)

    yield write
    if not numbers:  # no queries
        numbers.append(np.empty(0, np.int64))
        ids.append(np.empty((0, 0), np.int64 if id_type == "int64" else "U1"))
        distances.append(np.empty((0, 0), np.float32))
    with path.open("wb") as file:
        np.savez(file, queries=np.concatenate(numbers), ids=np.concatenate(ids), distances=np.concatenate(distances))


@contextlib.contextmanager
def _parquet(path: Path, id_type: str) -> Iterator[Write]:
    from dask_annoy.errors import MissingExtraError

    try:
        import pyarrow as pa
        from pyarrow.parquet import ParquetWriter
    except ImportError as reason:
        raise MissingExtraError("writing Parquet files", "parquet") from reason

    item = pa.int64() if id_type == "int64" else pa.string()
    schema = pa.schema([("query", pa.int64()), ("ids", pa.list_(item)), ("distances", pa.list_(pa.float32()))])
    with ParquetWriter(path, schema) as writer:

        def write(first: int, result: QueryResult) -> None:
            found = list(_found(first, result))
            columns = [
                [query for query, _ in found],
                [[item for item, _ in answers] for _, answers in found],
                [[distance for _, distance in answers] for _, answers in found],
            ]
            arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
            writer.write_table(pa.table(arrays, schema=schema))

        yield write

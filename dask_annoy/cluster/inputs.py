"""The input of a build, whatever the user gave: rows that shard tasks can read, and what tells them from others."""

from __future__ import annotations

import abc
import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dask
import numpy as np
from dask.delayed import Delayed

from dask_annoy.cluster.collections import Chunks, chunks_of, id_chunks, ids_beside, is_collection, rows_of_values
from dask_annoy.cluster.executor import Executor, Progress
from dask_annoy.cluster.staging import PART_BYTES, PartReceipt, StagedRows, Staging, stage_block, staging_for
from dask_annoy.errors import InvalidIdsError, InvalidVectorsError
from dask_annoy.storage import IndexFolder
from dask_annoy.vectors import (
    ArrayIds,
    ArraySource,
    IdSource,
    NpyIds,
    RowNumberIds,
    RowSource,
    open_ids,
    open_source,
)

__all__ = ["Inputs", "SlotInput", "VectorForm", "cut_rows", "input_shape", "open_inputs"]


@dataclass(frozen=True)
class VectorForm:
    """How vectors are to be read: the metric, the width if the user gave one, and whether bits are packed."""

    metric: str
    width: int | None
    packed: bool

    def width_of(self, columns: int, name: str) -> int:
        """The dimensions of rows with that many columns."""
        if self.packed:
            if self.metric != "hamming":
                raise InvalidVectorsError(f"packed=True is for the hamming metric, not for {self.metric}")
            if self.width is None:
                raise InvalidVectorsError(f"{name} holds packed bits: say how many a row has with width=…")
            if columns != -(-self.width // 8):
                raise InvalidVectorsError(
                    f"{name} has {columns} bytes a row, but {self.width} bits need {-(-self.width // 8)}"
                )
            return self.width
        if self.width is not None and self.width != columns:
            raise InvalidVectorsError(f"{name} has {columns} columns, but width={self.width} was given")
        return columns


@dataclass(frozen=True)
class SlotInput:
    """What the task of one slot reads: sources, and where in them the slot begins."""

    vectors: RowSource
    vectors_start: int
    ids: IdSource
    ids_start: int


class Inputs(abc.ABC):
    """Rows and ids of a build.

    Attributes
    ----------
    name, dtype : str
        Of the user's input.
    n_rows, width : int
    packed : bool
        Whether the user's input holds packed bits.
    rows_packed : bool
        Whether the rows that shard tasks read do.
    id_type : {"int64", "string"}
    """

    name: str
    dtype: str
    n_rows: int
    width: int
    packed: bool
    rows_packed: bool
    id_type: Any
    ids_are_row_numbers: bool

    @abc.abstractmethod
    def identity(self) -> dict[str, str | int]:
        """What tells this input from another, as JSON values."""

    @abc.abstractmethod
    def slot(self, start: int, stop: int) -> SlotInput:
        """The input of a slot."""

    @abc.abstractmethod
    def number_rows_from(self, first: int) -> None:
        """Give the rows other row numbers as ids, counted from `first`."""

    def remove_staging(self) -> None:  # noqa: B027 - most inputs have none
        """Delete what was staged for shard tasks; call it after the commit."""


class DirectInputs(Inputs):
    """Files that shard tasks read themselves, or an array in the memory of their own process."""

    def __init__(self, vectors: RowSource, ids: IdSource, form: VectorForm) -> None:
        self.name, self.dtype, self.n_rows = vectors.name, str(vectors.dtype), vectors.n_rows
        self.width = form.width_of(vectors.width, vectors.name)
        self.packed = self.rows_packed = form.packed
        self.id_type = ids.id_type
        self.ids_are_row_numbers = isinstance(ids, RowNumberIds)
        self._vectors, self._ids = vectors, ids

    def identity(self) -> dict[str, str | int]:
        return {
            **{f"vectors.{key}": value for key, value in self._vectors.identity().items()},
            **{f"ids.{key}": value for key, value in self._ids.identity().items()},
        }

    def number_rows_from(self, first: int) -> None:
        self._ids = RowNumberIds(self.n_rows, first)

    def slot(self, start: int, stop: int) -> SlotInput:
        return SlotInput(*cut_rows(self._vectors, start, stop), *_ids_of_slot(self._ids, start, stop))


class StagedInputs(Inputs):
    """Rows that were written to the index folder as parts: encoded, so bits are packed."""

    def __init__(
        self,
        staged: StagedRows,
        ids: IdSource | None,
        form: VectorForm,
        identity: dict[str, str | int] | None = None,
    ) -> None:
        self.name, self.dtype = staged.staging.source_name, staged.dtype
        self.n_rows, self.width = staged.n_rows, staged.staging.width
        self.packed, self.rows_packed = form.packed, form.metric == "hamming"
        self.id_type = staged.id_type if ids is None else ids.id_type
        self.ids_are_row_numbers = isinstance(ids, RowNumberIds)
        self._staged, self._ids, self._identity = staged, ids, identity

    def identity(self) -> dict[str, str | int]:
        if self._identity is not None:
            return self._identity
        identity = self._staged.identity()
        if self._ids is not None:
            identity |= {f"ids.{key}": value for key, value in self._ids.identity().items()}
        return identity

    def number_rows_from(self, first: int) -> None:
        self._ids = RowNumberIds(self.n_rows, first)

    def slot(self, start: int, stop: int) -> SlotInput:
        vectors, vectors_start = self._staged.vectors(start, stop)
        own = self._staged.ids(start, stop)
        if own is None:
            assert self._ids is not None  # one of the two is there
            own = _ids_of_slot(self._ids, start, stop)
        return SlotInput(vectors, vectors_start, *own)

    def remove_staging(self) -> None:
        self._staged.staging.remove()


def open_inputs(
    vectors: Any,
    ids: Any,
    form: VectorForm,
    *,
    column: str | None,
    source_options: Mapping[str, Any] | None,
    folder: IndexFolder,
    executor: Executor,
    progress: Progress | None,
) -> Inputs:
    """Open the vectors and ids of a build; Dask collections are computed and staged, a chunk at a time."""
    if is_collection(vectors):
        return _stage_collection(vectors, ids, form, column, source_options, folder, executor, progress)
    if is_collection(ids):
        raise InvalidIdsError("ids are a Dask collection, but the vectors are not: give both or neither")
    source = open_source(absolute(vectors), column=column, storage_options=source_options)
    id_source = open_ids(_absolute_ids(ids), vectors=source, storage_options=source_options)
    inputs = DirectInputs(source, id_source, form)
    if isinstance(source, ArraySource) and executor.is_remote:
        return _stage_array(source, id_source, form, inputs, folder)
    return inputs


def input_shape(
    vectors: Any, ids: Any, form: VectorForm, *, column: str | None, source_options: Mapping[str, Any] | None
) -> tuple[str, str, int, int, Any, dict[str, str | int] | None]:
    """Name, dtype, rows, width, id type and identity of an input, without computing a collection's values.

    A Dask collection's identity is None; its ids count as int64 unless their dtype says otherwise.
    """
    if not is_collection(vectors):
        source = open_source(absolute(vectors), column=column, storage_options=source_options)
        id_source = open_ids(_absolute_ids(ids), vectors=source, storage_options=source_options)
        inputs = DirectInputs(source, id_source, form)
        return inputs.name, inputs.dtype, inputs.n_rows, inputs.width, inputs.id_type, inputs.identity()
    chunks = chunks_of(vectors, column)
    columns = _columns_of(chunks)
    dtype = getattr(ids_beside(ids, vectors), "dtype", np.dtype(np.int64))
    id_type = "int64" if getattr(dtype, "kind", "O") in "iu" else "string"
    return chunks.name, chunks.dtype, chunks.n_rows, form.width_of(columns, chunks.name), id_type, None


def _stage_collection(
    vectors: Any,
    ids: Any,
    form: VectorForm,
    column: str | None,
    source_options: Mapping[str, Any] | None,
    folder: IndexFolder,
    executor: Executor,
    progress: Progress | None,
) -> Inputs:
    with executor.computing():
        chunks = chunks_of(vectors, column)
        if chunks.n_rows == 0:
            raise InvalidVectorsError(f"{chunks.name} has no rows: an index needs at least one vector")
        width = form.width_of(_columns_of(chunks), chunks.name)
        own_ids: tuple[Delayed | None, ...] = (None,) * len(chunks.delayed)
        other_ids = None
        ids = ids_beside(ids, vectors)
        if is_collection(ids):
            own_ids = id_chunks(ids, chunks.lengths)
        else:
            other_ids = _ids_of_chunks(ids, chunks, source_options)
    staging = staging_for(folder, chunks.name, form.metric, width, form.packed)
    first_rows = itertools.accumulate(chunks.lengths, initial=0)
    tasks = [
        dask.delayed(_stage_chunk, pure=False)(staging, number, first_row, values, id_values)
        for number, (first_row, values, id_values) in enumerate(zip(first_rows, chunks.delayed, own_ids, strict=False))
    ]
    try:
        parts = executor.compute(tasks, label="stage", weights=chunks.lengths, progress=progress)
        _check_lengths(parts, chunks)
        return StagedInputs(StagedRows(staging, parts), other_ids, form)
    except BaseException:
        staging.remove()
        raise


def _check_lengths(parts: Sequence[PartReceipt], chunks: Chunks) -> None:
    for part, length in zip(parts, chunks.lengths, strict=True):
        if part.rows != length:
            raise InvalidVectorsError(
                f"{chunks.name}: chunk {part.number} should have {length:,} rows, but had {part.rows:,} when it was "
                "computed: its chunk sizes are wrong, or it is not the same each time"
            )


def _stage_chunk(staging: Staging, number: int, first_row: int, values: Any, ids: Any) -> PartReceipt:
    rows = rows_of_values(values, staging.source_name, first_row)
    if not len(rows):  # of a dataframe, an empty part does not even know its width
        rows = np.empty((0, -(-staging.width // 8) if staging.packed else staging.width), np.uint8)
    if ids is not None and not isinstance(ids, np.ma.MaskedArray):  # whose mask `stage_block` sees
        ids = np.asarray(ids)
    return stage_block(staging, number, first_row, rows, ids)


def _stage_array(
    source: ArraySource, ids: IdSource, form: VectorForm, direct: DirectInputs, folder: IndexFolder
) -> Inputs:
    """Write an array in the memory of this process to where the workers can read it."""
    staging = staging_for(folder, source.name, form.metric, direct.width, form.packed)
    try:
        blocks = source.blocks(max_bytes=PART_BYTES)
        parts = [stage_block(staging, number, first, rows) for number, (first, rows) in enumerate(blocks)]
        # The same build as without a cluster, where the array is not staged.
        return StagedInputs(StagedRows(staging, parts), ids, form, direct.identity())
    except BaseException:
        staging.remove()
        raise


def _columns_of(chunks: Chunks) -> int:
    if chunks.width is not None:
        return chunks.width
    number = next((number for number, length in enumerate(chunks.lengths) if length), None)
    if number is None:
        raise InvalidVectorsError(f"{chunks.name} has no rows")
    columns = dask.delayed(_first_width, pure=True)(chunks.delayed[number], chunks.name, sum(chunks.lengths[:number]))
    return int(columns.compute())


def _first_width(values: Any, name: str, first_row: int) -> int:
    return int(rows_of_values(values[:1], name, first_row).shape[1])


def _ids_of_chunks(ids: Any, chunks: Chunks, source_options: Mapping[str, Any] | None) -> IdSource:
    """Ids that are not a Dask collection, for vectors that are."""
    source: IdSource
    if ids is None:
        source = RowNumberIds(chunks.n_rows)
    elif isinstance(ids, (str, os.PathLike)):
        source = NpyIds(os.fspath(absolute(ids)), storage_options=source_options)
    else:
        source = ArrayIds(ids)
    if source.n_rows != chunks.n_rows:
        raise InvalidIdsError(f"{source.n_rows:,} ids were given for the {chunks.n_rows:,} vectors of {chunks.name}")
    return source


def cut_rows(source: RowSource, start: int, stop: int) -> tuple[RowSource, int]:
    """A source of the rows ``start`` to ``stop``, and where in it ``start`` is: an array travels, so only they do."""
    if isinstance(source, ArraySource) and start < stop:
        ((_, rows),) = source.blocks(start, stop, max_bytes=(stop - start) * source.row_bytes)
        return ArraySource(rows, name=source.name), 0
    return source, start


def absolute(source: Any) -> Any:
    """The source, but for a relative path, which means the folder of this process: workers may be in another."""
    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        if path and "://" not in path and "::" not in path:
            return os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111 - keeps a trailing pattern
    return source


def _absolute_ids(ids: Any) -> Any:
    # A string may also name a column, whatever files there are of that name.
    return absolute(ids) if isinstance(ids, os.PathLike) or (isinstance(ids, str) and ids.endswith(".npy")) else ids


def _ids_of_slot(ids: IdSource, start: int, stop: int) -> tuple[IdSource, int]:
    """Ids in memory travel with the task, so only the slot's own do."""
    if isinstance(ids, ArrayIds):
        return ArrayIds(ids.read(start, stop), name=ids.name), 0
    return ids, start

"""Staging: chunks of Dask collections and arrays in memory, written as parts that shard tasks can read.

A shard task that depended on chunks would need all of them in memory before it could start. So chunk tasks write
encoded rows to the index folder, and shard tasks depend on the parts' descriptions only.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import logging
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dask_annoy._native import digest_rows
from dask_annoy.errors import InvalidIdsError, InvalidVectorsError
from dask_annoy.storage import IndexFolder, staging_folder
from dask_annoy.vectors import ArrayIds, ConcatIds, ConcatSource, IdSource, NpySource, RowSource, encode_rows

__all__ = ["PART_BYTES", "PartReceipt", "StagedRows", "Staging", "stage_block", "staging_for"]

logger = logging.getLogger(__name__)

#: Bound on a part that is cut from an array in memory.
PART_BYTES: Final = 64 * 2**20

_REMOVALS: Final = 10


@dataclass(frozen=True)
class Staging:
    """Where the parts of one input go, and how their rows are to be encoded."""

    folder: IndexFolder
    staging_id: str
    source_name: str
    metric: str
    width: int
    packed: bool

    def part_name(self, number: int, attempt: str, kind: str) -> str:
        """The name of a part's file: kind is "rows" or "ids"."""
        return f"{staging_folder(self.staging_id)}/{number:08d}.{attempt}.{kind}.npy"

    @property
    def mark(self) -> str:
        """The name of the file that is there as long as parts are wanted."""
        return f"{staging_folder(self.staging_id)}/wanted"

    def remove(self) -> None:
        """Delete all parts. A task that still writes one finds the mark gone, and deletes its part itself."""
        parent = staging_folder(self.staging_id)
        for _ in range(_REMOVALS):
            with suppress(OSError):  # such a task can be in the way
                self.folder.delete([self.mark])
                self.folder.delete_tree(parent)
                if not self.folder.list(parent):
                    return
        logger.warning("%s could not be removed: delete it by hand", self.folder.where(parent))


@dataclass(frozen=True)
class PartReceipt:
    """What a chunk task returns.

    Attributes
    ----------
    number : int
        Place of the part in the input.
    attempt : str
        Part of the names of the part's files.
    rows : int
    dtype : str
        Element type before encoding.
    digest, ids_digest : int
        Digests of the encoded rows and of the ids; those of all parts add up to the input's.
    id_type : {"int64", "string"} or None
        None if the input has no ids of its own.
    """

    number: int
    attempt: str
    rows: int
    dtype: str
    digest: int
    id_type: str | None
    ids_digest: int


def staging_for(folder: IndexFolder, source_name: str, metric: str, width: int, packed: bool) -> Staging:
    """A new staging area of an index folder."""
    staging = Staging(folder, uuid.uuid4().hex, source_name, metric, width, packed)
    folder.write_bytes(staging.mark, b"wanted")
    return staging


def stage_block(
    staging: Staging, number: int, first_row: int, rows: npt.NDArray[Any], ids: npt.NDArray[Any] | None = None
) -> PartReceipt:
    """Check, encode and write one block of rows, with its ids."""
    encoded = encode_rows(
        rows,
        source=staging.source_name,
        first_row=first_row,
        metric=staging.metric,
        width=staging.width,
        packed=staging.packed,
    )
    # Each attempt at a part has files of its own: a task that runs twice harms nothing.
    attempt = uuid.uuid4().hex
    files = {staging.part_name(number, attempt, "rows"): encoded}
    id_type: str | None = None
    ids_digest = 0
    if ids is not None:
        if len(ids) != len(rows):
            raise InvalidIdsError(
                f"{staging.source_name}: {len(ids)} ids were given for the {len(rows)} rows from row {first_row} on"
            )
        checked = ArrayIds(ids, name=f"ids of {staging.source_name} from row {first_row:,} on")
        id_type = checked.id_type
        values = checked.read(0, checked.n_rows)
        ids_digest = _digest_of_ids(values, id_type, first_row)
        files[staging.part_name(number, attempt, "ids")] = _storable_ids(values, id_type)
    _write(staging, files)
    return PartReceipt(
        number=number,
        attempt=attempt,
        rows=len(rows),
        dtype=str(rows.dtype),
        digest=digest_rows(encoded, first_row),
        id_type=id_type,
        ids_digest=ids_digest,
    )


class StagedRows:
    """All parts of a staged input, and cuts of them for single slots."""

    def __init__(self, staging: Staging, parts: Sequence[PartReceipt]) -> None:
        self.staging = staging
        self.parts = sorted(parts, key=lambda part: part.number)
        self.bounds = [0, *itertools.accumulate(part.rows for part in self.parts)]
        self.n_rows = self.bounds[-1]
        if self.n_rows == 0:
            raise InvalidVectorsError(f"{staging.source_name} has no rows: an index needs at least one vector")
        id_types = {part.id_type for part in self.parts if part.rows}
        if len(id_types) > 1:
            raise InvalidIdsError(
                f"{staging.source_name}: some ids are integers and some strings: they must be of one type"
            )
        self.id_type = id_types.pop()
        self.dtype = next(part.dtype for part in self.parts if part.rows)  # an empty part may not know it

    def identity(self) -> dict[str, str | int]:
        """Digests of all rows and ids: the same however the collection was chunked."""
        modulus = 1 << 128
        return {
            "rows": self.n_rows,
            "digest": f"{sum(part.digest for part in self.parts) % modulus:032x}",
            "ids": f"{sum(part.ids_digest for part in self.parts) % modulus:032x}",
        }

    def vectors(self, start: int, stop: int) -> tuple[RowSource, int]:
        """The parts that hold the rows ``start`` to ``stop``, and where in them ``start`` is."""
        chosen = self._overlapping(start, stop)
        sources = tuple(
            NpySource(self._url(part, "rows"), storage_options=self.staging.folder.storage_options) for part in chosen
        )
        return ConcatSource(sources), start - self.bounds[self.parts.index(chosen[0])]

    def ids(self, start: int, stop: int) -> tuple[IdSource, int] | None:
        """The ids of those rows, likewise; None if the input has none of its own."""
        if self.id_type is None:
            return None
        chosen = self._overlapping(start, stop)
        sources = tuple(StagedIds(self.staging, part) for part in chosen)
        return ConcatIds(sources), start - self.bounds[self.parts.index(chosen[0])]

    def _overlapping(self, start: int, stop: int) -> list[PartReceipt]:
        return [
            part
            for part, low, high in zip(self.parts, self.bounds, self.bounds[1:], strict=False)
            if low < stop and high > start and part.rows
        ]

    def _url(self, part: PartReceipt, kind: str) -> str:
        return f"{self.staging.folder.url.rstrip('/')}/{self.staging.part_name(part.number, part.attempt, kind)}"


class StagedIds(IdSource):
    """The ids of one part, read whole: a part is a chunk, which fitted into memory before."""

    def __init__(self, staging: Staging, part: PartReceipt) -> None:
        self.name = f"ids of {staging.source_name}"
        self.n_rows = part.rows
        self.id_type = "string" if part.id_type == "string" else "int64"
        self._staging, self._part = staging, part
        self._values: npt.NDArray[Any] | None = None

    def identity(self) -> dict[str, str | int]:
        """The digest of the ids."""
        return {"digest": f"{self._part.ids_digest:032x}"}

    def _read(self, start: int, stop: int) -> npt.NDArray[Any]:
        values = self._values
        if values is None:
            name = self._staging.part_name(self._part.number, self._part.attempt, "ids")
            stored = np.load(io.BytesIO(self._staging.folder.read_bytes(name)), allow_pickle=False)
            values = stored if self.id_type == "int64" else _stored_strings(stored)
        # Kept from block to block; they are read in order, so after the last nobody asks again.
        self._values = values if stop < self.n_rows else None
        return np.asarray(values[start:stop])


def _storable_ids(values: npt.NDArray[Any], id_type: str) -> npt.NDArray[Any]:
    if id_type == "int64":
        return values
    # The lengths in characters on a first line, then all characters: exact for any string, without pickle.
    text = " ".join(str(len(value)) for value in values) + "\n" + "".join(values)
    return np.frombuffer(text.encode("utf-8"), np.uint8)


def _stored_strings(stored: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
    header, _, characters = stored.tobytes().decode("utf-8").partition("\n")
    ends = list(itertools.accumulate(int(length) for length in header.split()))
    strings = np.empty(len(ends), object)
    strings[:] = [characters[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    return strings


def _digest_of_ids(values: npt.NDArray[Any], id_type: str, first_row: int) -> int:
    if id_type == "int64":
        return digest_rows(np.ascontiguousarray(values).reshape(-1, 1), first_row)
    digests = b"".join(hashlib.blake2b(value.encode("utf-8"), digest_size=16).digest() for value in values)
    return digest_rows(np.frombuffer(digests, np.uint8).reshape(-1, 16), first_row)


def _write(staging: Staging, files: Mapping[str, npt.NDArray[Any]]) -> None:
    for name, array in files.items():
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        staging.folder.write_bytes(name, buffer.getvalue())
    # Looked at after writing: whoever removes the mark then removes all files that are there.
    if not staging.folder.exists(staging.mark):
        staging.folder.delete(files)
        where = staging.folder.where(staging_folder(staging.staging_id))
        raise FileNotFoundError(f"{where} was given up while a part was written to it: the build has ended")

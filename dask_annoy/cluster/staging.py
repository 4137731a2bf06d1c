"""Staging: chunks of Dask collections and arrays in memory, written as parts that shard tasks can read.

A shard task that depended on chunks would need all of them in memory before it could start. So chunk tasks write
encoded rows to the index folder, and shard tasks depend on the parts' descriptions only. A description holds digests of
what was written, and nothing that is read back is handed on before it was compared with them.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import logging
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dask_annoy._native import digest_rows
from dask_annoy.errors import CorruptIndexError, InvalidIdsError, InvalidVectorsError
from dask_annoy.storage import IndexFolder, staging_folder
from dask_annoy.vectors import ArrayIds, ConcatIds, ConcatSource, IdSource, RowSource, encode_rows
from dask_annoy.vectors.flat_rows import FlatRows
from dask_annoy.vectors.npy import read_npy_header
from dask_annoy.vectors.source import Block, Rows
from dask_annoy.vectors.stored_file import StoredFile

__all__ = [
    "PART_BYTES",
    "PartReceipt",
    "StagedIds",
    "StagedPart",
    "StagedRows",
    "Staging",
    "StagingDamagedError",
    "stage_block",
    "staging_for",
]

logger = logging.getLogger(__name__)

#: Bound on a part that is cut from an array in memory.
PART_BYTES: Final = 64 * 2**20

_REMOVALS: Final = 10

#: Rows are verified by pieces of at most so many bytes: what a single row costs to read, at worst.
_PIECE_BYTES: Final = 2**18

#: Rows read at a time while single ones are picked out.
_TAKE_BYTES: Final = 32 * 2**20

_MODULUS: Final = 1 << 128


class StagingDamagedError(CorruptIndexError):
    """What was staged is damaged, not what it was staged from. To users a `CorruptIndexError`."""


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
        """Delete all parts. A task that still writes one finds the mark gone, and deletes its part itself.

        Never raises an `OSError`, as what ended the build is to be seen; what could not be removed is left to `gc`.
        """
        parent = staging_folder(self.staging_id)
        trouble: OSError | None = None
        for _ in range(_REMOVALS):
            try:
                self.folder.delete([self.mark])
                self.folder.delete_tree(parent)
                if not self.folder.list(parent):
                    return
            except TimeoutError as error:  # a server that is silent was waited for long enough
                trouble = error
                break
            except OSError as error:  # a task that still writes can be in the way
                trouble = error
        logger.warning(
            "%s could not be removed (%s): gc deletes it once it is old",
            self.folder.where(parent),
            "files are still written to it" if trouble is None else trouble,
        )


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
    piece_digests : tuple of int
        Digests of the encoded rows, a piece of `piece_rows` rows each.
    piece_rows : int
    id_type : {"int64", "string"} or None
        None if the input has no ids of its own.
    ids_digest : int
        Digest of the ids. Those of all parts add up to the input's, as those of the rows do.
    ids_checksum : str or None
        SHA-256 of the file of ids.
    """

    number: int
    attempt: str
    rows: int
    dtype: str
    piece_digests: tuple[int, ...]
    piece_rows: int
    id_type: str | None
    ids_digest: int
    ids_checksum: str | None

    @property
    def digest(self) -> int:
        """The digest of all rows."""
        return sum(self.piece_digests) % _MODULUS


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
    ids_name = staging.part_name(number, attempt, "ids")
    if ids is not None:
        if len(ids) != len(rows):
            raise InvalidIdsError(
                f"{staging.source_name}: {len(ids)} ids were given for the {len(rows)} rows from row {first_row} on"
            )
        checked = ArrayIds(ids, name=f"ids of {staging.source_name} from row {first_row:,} on")
        id_type = checked.id_type
        values = checked.read(0, checked.n_rows)
        ids_digest = _digest_of_ids(values, id_type, first_row)
        files[ids_name] = _storable_ids(values, id_type)
    piece_rows = max(1, _PIECE_BYTES // (encoded.shape[1] * encoded.itemsize))
    # From memory, before anything is written: what storage does to the bytes from then on is found.
    piece_digests = tuple(
        digest_rows(encoded[first : first + piece_rows], first_row + first)
        for first in range(0, len(encoded), piece_rows)
    )
    checksums = _write(staging, files)
    return PartReceipt(
        number=number,
        attempt=attempt,
        rows=len(rows),
        dtype=str(rows.dtype),
        piece_digests=piece_digests,
        piece_rows=piece_rows,
        id_type=id_type,
        ids_digest=ids_digest,
        ids_checksum=checksums.get(ids_name),
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
        return {
            "rows": self.n_rows,
            "digest": f"{sum(part.digest for part in self.parts) % _MODULUS:032x}",
            "ids": f"{sum(part.ids_digest for part in self.parts) % _MODULUS:032x}",
        }

    def vectors(self, start: int, stop: int) -> tuple[RowSource, int]:
        """The parts that hold the rows ``start`` to ``stop``, and where in them ``start`` is."""
        chosen = self._overlapping(start, stop)
        first_row = self.bounds[self.parts.index(chosen[0])]
        begins = itertools.accumulate((part.rows for part in chosen), initial=first_row)
        sources = tuple(StagedPart(self.staging, part, begin) for part, begin in zip(chosen, begins, strict=False))
        return ConcatSource(sources), start - first_row

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


class StagedPart(RowSource):
    """The rows of one part, verified before they are handed out.

    Parameters
    ----------
    staging : Staging
    part : PartReceipt
    first_row : int
        The part's first row in the whole input.

    Raises
    ------
    CorruptIndexError
        If the file's header is not as it was written. When rows are read: if they are not, or the file has changed.

    Notes
    -----
    Blocks begin and end with pieces of at most 256 KiB, or one row: that much is read at least, whatever ``max_bytes``
    says, and beside a range that begins or ends within a piece. Each row that `take` picks costs a piece.
    """

    def __init__(self, staging: Staging, part: PartReceipt, first_row: int) -> None:
        name = staging.part_name(part.number, part.attempt, "rows")
        self.name = staging.folder.where(name)
        self.n_rows = part.rows
        self.width, self.dtype = _encoded_form(staging)
        self._part, self._first_row = part, first_row
        with _saying_what_to_do():
            file = StoredFile.look(
                f"{staging.folder.url.rstrip('/')}/{name}", staging.folder.storage_options, error=CorruptIndexError
            )
            header = read_npy_header(file)
            # The digests are of bytes: a header that reads them in another order would go with them.
            found = (header.shape, header.dtype, header.fortran_order)
            if found != ((self.n_rows, self.width), self.dtype, False):
                raise CorruptIndexError(
                    f"{self.name} is damaged: its header says shape {header.shape} of {header.dtype.str}, what was "
                    f"written is {(self.n_rows, self.width)} of {self.dtype.str}"
                )
        self._table = FlatRows(file, header.offset, self.n_rows, self.width, self.dtype)

    def identity(self) -> dict[str, str | int]:
        """The digest of the rows as they were staged."""
        return {"digest": f"{self._part.digest:032x}"}

    def _blocks(self, start: int, stop: int, max_bytes: int) -> Iterator[Block]:
        step = self._part.piece_rows
        low, high = start - start % step, min(-(-stop // step) * step, self.n_rows)
        with _saying_what_to_do():
            for first, rows in self._table.blocks(low, high, max_bytes, multiple=step):
                self._check(first, rows)
                yield max(first, start), rows[max(start - first, 0) : stop - first]
                del rows  # the caller alone decides how long a block lives

    def _take(self, rows: npt.NDArray[np.int64]) -> Rows:
        step = self._part.piece_rows
        out = np.empty((len(rows), self.width), self.dtype)
        pieces = np.unique(rows // step)
        held_bytes = rows.itemsize  # of a row's number
        at_once = max(1, _TAKE_BYTES // (step * (self.row_bytes + held_bytes)))
        with _saying_what_to_do():
            for begin in range(0, len(pieces), at_once):
                chosen = pieces[begin : begin + at_once]
                held = (chosen[:, np.newaxis] * step + np.arange(step)).ravel()
                held = held[held < self.n_rows]
                read = self._table.take(held)
                for place, piece in enumerate(chosen.tolist()):
                    self._check(piece * step, read[place * step : (place + 1) * step])
                low, high = np.searchsorted(rows, (held[0], held[-1] + 1))
                out[low:high] = read[np.searchsorted(held, rows[low:high])]
        return out

    def _check(self, first: int, rows: Rows) -> None:
        """Compare whole pieces with their digests."""
        step = self._part.piece_rows
        for low in range(0, len(rows), step):
            piece = rows[low : low + step]
            begin = first + low
            if digest_rows(piece, self._first_row + begin) != self._part.piece_digests[begin // step]:
                raise CorruptIndexError(
                    f"{self.name} is damaged: its rows {begin:,} to {begin + len(piece) - 1:,} are not those that were "
                    "written"
                )


class StagedIds(IdSource):
    """The ids of one part, read and verified whole: a part is a chunk, which fitted into memory before.

    Reading raises `CorruptIndexError` if the file is not as it was written.
    """

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
            payload = self._staging.folder.read_bytes(name)
            if hashlib.sha256(payload).hexdigest() != self._part.ids_checksum:
                with _saying_what_to_do():
                    raise CorruptIndexError(
                        f"{self._staging.folder.where(name)} is damaged: the ids in it are not those that were written"
                    )
            stored = np.load(io.BytesIO(payload), allow_pickle=False)
            values = stored if self.id_type == "int64" else _stored_strings(stored)
        # Kept from block to block; they are read in order, so after the last nobody asks again.
        self._values = values if stop < self.n_rows else None
        return np.asarray(values[start:stop])


@contextmanager
def _saying_what_to_do() -> Iterator[None]:
    """End messages about damaged parts with the way out: a part is staged under a new name by the next run."""
    try:
        yield
    except CorruptIndexError as reason:
        raise StagingDamagedError(
            f"{reason}. Run the same command again: the vectors are staged anew, and shards that are finished are kept"
        ) from None


def _encoded_form(staging: Staging) -> tuple[int, np.dtype[Any]]:
    """Columns and element type of encoded rows."""
    if staging.metric == "hamming":
        return -(-staging.width // 8), np.dtype(np.uint8)
    return staging.width, np.dtype(np.float32)


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


def _write(staging: Staging, files: Mapping[str, npt.NDArray[Any]]) -> dict[str, str]:
    """Write the files of a part, and return the SHA-256 of those of ids."""
    checksums = {}
    for name, array in files.items():
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        payload = buffer.getvalue()
        if name.endswith(".ids.npy"):  # of rows, digests of pieces are kept
            checksums[name] = hashlib.sha256(payload).hexdigest()
        staging.folder.write_bytes(name, payload)
    # Looked at after writing: whoever removes the mark then removes all files that are there.
    if not staging.folder.exists(staging.mark):
        staging.folder.delete(files)
        where = staging.folder.where(staging_folder(staging.staging_id))
        raise FileNotFoundError(f"{where} was given up while a part was written to it: the build has ended")
    return checksums

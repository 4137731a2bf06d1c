"""Parquet files, one after another: their columns, read row by row in bounded memory."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from dask_annoy.errors import DaskAnnoyError, InvalidVectorsError, MissingExtraError
from dask_annoy.vectors.filesystem import is_local, open_filesystem, public_url
from dask_annoy.vectors.identity import digest_of_identities
from dask_annoy.vectors.listing import has_pattern, is_folder, list_files
from dask_annoy.vectors.stored_file import SeekableFile, StoredFile

__all__ = ["ParquetFiles", "Part", "is_parquet_name", "require_pyarrow"]

_SUFFIX = re.compile(r"\.(parquet|parq|pq)(?:::.*)?$", re.IGNORECASE)
_MIN_BUFFER, _MAX_BUFFER = 64 << 10, 4 << 20  # bytes read ahead in a column
_LOOKERS = 16  # footers read at the same time


def is_parquet_name(url: str) -> bool:
    """Say whether a URL has the suffix of a Parquet file."""
    return bool(_SUFFIX.search(url))


def require_pyarrow() -> Any:
    """Import pyarrow.

    Raises
    ------
    MissingExtraError
        If it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as reason:
        raise MissingExtraError("reading Parquet files", "parquet") from reason
    return pyarrow


@dataclass(frozen=True)
class Part:
    """One file, the number of its first row among all, and its number of rows."""

    file: StoredFile
    first_row: int
    n_rows: int


class ParquetFiles:
    """Parquet files as one table.

    Parameters
    ----------
    urls : str, PathLike, or a sequence of them
        Files, folders (with their folders; files that end in .parquet, .parq or .pq) and glob patterns.
        Files of a folder or pattern come in natural order, part.2 before part.10, as Dask and Spark wrote
        them.
    storage_options : mapping, optional
        What fsspec needs beside the URLs.
    error : type
        What is raised when a file is not what it should be.
    """

    def __init__(
        self,
        urls: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        storage_options: Mapping[str, Any] | None = None,
        *,
        error: type[DaskAnnoyError] = InvalidVectorsError,
    ) -> None:
        require_pyarrow()
        given = [urls] if isinstance(urls, (str, os.PathLike)) else list(urls)
        self.name = ", ".join(public_url(os.fspath(url)) for url in given[:2]) + (" …" if len(given) > 2 else "")
        self.error = error
        found = [file for url in given for file in _expand(os.fspath(url), storage_options, error)]
        if not found:
            raise error(f"{self.name or 'an empty list'}: no Parquet files found there")
        with ThreadPoolExecutor(min(_LOOKERS, len(found))) as pool:
            looked = list(pool.map(lambda url: _look(url, storage_options, error), found))
        parts: list[Part] = []
        for file, n_rows in looked:
            parts.append(Part(file, parts[-1].first_row + parts[-1].n_rows if parts else 0, n_rows))
        self.parts = tuple(parts)
        self.n_rows = parts[-1].first_row + parts[-1].n_rows

    def with_error(self, error: type[DaskAnnoyError]) -> ParquetFiles:
        """Return the same files, raising ``error`` instead."""
        other = object.__new__(ParquetFiles)
        other.name, other.error, other.n_rows = self.name, error, self.n_rows
        other.parts = tuple(replace(part, file=replace(part.file, error=error)) for part in self.parts)
        return other

    def identity(self) -> dict[str, str | int]:
        """Say which data the files hold *now*, without reading them."""
        with ThreadPoolExecutor(min(_LOOKERS, len(self.parts))) as pool:
            identities = list(pool.map(lambda part: part.file.identity(), self.parts))
        size = sum(int(identity["size"]) for identity in identities)
        return {
            "url": self.name,
            "files": len(identities),
            "size": size,
            "version": digest_of_identities(identities),
        }

    def schemas(self) -> list[Any]:
        """Read the `pyarrow.Schema` of each file."""
        with ThreadPoolExecutor(min(_LOOKERS, len(self.parts))) as pool:
            return list(pool.map(lambda part: _schema(part.file), self.parts))

    def column_names(self) -> list[str]:
        """Read the names of the columns of the first file."""
        return list(_schema(self.parts[0].file).names)

    def column_of(
        self, part: Part, column: str, start: int, stop: int, *, batch_rows: int, buffer: int
    ) -> Iterator[Any]:
        """Read the rows ``start`` to ``stop`` *of one file*, one column.

        Reading starts with the row group of ``start``; a column is streamed page by page, so that memory
        does not depend on the size of row groups.

        Parameters
        ----------
        batch_rows : int
            Rows in an array, at most.
        buffer : int
            Bytes to read at once; held within 64 KiB to 4 MiB.

        Yields
        ------
        first : int
            Number of the array's first row among the rows of *all* files.
        array : pyarrow.Array
        """
        with _opened(part.file, min(max(buffer, _MIN_BUFFER), _MAX_BUFFER)) as parquet:
            groups, first = _groups_between(parquet.metadata, start, stop)
            for batch in parquet.iter_batches(batch_rows, row_groups=groups, columns=[column], use_threads=False):
                low, high = max(start - first, 0), min(stop - first, batch.num_rows)
                first += batch.num_rows
                if low < high:
                    row = part.first_row + first - batch.num_rows + low
                    array = batch.column(0).slice(low, high - low)
                    del batch  # the caller alone decides how long the data lives
                    yield row, array
                    del array
                if first >= stop:
                    return

    def row_groups(self, part: Part) -> list[int]:
        """Return the bounds of the row groups of one file: row numbers in that file, one more than groups."""
        with _opened(part.file, _MIN_BUFFER) as parquet:
            bounds = [0]
            for group in range(parquet.metadata.num_row_groups):
                bounds.append(bounds[-1] + parquet.metadata.row_group(group).num_rows)
            return bounds


def _expand(url: str, options: Mapping[str, Any] | None, error: type[DaskAnnoyError]) -> list[str]:
    if has_pattern(url) or is_folder(url, options, error=error):
        return list_files(url, options, wanted=is_parquet_name, error=error)
    return [url]


def _look(url: str, options: Mapping[str, Any] | None, error: type[DaskAnnoyError]) -> tuple[StoredFile, int]:
    file = StoredFile.look(url, options, error=error)
    with _opened(file, _MIN_BUFFER) as parquet:
        return file, int(parquet.metadata.num_rows)


def _schema(file: StoredFile) -> Any:
    with _opened(file, _MIN_BUFFER) as parquet:
        return parquet.schema_arrow


def _groups_between(metadata: Any, start: int, stop: int) -> tuple[list[int], int]:
    """Return the row groups that hold the rows, and the number of the first row of the first of them."""
    groups: list[int] = []
    begin, offset = 0, 0
    for group in range(metadata.num_row_groups):
        end = offset + metadata.row_group(group).num_rows
        if offset < stop and end > start:
            if not groups:
                begin = offset
            groups.append(group)
        offset = end
    return groups, begin


@contextmanager
def _opened(file: StoredFile, buffer: int) -> Iterator[Any]:
    """Open a Parquet file; what pyarrow finds wrong with it while it is open is raised by the file's name."""
    pyarrow = require_pyarrow()
    with ExitStack() as stack:
        reader = stack.enter_context(file.open())
        try:
            # With a buffer size pyarrow streams a column; without, it reads all of a row group's column
            # at once.
            parquet = pyarrow.parquet.ParquetFile(
                _local_path(file) or SeekableFile(reader),
                buffer_size=buffer,
                pre_buffer=False,
                page_checksum_verification=True,
            )
            stack.callback(parquet.close, force=True)
            yield parquet
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as reason:
            # pyarrow raises bare OSErrors for damaged pages; those of the system have a number.
            from_system = isinstance(reason, OSError) and (type(reason) is not OSError or reason.errno is not None)
            if from_system or isinstance(reason, DaskAnnoyError):
                raise
            raise file.error(f"{file.name} cannot be read as Parquet: {reason}") from reason


def _local_path(file: StoredFile) -> str | None:
    filesystem, path = open_filesystem(file.url, file.storage_options, error=file.error)
    return path if is_local(filesystem) else None

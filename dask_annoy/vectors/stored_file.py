"""One file in some storage, as it was when it was looked at, and its bytes by position."""

from __future__ import annotations

import abc
import io
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from dask_annoy.errors import DaskAnnoyError, InvalidVectorsError
from dask_annoy.vectors.filesystem import is_local, open_filesystem, public_url
from dask_annoy.vectors.patience import ask

__all__ = ["ByteReader", "SeekableFile", "StoredFile", "file_version"]

Target: TypeAlias = tuple[int, memoryview]
"""A position in the file, and the bytes of memory to fill from there."""

# What filesystems call a mark that changes with the content, best first; then times.
_MARKS = (
    "generation",
    "ETag",
    "etag",
    "sha",
    "md5",
    "md5Hash",
    "content_md5",
    "Content-MD5",
    "checksum",
    "CRC",
)
_TIMES = ("mtime", "LastModified", "last_modified", "modified", "updated", "created", "Last-Modified")

_PIECE = 8 << 20  # bytes: the longest range asked of a remote storage at once
_IN_FLIGHT = 32 << 20  # bytes asked of a remote storage at the same time
_GAP = 16 << 10  # bytes: reading over a gap as short as this is cheaper than another request


@dataclass(frozen=True)
class StoredFile:
    """A file as it was found: where, how long, and which version of it.

    Attributes
    ----------
    url : str
        Where fsspec finds it; may hold credentials, so it is never shown.
    storage_options : mapping
        What fsspec needs beside the URL; never shown.
    name : str
        What messages call it.
    size : int
        In bytes.
    version : str
        A mark of the storage that changes with the content, or else the time of the last change.
    error : type
        What is raised when the file is not what it should be.
    """

    url: str = field(repr=False)
    storage_options: Mapping[str, Any] = field(repr=False)
    name: str
    size: int
    version: str
    error: type[DaskAnnoyError] = InvalidVectorsError

    @classmethod
    def look(
        cls,
        url: str,
        storage_options: Mapping[str, Any] | None = None,
        *,
        error: type[DaskAnnoyError] = InvalidVectorsError,
    ) -> StoredFile:
        """Find the file.

        Raises
        ------
        FileNotFoundError
            If there is none.
        DaskAnnoyError
            Of the type ``error``, if it is a folder or its size is not known.
        """
        filesystem, path = open_filesystem(url, storage_options, error=error)
        name = public_url(url)
        info = ask(filesystem, "info", path, where=name)
        if info.get("type") == "directory" or info.get("size") is None:
            kind = "a folder" if info.get("type") == "directory" else "of unknown size"
            raise error(f"{name} is {kind}: expected a file that can be read in parts")
        size, version = file_version(filesystem, path, info)
        return cls(url, dict(storage_options or {}), name, size, version, error)

    def identity(self) -> dict[str, str | int]:
        """Say which data the file holds *now*, without reading it."""
        now = StoredFile.look(self.url, self.storage_options, error=self.error)
        return {"url": now.name, "size": now.size, "version": now.version}

    @contextmanager
    def open(self) -> Iterator[ByteReader]:
        """Open the file for reading by position; it must be the one that was found, and stay it until the end.

        The file is looked at twice: when it is opened, and when the block ends without an exception. What was read
        in between is of one version only then.

        Raises
        ------
        DaskAnnoyError
            Of the type ``self.error``, if the file has changed.
        """
        filesystem, path = open_filesystem(self.url, self.storage_options, error=self.error)
        self._check_unchanged(filesystem, path)
        if is_local(filesystem):
            with Path(path).open("rb", buffering=0) as handle:
                yield _LocalReader(self, handle)
        else:
            yield _RangeReader(self, filesystem, path)
        self._check_unchanged(filesystem, path)

    def _check_unchanged(self, filesystem: Any, path: str) -> None:
        size, version = file_version(filesystem, path, ask(filesystem, "info", path, where=self.name))
        if (size, version) != (self.size, self.version):
            raise self.error(
                f"{self.name} has changed since it was looked at: it had {self.size:,} bytes "
                f"({self.version}), "
                f"now it has {size:,} bytes ({version})"
            )


def file_version(filesystem: Any, path: str, info: Mapping[str, Any]) -> tuple[int, str]:
    """Return a file's size in bytes, and a text that changes when its content does.

    Parameters
    ----------
    filesystem : fsspec.AbstractFileSystem
    path : str
        The file's path inside the filesystem.
    info : mapping
        What the filesystem says of the file.
    """
    if is_local(filesystem):
        # fsspec gives the time as a float, too coarse to tell two quick writes apart.
        status = Path(path).stat()
        return status.st_size, f"mtime_ns:{status.st_mtime_ns}"
    for key in (*_MARKS, *_TIMES):
        value = info.get(key)
        if value is not None and value != "":
            text = value.isoformat() if hasattr(value, "isoformat") else str(value).strip('"')
            return int(info["size"]), f"{key.lower()}:{text}"
    return int(info["size"]), f"ukey:{filesystem.ukey(path)}"


class ByteReader(abc.ABC):
    """Reads an open file by position."""

    def __init__(self, file: StoredFile) -> None:
        self.file = file

    @abc.abstractmethod
    def block_bytes(self, max_bytes: int) -> int:
        """Return how many bytes may be filled at once so that all memory in use stays in ``max_bytes``."""

    @abc.abstractmethod
    def fill(self, targets: Iterable[Target]) -> None:
        """Fill each target from its position. The positions must not decrease.

        Raises
        ------
        DaskAnnoyError
            Of the file's error type, if the file ends too early.
        """

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes from ``start`` up to ``stop``."""
        data = bytearray(stop - start)
        self.fill([(start, memoryview(data))])
        return bytes(data)

    def _too_short(self, position: int, expected: int, found: int) -> DaskAnnoyError:
        return self.file.error(
            f"{self.file.name}: asked for {expected:,} bytes from byte {position:,}, got {found:,}: "
            f"the file was cut "
            "while it was read, or its server does not answer requests for parts of a file"
        )


class _LocalReader(ByteReader):
    """Plain reads into place. Mapped pages would count as the worker's memory."""

    def __init__(self, file: StoredFile, handle: io.FileIO) -> None:
        super().__init__(file)
        self._handle = handle

    def block_bytes(self, max_bytes: int) -> int:
        return max_bytes

    def fill(self, targets: Iterable[Target]) -> None:
        for position, view in targets:
            self._handle.seek(position)
            done = 0
            while done < len(view):
                count = self._handle.readinto(view[done:])
                if not count:
                    raise self._too_short(position, len(view), done)
                done += count


class _RangeReader(ByteReader):
    """Requests for byte ranges, several at a time, near ones joined."""

    def __init__(self, file: StoredFile, filesystem: Any, path: str) -> None:
        super().__init__(file)
        self._filesystem = filesystem
        self._path = path

    def block_bytes(self, max_bytes: int) -> int:
        # Answers on their way exist twice for a moment (received parts, joined) before they are in place.
        return max(max_bytes // 3, max_bytes - 2 * _IN_FLIGHT)

    def fill(self, targets: Iterable[Target]) -> None:
        batch: list[list[Target]] = []
        batch_bytes = 0
        for request in _requests(_pieces(targets)):
            length = _end(request) - request[0][0]
            if batch and batch_bytes + length > _IN_FLIGHT:
                self._fetch(batch)
                batch, batch_bytes = [], 0
            batch.append(request)
            batch_bytes += length
        if batch:
            self._fetch(batch)

    def _fetch(self, requests: list[list[Target]]) -> None:
        starts = [request[0][0] for request in requests]
        stops = [_end(request) for request in requests]
        answers = ask(
            self._filesystem, "cat_ranges", [self._path] * len(requests), starts, stops, on_error="raise",
            where=self.file.name, transferred=sum(stops) - sum(starts),
        )  # fmt: skip
        for start, stop, request, answer in zip(starts, stops, requests, answers, strict=True):
            if len(answer) != stop - start:
                raise self._too_short(start, stop - start, len(answer))
            for position, view in request:
                view[:] = memoryview(answer)[position - start : position - start + len(view)]


def _pieces(targets: Iterable[Target]) -> Iterator[Target]:
    """Cut long targets."""
    for position, view in targets:
        for first in range(0, len(view), _PIECE):
            yield position + first, view[first : first + _PIECE]


def _requests(pieces: Iterable[Target]) -> Iterator[list[Target]]:
    """Join pieces that are near each other to one request, up to the length of a piece."""
    request: list[Target] = []
    for piece in pieces:
        if request:
            gap = piece[0] - _end(request)
            joined = piece[0] + len(piece[1]) - request[0][0]
            if not 0 <= gap <= _GAP or joined > _PIECE:
                yield request
                request = []
        request.append(piece)
    if request:
        yield request


def _end(request: list[Target]) -> int:
    position, view = request[-1]
    return position + len(view)


class SeekableFile(io.RawIOBase):
    """A `ByteReader` as a Python file, for libraries that want one; it keeps nothing but its position."""

    def __init__(self, reader: ByteReader) -> None:
        super().__init__()
        self._reader = reader
        self._position = 0

    def readable(self) -> bool:
        """Say that the file can be read."""
        return True

    def seekable(self) -> bool:
        """Say that the file has a position."""
        return True

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move the position, in bytes from the start, the position or the end."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._reader.file.size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        """Read up to ``size`` bytes, or all that are left."""
        left = max(0, self._reader.file.size - self._position)
        count = left if size is None or size < 0 else min(size, left)
        data = self._reader.read(self._position, self._position + count)
        self._position += count
        return data

"""What ``fn`` may be in ``save`` and ``load``: a path, an fsspec URL, or an open file."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

__all__ = [
    "FileName",
    "LocalPath",
    "ReadableFile",
    "RemoteFile",
    "WritableFile",
    "locate",
    "name_of",
    "read_from",
    "write_to",
]


class ReadableFile(Protocol):
    """A binary file to read from."""

    def read(self) -> bytes:
        """Return all bytes that are left."""


class WritableFile(Protocol):
    """A binary file to write to."""

    def write(self, data: bytes, /) -> int | None:
        """Write the bytes, or some of them and say how many."""


FileName: TypeAlias = str | os.PathLike[str]
"""A path, or (a str only) a URL."""

# As fsspec sees it; a single letter is left to be a drive's name.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(::.*)?://", re.DOTALL)


# Of a type that hides from mypy what it is: no text file has the method that these protocols ask for.
_TEXT: type[object] = io.TextIOBase


@dataclass(frozen=True)
class LocalPath:
    """A file that can be mapped; absolute, so that it stays the same file when the working directory changes."""

    path: str


@dataclass(frozen=True)
class RemoteFile:
    """A file that has to be copied; neither URL nor options are shown, as they may hold credentials."""

    url: str = field(repr=False)
    storage_options: Mapping[str, Any] | None = field(repr=False)

    @property
    def name(self) -> str:
        """What messages call it."""
        from dask_annoy.vectors.filesystem import public_url

        return public_url(self.url)


def locate(fn: object, storage_options: Mapping[str, Any] | None = None) -> LocalPath | RemoteFile:
    """Tell a path of this machine from a URL of other storage.

    Parameters
    ----------
    fn : str or os.PathLike
        A str with a protocol (``s3://bucket/x.ann``, ``simplecache::s3://…``) is a URL. A path object never is.
    storage_options : mapping, optional
        What fsspec needs beside the URL.

    Raises
    ------
    TypeError
        If ``fn`` is neither.
    ValueError
        If there are storage options for what is no URL.
    """
    if isinstance(fn, str) and _URL.match(fn):
        # Here and above: fsspec and its filesystems are not loaded for who needs local paths only.
        from dask_annoy.storage.whole_file import local_path_of

        local = local_path_of(fn, storage_options)
        return RemoteFile(fn, storage_options) if local is None else LocalPath(local)
    if not isinstance(fn, str | os.PathLike):
        raise TypeError(f"expected a path (str or os.PathLike), a URL or a binary file object, got {type(fn).__name__}")
    path = os.fsdecode(fn)
    if storage_options:
        raise ValueError(f"storage_options are for URLs, and {path!r} is a path of this machine: leave them out")
    # Joined, not normalised: "link/../x" must mean what the operating system takes it for.
    return LocalPath(os.path.join(os.getcwd(), path) if path else path)  # noqa: PTH109, PTH118


def read_from(file: ReadableFile) -> bytes:
    """Return all bytes that are left in an open file.

    Raises
    ------
    TypeError
        If the file gives text.
    """
    data = file.read()
    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(f"{name_of(file)} gave {type(data).__name__} and not bytes: open it with mode 'rb'")
    return bytes(data)


def write_to(file: WritableFile, payload: bytes) -> None:
    """Write all bytes to an open file.

    Raises
    ------
    TypeError
        If the file takes text.
    OSError
        If the file takes no more.
    """
    if isinstance(file, _TEXT):
        raise TypeError(f"{name_of(file)} takes text and not bytes: open it with mode 'wb'")
    left: bytes | memoryview = payload
    while len(left):
        written = file.write(left if isinstance(left, bytes) else bytes(left))
        if written is None and not isinstance(file, io.RawIOBase):
            return  # writers of users that follow no protocol but the name of the method
        if not written:
            raise BlockingIOError(
                f"{name_of(file)} took {len(payload) - len(left):,} of {len(payload):,} bytes and then no more"
            )
        left = memoryview(payload)[len(payload) - len(left) + written :]


def name_of(file: object) -> str:
    """Return what messages call an open file."""
    name = getattr(file, "name", None)
    return name if isinstance(name, str) and name else f"a file object ({type(file).__name__})"

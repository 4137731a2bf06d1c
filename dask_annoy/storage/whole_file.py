"""Any one file at an fsspec URL, as a whole: the files of users, which lie in no index folder."""

from __future__ import annotations

import errno
import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from dask_annoy.errors import UnsupportedStorageError
from dask_annoy.vectors.filesystem import is_local, open_filesystem, public_url
from dask_annoy.vectors.patience import ask

__all__ = ["local_path_of", "read_file", "remove_file", "write_file"]


def local_path_of(url: str, storage_options: Mapping[str, Any] | None = None) -> str | None:
    """Return the path that a URL such as ``file:///data/x.ann`` means on this machine, or None for other storage.

    Raises
    ------
    UnsupportedStorageError
        If fsspec does not know the protocol.
    MissingExtraError
        If the package behind the protocol is not installed.
    """
    filesystem, path = open_filesystem(url, storage_options, error=UnsupportedStorageError)
    return path if is_local(filesystem) else None


def read_file(url: str, storage_options: Mapping[str, Any] | None = None) -> bytes:
    """Read a file in one request, so that the bytes are of one version of it.

    Parameters
    ----------
    url : str
        May be chained, as in ``simplecache::s3://bucket/x.ann``.
    storage_options : mapping, optional
        What fsspec needs beside the URL.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    TimeoutError
        If a remote server does not answer.
    OSError
        As the storage raises it.
    """
    filesystem, path = open_filesystem(url, storage_options, error=UnsupportedStorageError)
    where = public_url(url)
    try:
        size = ask(filesystem, "info", path, where=where).get("size")
        # Of a file whose size the storage does not tell, the whole has no bound.
        payload: bytes = ask(filesystem, "cat_file", path, where=where, transferred=math.inf if size is None else size)
    except FileNotFoundError:
        # Not the storage's own text, which may show what a URL carries of credentials.
        raise FileNotFoundError(errno.ENOENT, "No such file", where) from None
    return payload


def write_file(url: str, payload: bytes, storage_options: Mapping[str, Any] | None = None) -> None:
    """Write a file, in place of one that is there.

    Object stores and ``memory://`` show it whole or not at all; other storage (FTP, SFTP …) may show a part of it while
    it is written.

    Parameters
    ----------
    url : str
        May be chained.
    payload : bytes
    storage_options : mapping, optional
        What fsspec needs beside the URL.
    """
    filesystem, path = open_filesystem(url, storage_options, error=UnsupportedStorageError)
    ask(filesystem, "pipe_file", path, payload, where=public_url(url), transferred=len(payload))


def remove_file(url: str, storage_options: Mapping[str, Any] | None = None) -> None:
    """Remove a file, if there is one.

    Parameters
    ----------
    url : str
        May be chained.
    storage_options : mapping, optional
        What fsspec needs beside the URL.
    """
    filesystem, path = open_filesystem(url, storage_options, error=UnsupportedStorageError)
    with suppress(FileNotFoundError):
        if ask(filesystem, "exists", path, where=public_url(url)):
            ask(filesystem, "rm_file", path, where=public_url(url))

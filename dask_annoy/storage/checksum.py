"""SHA-256 of local files in bounded memory, and the check of a file against its manifest entry."""

from __future__ import annotations

import hashlib
from pathlib import Path

from dask_annoy.errors import CorruptIndexError
from dask_annoy.storage.manifest import FileEntry

__all__ = ["check_file", "check_size", "file_entry", "sha256_of"]


def sha256_of(path: Path) -> str:
    """The hexadecimal SHA-256 of a file, read through a small buffer; releases the GIL."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_entry(path: Path, name: str | None = None) -> FileEntry:
    """Describe a local file for a manifest or receipt, under its own name or `name`."""
    return FileEntry(name=path.name if name is None else name, bytes=path.stat().st_size, sha256=sha256_of(path))


def check_size(size: int, entry: FileEntry, *, where: str) -> None:
    """Raise CorruptIndexError, naming `where`, unless a file's size is that of `entry`."""
    if size != entry.bytes:
        raise CorruptIndexError(
            f"{where} has {size} bytes, but its manifest says {entry.bytes}: the file was cut or replaced; "
            "restore it or build the index again"
        )


def check_file(path: Path, entry: FileEntry, *, where: str) -> None:
    """Raise CorruptIndexError, naming `where`, unless the local file has the size and checksum of `entry`."""
    check_size(path.stat().st_size, entry, where=where)
    digest = sha256_of(path)
    if digest != entry.sha256:
        raise CorruptIndexError(
            f"{where} has the SHA-256 {digest}, but its manifest says {entry.sha256}: the file was changed; "
            "restore it or build the index again"
        )

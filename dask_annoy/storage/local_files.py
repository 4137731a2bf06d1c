"""Durable writes on the local disk: a file is complete and on the medium before its final name exists."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

__all__ = ["DISK_FULL", "TEMPORARY_PREFIX", "ensure_directory", "staged", "sync_directory"]

#: Names of unfinished files start so; no name in an index folder may start with a dot.
TEMPORARY_PREFIX = ".tmp-"

#: What a write on a disk without room fails with.
DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@contextmanager
def staged(final: Path, fill: Callable[[BinaryIO], object]) -> Iterator[Path]:
    """Write a private file beside `final`, flush it to the medium, and hand out its path.

    The body gives it its final name (``os.replace``, ``os.link``). The private name is gone afterwards,
    whatever happens; a killed process leaves one behind, which no listing shows.

    Parameters
    ----------
    final : Path
        Where the file is meant to go; missing folders are created.
    fill : callable
        Writes the content to the open binary file that it is given.

    Raises
    ------
    OSError
        As the system raises it; names the place if there is no room.
    """
    with _naming_a_full_disk(final):  # also where there are blocks left, but no inode, or no room in the folder
        ensure_directory(final.parent)
        temporary = final.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}")
        # Not tempfile.mkstemp: its mode 0600 would lock other users of a shared folder out.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            with os.fdopen(descriptor, "wb") as file:
                fill(file)
                file.flush()
                os.fsync(file.fileno())
            yield temporary
        finally:
            with suppress(FileNotFoundError):
                temporary.unlink()
        sync_directory(final.parent)


@contextmanager
def _naming_a_full_disk(final: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise OSError(
            error.errno, f"no room in {final.parent} for {final.name}: free space there and run the same again"
        ) from error


def ensure_directory(directory: Path) -> None:
    """Create `directory` and its parents where they are missing, durably."""
    if directory.is_dir():
        return
    ensure_directory(directory.parent)
    directory.mkdir(exist_ok=True)
    sync_directory(directory.parent)


def sync_directory(directory: Path) -> None:
    """Flush the names in `directory` to the medium, where the file system can."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS}:
            raise
    finally:
        os.close(descriptor)

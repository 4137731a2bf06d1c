"""A private folder of this process on local disk: gone when the process is, even if that was killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

__all__ = ["PrivateDirectory"]

_LOCK: Final = ".lock"


class PrivateDirectory:
    """A folder ``<parent>/<pid>-<random>``, mode 0700, claimed by a lock on ``<parent>/<pid>-<random>.lock``.

    The kernel drops the lock with the last process that holds it, so a folder whose lock can be taken
    belongs to nobody: opening a new one removes such folders. This one goes when the object is collected, or
    at exit; a forked child inherits the lock but never removes its parent's folder.

    Parameters
    ----------
    parent : Path
        A folder on a local disk; created with mode 0700 if it is missing.

    Attributes
    ----------
    path : Path
    """

    path: Path

    def __init__(self, parent: Path) -> None:
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _remove_abandoned(parent)
        self.path, descriptor = _claim(parent)
        self.close: Callable[[], object] = weakref.finalize(self, _remove, self.path, descriptor, os.getpid())


def _claim(parent: Path) -> tuple[Path, int]:
    while True:
        path = parent / f"{os.getpid()}-{uuid.uuid4().hex[:12]}"
        descriptor = os.open(f"{path}{_LOCK}", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            # Another process may have taken the new file for an abandoned one before it was locked.
            if _is_same_file(descriptor, f"{path}{_LOCK}"):
                path.mkdir(mode=0o700)
                return path, descriptor
        except BaseException:
            os.close(descriptor)
            Path(f"{path}{_LOCK}").unlink(missing_ok=True)
            raise
        os.close(descriptor)


def _remove_abandoned(parent: Path) -> None:
    for lock in parent.glob(f"*-*{_LOCK}"):
        with suppress(OSError):  # being removed by somebody else, or not ours to touch
            descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_same_file(descriptor, str(lock)):
                    shutil.rmtree(lock.with_name(lock.name.removesuffix(_LOCK)), ignore_errors=True)
                    lock.unlink()
            finally:
                os.close(descriptor)


def _is_same_file(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def _remove(path: Path, descriptor: int, pid: int) -> None:
    if os.getpid() != pid:
        return
    shutil.rmtree(path, ignore_errors=True)
    with suppress(FileNotFoundError):
        Path(f"{path}{_LOCK}").unlink()
    os.close(descriptor)

"""Marks of those at work: of writers, for the clean-up to see, and of the clean-up, for who would keep a version."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Annotated, Final

from pydantic import Field

from dask_annoy.storage.document import Document, parse_versioned, sealed
from dask_annoy.storage.folder import IndexFolder
from dask_annoy.storage.layout import WORK, work_name

__all__ = ["announced_clean_up", "announcement_of_clean_up", "at_work"]

_FORMAT: Final = 1
_MAX_BYTES: Final = 2**24
_CLEAN_UP: Final = "gc-"


class _Mark(Document):
    format_version: Annotated[int, Field(ge=1, le=_FORMAT)] = _FORMAT
    work: str
    versions: tuple[int, ...] = ()


@contextmanager
def at_work(folder: IndexFolder, work: str) -> Iterator[None]:
    """Leave a mark in the index folder while the body runs.

    Enter it before reading what the writer is going to name again: an older version, receipts of an earlier run. The
    clean-up looks for marks after it has taken names away and before it deletes the files behind them, and leaves the
    files while there is a mark. A killed process leaves its mark behind, which counts until it is as old as what the
    clean-up takes for abandoned.

    Parameters
    ----------
    folder : IndexFolder
    work : str
        For people: "build", "rollback".
    """
    with _marked(folder, uuid.uuid4().hex, _Mark(work=work)):
        yield


@contextmanager
def announced_clean_up(folder: IndexFolder, versions: Sequence[int]) -> Iterator[None]:
    """Say, while the body runs, which versions a clean-up is going to take away."""
    with _marked(folder, f"{_CLEAN_UP}{uuid.uuid4().hex}", _Mark(work="clean-up", versions=tuple(versions))):
        yield


def announcement_of_clean_up(folder: IndexFolder, version: int) -> str | None:
    """The address of the file by which a clean-up has announced to take a version away; None if there is none."""
    for name in folder.list(WORK):
        if name.startswith(_CLEAN_UP):
            path = f"{WORK}/{name}"
            with suppress(FileNotFoundError):
                payload = folder.read_bytes(path, max_bytes=_MAX_BYTES)
                where = folder.where(path)
                mark = parse_versioned(
                    _Mark, payload, where=where, what="mark", newest=_FORMAT, max_bytes=_MAX_BYTES, is_sealed=True
                )
                if version in mark.versions:
                    return where
    return None


@contextmanager
def _marked(folder: IndexFolder, name: str, mark: _Mark) -> Iterator[None]:
    folder.write_bytes(work_name(name), sealed(mark))
    try:
        yield
    finally:
        with suppress(OSError):  # it grows old and is cleaned up
            folder.delete([work_name(name)])

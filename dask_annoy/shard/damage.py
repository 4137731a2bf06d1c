"""Damage that is met on the way: the error names the shard, and says what to run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dask_annoy.errors import CorruptIndexError
from dask_annoy.storage import IndexFolder, ShardEntry

__all__ = ["naming_the_shard"]


@contextmanager
def naming_the_shard(folder: IndexFolder, entry: ShardEntry) -> Iterator[None]:
    """Turn errors about damaged and missing files of a shard into ones that name it, and say how it can be mended."""
    try:
        yield
    except CorruptIndexError as error:
        raise CorruptIndexError(f"{error}. {_advice(folder, entry)}") from error
    except FileNotFoundError as error:
        missing = error.filename or error
        raise CorruptIndexError(
            f"{missing} is missing: it was deleted, or gc has given up the version that needs it. "
            f"{_advice(folder, entry)}"
        ) from error


def _advice(folder: IndexFolder, entry: ShardEntry) -> str:
    return (
        f"So the shard of slot {entry.slot} ({entry.live_items:,} items) of {folder} cannot be used: verify() "
        f"(dask annoy verify {folder} --full) says what else is damaged, and repair() (dask annoy repair {folder}) "
        "builds it again or publishes a version without it"
    )

"""The versions of an index: which there are, and the way back to one."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Final

from dask_annoy.errors import CommitConflictError, CorruptIndexError, FormatVersionError, IndexNotFoundError
from dask_annoy.storage import (
    IndexFolder,
    Manifest,
    at_work,
    commit,
    latest_version,
    list_versions,
    read_manifest,
    read_tags,
    read_version,
    signature,
)

__all__ = ["VersionInfo", "list_version_infos", "newest_sound", "open_manifest", "roll_back"]

#: Versions that are read to say which can be.
_MOST_LOOKED_AT: Final = 20


@dataclass(frozen=True)
class VersionInfo:
    """What is known of a version without opening it.

    Attributes
    ----------
    version : int
    created : datetime
        By the clock of the machine that committed it.
    operation : str
        How it came about: "build", "append", "delete", "upsert", "compact", "rollback", "copy" or "repair".
    items, deleted, shards, bytes : int
        Items that can be found, those that are deleted but still there, shards, and the bytes of their files.
    tags : tuple of str
    """

    version: int
    created: datetime.datetime
    operation: str
    items: int
    deleted: int
    shards: int
    bytes: int
    tags: tuple[str, ...]


def open_manifest(folder: IndexFolder, version: int | str | None = None) -> Manifest:
    """Read the manifest of a version; if it is damaged, the error says which versions can be read instead.

    Raises
    ------
    IndexNotFoundError, CorruptIndexError, FormatVersionError
        As `read_manifest`.
    """
    wanted = read_version(folder, version)
    try:
        return read_manifest(folder, wanted)
    except CorruptIndexError as error:
        raise CorruptIndexError(f"{error}. {_way_out(folder, newest_is_damaged=wanted is None)}") from error


def newest_sound(folder: IndexFolder) -> int | None:
    """The newest version whose manifest is not damaged; None if there is none."""
    return next((version for version in reversed(list_versions(folder)) if not _is_damaged(folder, version)), None)


def _way_out(folder: IndexFolder, *, newest_is_damaged: bool) -> str:
    versions = list_versions(folder)
    looked_at = versions[-_MOST_LOOKED_AT:]
    readable = [version for version in looked_at if _read_if_possible(folder, version) is not None]
    if not readable:
        beyond = f" of the newest {len(looked_at)}" if len(versions) > len(looked_at) else ""
        return f"No other version{beyond} can be read: restore the file, or build the index again"
    listed = ", ".join(map(str, readable))
    if not newest_is_damaged and versions[-1] == readable[-1]:
        return f"Versions that can be read: {listed}"
    best = readable[-1]
    return (
        f"Versions that can be read: {listed}. open_index({str(folder)!r}, version={best}) opens the newest of them, "
        f"and its rollback({best}) publishes it again as the newest version (dask annoy rollback {folder} {best})"
    )


def _read_if_possible(folder: IndexFolder, version: int) -> Manifest | None:
    try:
        return read_manifest(folder, version)
    except (CorruptIndexError, FormatVersionError, IndexNotFoundError):
        return None


def _is_damaged(folder: IndexFolder, version: int) -> bool:
    """Whether a manifest is damaged: one by a newer release is not, though it cannot be read."""
    try:
        read_manifest(folder, version)
    except CorruptIndexError:
        return True
    except (FormatVersionError, IndexNotFoundError):
        pass
    return False


def list_version_infos(folder: IndexFolder) -> list[VersionInfo]:
    """All versions that can be opened, oldest first. Damaged manifests are passed over, and damaged tags, too."""
    tags = read_tags(folder, only_sound=True)

    def read(version: int) -> VersionInfo | None:  # and not the manifest, which is a thousand times as large
        manifest = _read_if_possible(folder, version)
        if manifest is None:
            return None
        return VersionInfo(
            version=manifest.version,
            created=manifest.created,
            operation=manifest.operation,
            items=manifest.totals.items,
            deleted=manifest.totals.deleted,
            shards=manifest.totals.shards,
            bytes=manifest.totals.bytes,
            tags=tuple(sorted(tag for tag, named in tags.items() if named == manifest.version)),
        )

    return [info for info in folder.each(read, list_versions(folder)) if info is not None]


def roll_back(folder: IndexFolder, snapshot: Manifest, version: int | str) -> Manifest:
    """Commit a version after the snapshot that holds what an older one did; see `ShardedIndex.rollback`."""
    with at_work(folder, "rollback"):
        older = open_manifest(folder, version)
        newest = latest_version(folder) or snapshot.version
        # A version that nobody can read is nothing that would be undone.
        undone = newest_sound(folder) if newest != snapshot.version else newest
        if undone != snapshot.version:
            raise CommitConflictError(
                f"version {undone} of {folder} was committed after version {snapshot.version}, which is to be undone: "
                "open the index again and look at it first"
            )
        if older.version == newest:
            return older
        fields = {name: getattr(older, name) for name in Manifest.model_fields}
        fields |= {"version": newest + 1, "parent": snapshot.version, "operation": "rollback"}
        fields["change_id"] = None
        made = Manifest(**(fields | signature()))
        commit(folder, made)
        return made

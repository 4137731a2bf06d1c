"""The versions of an index: which there are, and the way back to one."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from dask_annoy.errors import CommitConflictError
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

__all__ = ["VersionInfo", "list_version_infos", "roll_back"]


@dataclass(frozen=True)
class VersionInfo:
    """What is known of a version without opening it.

    Attributes
    ----------
    version : int
    created : datetime
        By the clock of the machine that committed it.
    operation : str
        How it came about: "build", "append", "delete", "upsert", "compact", "rollback" or "copy".
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


def list_version_infos(folder: IndexFolder) -> list[VersionInfo]:
    """All versions that can be opened, oldest first."""
    tags = read_tags(folder)
    manifests = [read_manifest(folder, version) for version in list_versions(folder)]
    return [
        VersionInfo(
            version=manifest.version,
            created=manifest.created,
            operation=manifest.operation,
            items=manifest.totals.items,
            deleted=manifest.totals.deleted,
            shards=manifest.totals.shards,
            bytes=manifest.totals.bytes,
            tags=tuple(sorted(tag for tag, version in tags.items() if version == manifest.version)),
        )
        for manifest in manifests
    ]


def roll_back(folder: IndexFolder, snapshot: Manifest, version: int | str) -> Manifest:
    """Commit a version after the snapshot that holds what an older one did; see `ShardedIndex.rollback`."""
    with at_work(folder, "rollback"):
        older = read_manifest(folder, read_version(folder, version))
        newest = latest_version(folder)
        if newest != snapshot.version:
            raise CommitConflictError(
                f"version {newest} of {folder} was committed after version {snapshot.version}, which is to be undone: "
                "open the index again and look at it first"
            )
        if older.version == newest:
            return older
        fields = {name: getattr(older, name) for name in Manifest.model_fields}
        fields |= {"version": snapshot.version + 1, "parent": snapshot.version, "operation": "rollback"}
        fields["change_id"] = None
        made = Manifest(**(fields | signature()))
        commit(folder, made)
        return made

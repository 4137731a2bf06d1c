"""`ShardedIndex.copy` and `export`: the shards of one version, somewhere else."""

from __future__ import annotations

import json
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dask_annoy.cluster.executor import Executor, Place, Progress
from dask_annoy.cluster.places import check_reachable, check_writable
from dask_annoy.errors import CommitConflictError, IndexExistsError
from dask_annoy.shard import add_deletions, id_files, read_deletions
from dask_annoy.storage import (
    FOREST_FILE,
    FileEntry,
    IndexFolder,
    Manifest,
    ShardEntry,
    commit,
    file_entry,
    latest_version,
    shard_folder,
    shared_cache,
    signature,
)

__all__ = ["copy_version", "export_version"]

_DESCRIPTION = "index.json"


@dataclass(frozen=True)
class _Transfer:
    source: IndexFolder
    target: IndexFolder
    entry: ShardEntry
    id_type: Any


def copy_version(
    source: IndexFolder, manifest: Manifest, target: IndexFolder, executor: Executor, progress: Progress | None
) -> Manifest:
    """Copy a version into an empty folder, as the first version there; see `ShardedIndex.copy`."""
    check_writable(target, executor)
    if latest_version(target) is not None:
        raise IndexExistsError(f"{target} holds an index already: copy to another folder")
    tasks = [_Transfer(source, target, entry, manifest.id_type) for entry in manifest.shards]
    entries = executor.run(
        _copy_shard, tasks, label="copy", weights=[entry.bytes for entry in manifest.shards], progress=progress
    )
    fields = {name: getattr(manifest, name) for name in Manifest.model_fields}
    fields |= {"index_id": uuid.uuid4().hex, "version": 1, "parent": None, "operation": "copy", "change_id": None}
    made = Manifest(**(fields | {"shards": tuple(entries)} | signature()))
    try:
        commit(target, made)
    except CommitConflictError as conflict:
        raise IndexExistsError(f"{target} was given an index by another writer meanwhile") from conflict
    return made


def _copy_shard(task: _Transfer, place: Place) -> ShardEntry:  # noqa: ARG001 - needs nothing of its place
    """Copy a shard's files, verified on the way, to a folder that nobody else writes to."""
    attempt = uuid.uuid4().hex
    for file in task.entry.files:
        with shared_cache().lease(task.source, shard_folder(task.entry.uuid), [file]) as lease:
            task.target.upload(lease.path(file.name), f"{shard_folder(attempt)}/{file.name}")
    entry = task.entry.model_copy(update={"uuid": attempt, "deletions": None})
    deleted = read_deletions(task.source, task.entry)
    return add_deletions(task.target, entry, deleted) if len(deleted) else entry


def export_version(
    source: IndexFolder, manifest: Manifest, target: IndexFolder, executor: Executor, progress: Progress | None
) -> None:
    """Write Annoy files and ids that need no dask-annoy to be read; see `ShardedIndex.export`."""
    check_reachable(target, executor)
    if target.exists(_DESCRIPTION):
        raise IndexExistsError(f"{target} holds an export already: export to another folder")
    tasks = [_Transfer(source, target, entry, manifest.id_type) for entry in manifest.shards]
    exported: Sequence[Mapping[str, Any]] = executor.run(
        _export_shard, tasks, label="export", weights=[entry.bytes for entry in manifest.shards], progress=progress
    )
    description = {
        "format": "Annoy 1.17.3",
        "metric": manifest.metric,
        "width": manifest.width,
        "ids": manifest.id_type,
        "items": manifest.totals.items,
        "version": manifest.version,
        "shards": list(exported),
    }
    target.write_bytes(_DESCRIPTION, json.dumps(description, indent=2).encode())  # last: the export is whole


def _export_shard(task: _Transfer, place: Place) -> dict[str, Any]:
    entry, names = task.entry, [FOREST_FILE, *id_files(task.id_type)]
    by_name = {file.name: file for file in entry.files}
    exported: dict[str, Any] = {"items": entry.items, "deleted": entry.items - entry.live_items, "files": []}
    for name in names:
        with shared_cache().lease(task.source, shard_folder(entry.uuid), [by_name[name]]) as lease:
            task.target.upload(lease.path(name), _exported(entry, name))
        exported["files"].append(_described(by_name[name], _exported(entry, name)))
    deleted = read_deletions(task.source, entry)
    if len(deleted):
        with tempfile.TemporaryDirectory(prefix="dask-annoy-export-", dir=place.scratch) as scratch:
            path = Path(scratch, "deleted.npy")
            np.save(path, deleted)
            task.target.upload(path, _exported(entry, path.name))
            exported["files"].append(_described(file_entry(path), _exported(entry, path.name)))
    return exported


def _exported(entry: ShardEntry, name: str) -> str:
    """``00000003.ann`` and ``00000003.ids.npy`` for the files of slot 3."""
    return f"{entry.slot:08d}.{'ann' if name == FOREST_FILE else name}"


def _described(file: FileEntry, name: str) -> dict[str, Any]:
    return {"name": name, "bytes": file.bytes, "sha256": file.sha256}

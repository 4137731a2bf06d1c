"""`ShardedIndex.copy` and `export`: the shards of one version, somewhere else."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from dask_annoy.cluster.executor import Executor, Place, Progress
from dask_annoy.cluster.places import check_reachable, check_writable
from dask_annoy.errors import CommitConflictError, CorruptIndexError, IndexExistsError
from dask_annoy.shard import (
    CopyReceipt,
    add_deletions,
    id_files,
    list_receipts,
    naming_the_shard,
    read_copy_receipt,
    read_deletions,
    write_copy_receipt,
)
from dask_annoy.storage import (
    DELETIONS,
    FOREST_FILE,
    DeletionEntry,
    FileEntry,
    IndexFolder,
    Manifest,
    ShardEntry,
    at_work,
    commit,
    file_entry,
    latest_version,
    read_manifest,
    shard_folder,
    shared_cache,
    signature,
)

__all__ = ["copy_version", "export_version"]

_DESCRIPTION = "index.json"


@dataclass(frozen=True)
class _Transfer:
    """A shard on its way; `copy_id` and the names of `receipts` of earlier attempts are those of a copy."""

    source: IndexFolder
    target: IndexFolder
    entry: ShardEntry
    id_type: Any
    copy_id: str = ""
    receipts: tuple[str, ...] = ()


def copy_version(
    source: IndexFolder, manifest: Manifest, target: IndexFolder, executor: Executor, progress: Progress | None
) -> Manifest:
    """Copy a version into an empty folder, as the first version there; see `ShardedIndex.copy`."""
    check_writable(target, executor)
    with at_work(target, "copy"):
        copy_id = _copy_id(manifest)
        if (latest := latest_version(target)) is not None:
            standing = read_manifest(target, latest)
            if standing.operation == "copy" and standing.change_id == copy_id:
                return standing  # this very copy was finished before: its caller did not get to know
            raise IndexExistsError(f"{target} holds an index already: copy to another folder")
        receipts = list_receipts(target, copy_id)
        tasks = [
            _Transfer(source, target, entry, manifest.id_type, copy_id, receipts.get(entry.slot, ()))
            for entry in manifest.shards
        ]
        entries = executor.run(
            _copy_shard, tasks, label="copy", weights=[entry.bytes for entry in manifest.shards], progress=progress
        )
        fields = {name: getattr(manifest, name) for name in Manifest.model_fields}
        fields |= {"index_id": uuid.uuid4().hex, "version": 1, "parent": None, "operation": "copy"}
        fields |= {"change_id": copy_id, "shards": tuple(entries)}
        made = Manifest(**(fields | signature()))
        try:
            commit(target, made)
        except CommitConflictError as conflict:
            winner = read_manifest(target)
            if winner.operation == "copy" and winner.change_id == copy_id:
                return winner  # the same copy ran twice
            raise IndexExistsError(f"{target} was given an index by another writer meanwhile") from conflict
    return made


def _copy_id(manifest: Manifest) -> str:
    """The hash of what is copied: shards and deletion sets never change, so their uuids stand for them."""
    held = [(entry.slot, entry.uuid, entry.deletions.uuid if entry.deletions else "") for entry in manifest.shards]
    text = json.dumps([manifest.index_id, held])
    return f"copy-{hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}"


def _copy_shard(task: _Transfer, place: Place) -> ShardEntry:  # noqa: ARG001 - needs nothing of its place
    """Copy a shard's files, verified on the way, to a folder that nobody else writes to; a receipt says so, last."""
    for name in sorted(task.receipts):
        copied = _sound_copy(task, name)
        if copied is not None:
            return copied
    attempt = uuid.uuid4().hex
    with naming_the_shard(task.source, task.entry):
        for file in task.entry.files:
            with shared_cache().lease(task.source, shard_folder(task.entry.uuid), [file]) as lease:
                task.target.upload(lease.path(file.name), f"{shard_folder(attempt)}/{file.name}")
        entry = task.entry.model_copy(update={"uuid": attempt, "deletions": None})
        deleted = read_deletions(task.source, task.entry)
    if len(deleted):
        entry = add_deletions(task.target, entry, deleted)
    write_copy_receipt(task.target, CopyReceipt(copy_id=task.copy_id, entry=entry))
    return entry


def _sound_copy(task: _Transfer, name: str) -> ShardEntry | None:
    """The shard that a receipt of an earlier attempt speaks for, if it is what it should be, byte by byte."""
    receipt = read_copy_receipt(task.target, name)
    if receipt is None or receipt.copy_id != task.copy_id:
        return None
    entry = receipt.entry
    same = task.entry.model_copy(update={"uuid": entry.uuid, "deletions": entry.deletions})
    if entry != same or _content(entry.deletions) != _content(task.entry.deletions):
        return None
    try:
        for file in entry.files:
            shared_cache().lease(task.target, shard_folder(entry.uuid), [file], fresh=True).release()
        if entry.deletions is not None:
            shared_cache().lease(task.target, DELETIONS, [entry.deletions.file], fresh=True).release()
    except (CorruptIndexError, FileNotFoundError):
        return None
    return entry


def _content(deletions: DeletionEntry | None) -> tuple[int, str] | None:
    return None if deletions is None else (deletions.items, deletions.sha256)


def export_version(
    source: IndexFolder, manifest: Manifest, target: IndexFolder, executor: Executor, progress: Progress | None
) -> None:
    """Write Annoy files and ids that need no dask-annoy to be read; see `ShardedIndex.export`."""
    check_reachable(target, executor)
    if target.exists(_DESCRIPTION):
        raise IndexExistsError(f"{target} holds an export already: export to another folder")
    if latest_version(target) is not None:
        raise IndexExistsError(f"{target} holds an index: export to another folder")
    # Of an export that was killed: of another version it may have been, with more shards, or deletions.
    target.delete(file.name for file in target.files() if _EXPORTED.fullmatch(file.name))
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
    with naming_the_shard(task.source, entry):
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


_EXPORTED: Final = re.compile(r"[0-9]{8,}\.(ann|ids[a-z0-9.]*\.npy|deleted\.npy)")


def _exported(entry: ShardEntry, name: str) -> str:
    """``00000003.ann`` and ``00000003.ids.npy`` for the files of slot 3."""
    return f"{entry.slot:08d}.{'ann' if name == FOREST_FILE else name}"


def _described(file: FileEntry, name: str) -> dict[str, Any]:
    return {"name": name, "bytes": file.bytes, "sha256": file.sha256}

"""Versions: which there are, how one is read, how the next is committed."""

from __future__ import annotations

from dask_annoy.errors import CommitConflictError, CorruptIndexError, DaskAnnoyError, IndexNotFoundError
from dask_annoy.storage.folder import IndexFolder
from dask_annoy.storage.layout import VERSIONS, parse_version_name, version_name
from dask_annoy.storage.manifest import MAX_MANIFEST_BYTES, Manifest
from dask_annoy.storage.publish import put_if_absent

__all__ = ["commit", "latest_version", "list_versions", "read_manifest"]


def list_versions(folder: IndexFolder) -> list[int]:
    """The committed versions, ascending, listed afresh. Gaps are normal; other files are passed over."""
    parsed = (parse_version_name(name) for name in folder.list(VERSIONS))
    return sorted(version for version in parsed if version is not None)


def latest_version(folder: IndexFolder) -> int | None:
    """The newest committed version; None if there is none."""
    versions = list_versions(folder)
    return versions[-1] if versions else None


def read_manifest(folder: IndexFolder, version: int | None = None) -> Manifest:
    """Read and check the manifest of a version, by default of the newest.

    Raises
    ------
    IndexNotFoundError
        If there is no such version, or none at all.
    CorruptIndexError, FormatVersionError
        As `Manifest.parse`; also if the manifest is another version's.
    """
    if version is None:
        version = latest_version(folder)
        if version is None:
            raise IndexNotFoundError(f"there is no index at {folder}: no version is published under {VERSIONS}/")
    name = version_name(version)
    try:
        payload = folder.read_bytes(name, max_bytes=MAX_MANIFEST_BYTES)
    except FileNotFoundError:
        versions = list_versions(folder)
        found = f"the newest of {len(versions)} is {versions[-1]}" if versions else "there is none"
        raise IndexNotFoundError(f"there is no version {version} of the index at {folder}: {found}") from None
    manifest = Manifest.parse(payload, where=folder.where(name))
    if manifest.version != version:
        raise CorruptIndexError(f"{folder.where(name)} says that it is version {manifest.version}")
    return manifest


def commit(folder: IndexFolder, manifest: Manifest) -> None:
    """Publish a version. Committing the same manifest again, after a lost reply or a crash, succeeds.

    Raises
    ------
    CommitConflictError
        If another writer's manifest stands under this version, or a newer version is there already (an old
        number is not taken up again after a clean-up).
    UnsupportedStorageError
        If the backend cannot publish atomically.
    """
    name = version_name(manifest.version)
    payload = manifest.to_json()
    latest = latest_version(folder)
    if latest is not None and latest > manifest.version and not folder.exists(name):
        raise CommitConflictError(
            f"version {manifest.version} cannot be committed to {folder}: version {latest} is there already; "
            "start again from it"
        )
    if not put_if_absent(folder, name, payload):
        raise CommitConflictError(
            f"version {manifest.version} of {folder} was committed by {_writer(folder, manifest.version)} "
            f"before this writer ({manifest.writer}): start again from it"
        )


def _writer(folder: IndexFolder, version: int) -> str:
    try:
        return f"another writer ({read_manifest(folder, version).writer})"
    except (DaskAnnoyError, OSError):
        return "another writer"

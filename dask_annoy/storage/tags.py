"""Tags: names for versions that are to be kept. A tag is a small file, created exclusively and never rewritten."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from dask_annoy.errors import CommitConflictError, CorruptIndexError, IndexNotFoundError
from dask_annoy.storage.document import Document, parse_versioned, sealed
from dask_annoy.storage.folder import IndexFolder
from dask_annoy.storage.layout import TAGS, check_tag, tag_name
from dask_annoy.storage.publish import put_if_absent
from dask_annoy.storage.versions import read_manifest
from dask_annoy.storage.work import is_being_cleaned_up

__all__ = ["create_tag", "delete_tag", "read_tag", "read_tags", "read_version"]

_MAX_BYTES: Final = 4096
_FORMAT: Final = 1


class _Tag(Document):
    format_version: Annotated[int, Field(ge=1, le=_FORMAT)] = _FORMAT
    tag: str
    version: Annotated[int, Field(ge=1, le=2**63 - 1)]


def create_tag(folder: IndexFolder, tag: str, version: int) -> None:
    """Name a version. Doing it again does nothing.

    Raises
    ------
    CommitConflictError
        If the tag names another version: delete it first; or if the version is being cleaned up.
    IndexNotFoundError
        If there is no such version.
    """
    payload = sealed(_Tag(tag=check_tag(tag), version=version))
    put = put_if_absent(folder, tag_name(tag), payload)
    if not put:
        raise CommitConflictError(
            f"the tag {tag!r} of {folder} names version {read_tag(folder, tag)}: a tag is not moved; delete it first, "
            "or take another name"
        )
    try:
        if is_being_cleaned_up(folder, version):
            raise CommitConflictError(f"version {version} of {folder} is being cleaned up: it cannot be kept any more")
        read_manifest(folder, version)
    except (IndexNotFoundError, CommitConflictError):
        folder.delete([tag_name(tag)])
        raise


def read_tag(folder: IndexFolder, tag: str) -> int:
    """The version that a tag names.

    Raises
    ------
    IndexNotFoundError
        If there is no such tag.
    CorruptIndexError
        If its file is damaged.
    """
    name = tag_name(tag)
    try:
        payload = folder.read_bytes(name, max_bytes=_MAX_BYTES)
    except FileNotFoundError:
        known = ", ".join(_names(folder)) or "there are none"
        raise IndexNotFoundError(f"there is no tag {tag!r} of the index at {folder}: {known}") from None
    where = folder.where(name)
    found = parse_versioned(
        _Tag, payload, where=where, what="tag", newest=_FORMAT, max_bytes=_MAX_BYTES, is_sealed=True
    )
    if found.tag != tag:
        raise CorruptIndexError(f"{where} says that it is the tag {found.tag[:80]!r}")
    return found.version


def read_tags(folder: IndexFolder) -> dict[str, int]:
    """All tags and the versions that they name."""
    return {tag: read_tag(folder, tag) for tag in _names(folder)}


def delete_tag(folder: IndexFolder, tag: str) -> None:
    """Take a tag away; the version stays until it is cleaned up. IndexNotFoundError if there is no such tag."""
    read_tag(folder, tag)
    folder.delete([tag_name(tag)])


def read_version(folder: IndexFolder, version: int | str | None) -> int | None:
    """The number of a version that is given by its number, its tag, or None for the newest."""
    return read_tag(folder, version) if isinstance(version, str) else version


def _names(folder: IndexFolder) -> list[str]:
    names = (name.removesuffix(".json") for name in folder.list(TAGS) if name.endswith(".json"))
    return [name for name in names if _is_tag(name)]


def _is_tag(name: str) -> bool:
    try:
        check_tag(name)
    except ValueError:
        return False
    return True

"""Tags: names for versions that are to be kept. A tag is a small file, created exclusively and never rewritten."""

from __future__ import annotations

import uuid
from contextlib import suppress
from typing import Annotated, Final

from pydantic import Field

from dask_annoy.errors import CommitConflictError, CorruptIndexError, FormatVersionError, IndexNotFoundError
from dask_annoy.storage.document import Document, parse_versioned, sealed
from dask_annoy.storage.folder import IndexFolder
from dask_annoy.storage.layout import TAGS, check_tag, tag_name
from dask_annoy.storage.publish import put_if_absent
from dask_annoy.storage.versions import read_manifest
from dask_annoy.storage.work import announcement_of_clean_up

__all__ = ["create_tag", "delete_tag", "read_tag", "read_tags", "read_version"]

_MAX_BYTES: Final = 4096
_FORMAT: Final = 1


class _Tag(Document):
    format_version: Annotated[int, Field(ge=1, le=_FORMAT)] = _FORMAT
    tag: str
    version: Annotated[int, Field(ge=1, le=2**63 - 1)]
    #: Of the one call that put the file: of two calls for the same tag and version only one may take it back.
    writer: Annotated[str, Field(max_length=64)] = ""


def create_tag(folder: IndexFolder, tag: str, version: int) -> None:
    """Name a version. Doing it again does nothing: a tag that this call has not put is never taken away by it.

    Raises
    ------
    CommitConflictError
        If the tag names another version: delete it first; or if a clean-up has announced to take the version away.
    CorruptIndexError
        If there is a damaged tag of that name.
    IndexNotFoundError
        If there is no such version.
    """
    name = tag_name(check_tag(tag))
    is_mine = not folder.exists(name) and put_if_absent(
        folder, name, sealed(_Tag(tag=tag, version=version, writer=uuid.uuid4().hex))
    )
    if not is_mine:
        _check_names(folder, tag, version)
    # A standing tag is looked after, too: its writer may have been killed before it looked for a clean-up. One that it
    # looked after is in no announcement, as the clean-up leaves out what is tagged.
    try:
        announcement = announcement_of_clean_up(folder, version)
        if announcement is not None:
            raise CommitConflictError(
                f"version {version} of {folder} is being cleaned up, as {announcement} says: it cannot be kept any "
                "more. If that clean-up was killed, delete the file, and tag again"
            )
        read_manifest(folder, version)
    except Exception:
        if is_mine:
            with suppress(OSError):
                folder.delete([name])
        raise


def _check_names(folder: IndexFolder, tag: str, version: int) -> None:
    """Raise CommitConflictError unless a tag names this version."""
    try:
        named = read_tag(folder, tag)
    except IndexNotFoundError:
        raise CommitConflictError(
            f"the tag {tag!r} of {folder} was deleted while it was asked for again: tag again"
        ) from None
    if named != version:
        raise CommitConflictError(
            f"the tag {tag!r} of {folder} names version {named}: a tag is not moved; delete it first, or take "
            "another name"
        )


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
        raise _unknown(folder, tag) from None
    except CorruptIndexError as error:
        raise _damaged(folder, tag, error) from None
    where = folder.where(name)
    try:
        found = parse_versioned(
            _Tag, payload, where=where, what="tag", newest=_FORMAT, max_bytes=_MAX_BYTES, is_sealed=True
        )
        if found.tag != tag:
            raise CorruptIndexError(f"{where} says that it is the tag {found.tag[:80]!r}")
    except CorruptIndexError as error:
        raise _damaged(folder, tag, error) from None
    return found.version


def read_tags(folder: IndexFolder, *, only_sound: bool = False) -> dict[str, int]:
    """All tags and the versions that they name.

    Parameters
    ----------
    folder : IndexFolder
    only_sound : bool
        Pass over tags that are damaged or by a newer release, rather than raise `read_tag`'s errors.
    """
    found = {}
    for tag in _names(folder):
        try:
            found[tag] = read_tag(folder, tag)
        except IndexNotFoundError:  # deleted since the listing
            continue
        except (CorruptIndexError, FormatVersionError):
            if not only_sound:
                raise
    return found


def delete_tag(folder: IndexFolder, tag: str) -> None:
    """Take a tag away, a damaged one too; the version stays until it is cleaned up.

    Raises
    ------
    IndexNotFoundError
        If there is no such tag.
    """
    name = tag_name(tag)
    if not folder.exists(name):
        raise _unknown(folder, tag)
    folder.delete([name])


def read_version(folder: IndexFolder, version: int | str | None) -> int | None:
    """The number of a version that is given by its number, its tag, or None for the newest."""
    return read_tag(folder, version) if isinstance(version, str) else version


def _unknown(folder: IndexFolder, tag: str) -> IndexNotFoundError:
    known = ", ".join(_names(folder)) or "there are none"
    return IndexNotFoundError(f"there is no tag {tag!r} of the index at {folder}: {known}")


def _damaged(folder: IndexFolder, tag: str, error: CorruptIndexError) -> CorruptIndexError:
    return CorruptIndexError(
        f"{error}. untag({tag!r}) of the opened index takes it away (dask annoy untag {folder} {tag}); then the "
        "version that is to be kept can be tagged again"
    )


def _names(folder: IndexFolder) -> list[str]:
    names = (name.removesuffix(".json") for name in folder.list(TAGS) if name.endswith(".json"))
    return [name for name in names if _is_tag(name)]


def _is_tag(name: str) -> bool:
    try:
        check_tag(name)
    except ValueError:
        return False
    return True

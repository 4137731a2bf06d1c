"""The names of the files in an index folder, and what they mean. Names only: nothing here touches storage."""

from __future__ import annotations

import re
from typing import Final

from dask_annoy.storage.folder import check_name

__all__ = [
    "DELETIONS",
    "TAGS",
    "VERSIONS",
    "WORK",
    "check_tag",
    "deletion_name",
    "parse_receipt_name",
    "parse_version_name",
    "plan_name",
    "receipt_name",
    "receipts_folder",
    "sample_name",
    "shard_folder",
    "staging_folder",
    "tag_name",
    "version_name",
    "work_name",
]

#: The folder of the manifests.
VERSIONS: Final = "versions"
#: The folder of the sets of deleted items.
DELETIONS: Final = "deletions"
#: The folder of the names that users give to versions.
TAGS: Final = "tags"
#: The folder of the marks of writers at work.
WORK: Final = "work"

_DIGITS: Final = 20
_MAX_VERSION: Final = 2**63 - 1
_VERSION: Final = re.compile(r"(?:versions/)?([0-9]{20})\.json")
_RECEIPT: Final = re.compile(r"(?:builds/[A-Za-z0-9_-]+/)?(0|[1-9][0-9]{0,18})\.([A-Za-z0-9_-]{1,64})\.json")
_TAG: Final = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
_PART: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")


def version_name(version: int) -> str:
    """The manifest of a version: ``versions/00000000000000000001.json``."""
    if not 1 <= version <= _MAX_VERSION:
        raise ValueError(f"{version} is not a version number: versions count from 1")
    return f"{VERSIONS}/{version:0{_DIGITS}d}.json"


def parse_version_name(name: str) -> int | None:
    """The version number in a manifest's name (with or without its folder); None for any other name."""
    match = _VERSION.fullmatch(name)
    version = int(match[1]) if match else 0
    return version if 1 <= version <= _MAX_VERSION else None


def plan_name(build_id: str) -> str:
    """The plan of a build."""
    return f"{receipts_folder(build_id)}/plan.json"


def sample_name(build_id: str) -> str:
    """The sample of rows that was drawn with the plan of a build."""
    return f"{receipts_folder(build_id)}/sample.npy"


def receipts_folder(build_id: str) -> str:
    """The folder of a build: its plan, sample and receipts."""
    return f"builds/{_part(build_id, 'build id')}"


def receipt_name(build_id: str, slot: int, attempt: str) -> str:
    """The receipt of one attempt at one slot: ``builds/<build_id>/<slot>.<attempt>.json``."""
    if slot < 0:
        raise ValueError(f"{slot} is not a slot: slots count from 0")
    name = f"{receipts_folder(build_id)}/{slot}.{_part(attempt, 'attempt')}.json"
    if parse_receipt_name(name) is None:
        raise ValueError(f"{name} is not a receipt's name: the slot or the attempt is too long")
    return check_name(name)


def parse_receipt_name(name: str) -> tuple[int, str] | None:
    """The slot and the attempt in a receipt's name (with or without its folder); None for any other name."""
    match = _RECEIPT.fullmatch(name)
    return (int(match[1]), match[2]) if match else None


def shard_folder(uuid: str) -> str:
    """The folder of a shard's files."""
    return f"shards/{_part(uuid, 'shard uuid')}"


def deletion_name(uuid: str) -> str:
    """A set of deleted items."""
    return f"{DELETIONS}/{_part(uuid, 'deletions uuid')}.npy"


def check_tag(tag: str) -> str:
    """Return `tag` if it can name a version, else raise ValueError."""
    if not isinstance(tag, str) or not _TAG.fullmatch(tag):
        raise ValueError(
            f"{str(tag)[:80]!r} is not a tag: expected at most 64 of a-z, 0-9, '_', '-' and '.', the first a letter"
        )
    return tag


def tag_name(tag: str) -> str:
    """The file of a tag."""
    return f"{TAGS}/{check_tag(tag)}.json"


def work_name(uuid: str) -> str:
    """The mark of one writer at work."""
    return f"{WORK}/{_part(uuid, 'mark')}.json"


def staging_folder(staging_id: str) -> str:
    """The folder of the row parts of a Dask input; removed after the commit."""
    return f"staging/{_part(staging_id, 'staging id')}"


def _part(text: str, what: str) -> str:
    if not _PART.fullmatch(text):
        raise ValueError(f"{text[:80]!r} is not a {what}: expected letters, digits, '_' and '-'")
    return text

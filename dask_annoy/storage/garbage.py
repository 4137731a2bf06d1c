"""The clean-up: old versions that nobody keeps, and files that no version names. What it does not know, it leaves.

Others may be writing meanwhile. What is younger than any running writer stays. What is older can be named again by two
kinds of writers only: one that goes on with an earlier build, and one that goes back to an older version. Both leave a
mark first (`dask_annoy.storage.work`), then read. The clean-up takes the names away first (manifests, receipts, and a
build's plan and sample, whose names are fixed), then looks for marks and new versions, and only then deletes files:
either the writer has found no name, or its mark is seen. A writer that has left its mark just before the names are
taken may have found some that are gone by the time it commits: it puts back those of its build
(`dask_annoy.cluster.shard_tasks`).

Whoever tags a version puts the tag, then looks for a clean-up that has announced to take the version away; the clean-up
announces that, then looks for tags: at least one of the two sees the other and gives way. What was tagged before is
in no announcement, and is not taken, even if the tag goes meanwhile.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from dask_annoy.errors import IndexNotFoundError
from dask_annoy.storage.folder import IndexFolder, StoredFile
from dask_annoy.storage.layout import WORK, parse_receipt_name, parse_version_name, version_name
from dask_annoy.storage.local_files import TEMPORARY_PREFIX
from dask_annoy.storage.manifest import Manifest
from dask_annoy.storage.tags import read_tags
from dask_annoy.storage.versions import list_versions, read_manifest
from dask_annoy.storage.work import announced_clean_up

__all__ = ["Garbage", "collect_garbage"]

_HEX: Final = "[0-9a-f]{32}"
_SHARD: Final = re.compile(
    rf"shards/({_HEX})/(?:forest\.ann|cells\.bin|attributes\.parquet|ids\.[a-z0-9-]+\.npy|ids\.npy|ids\.arrow)"
)
_DELETIONS: Final = re.compile(rf"deletions/({_HEX})\.npy")
_BUILD: Final = re.compile(r"builds/([a-z0-9][a-z0-9_-]*)/(?:plan\.json|sample\.npy|[0-9]+\.[0-9a-f]{32}\.json)")
_STAGING: Final = re.compile(rf"staging/(?:{_HEX}/(?:wanted|[0-9]+\.{_HEX}\.(?:rows|ids)\.npy)|(?:probe|clock)-{_HEX})")
_MARK: Final = re.compile(rf"{WORK}/{_HEX}\.json")
_ANNOUNCEMENT: Final = re.compile(rf"{WORK}/gc-{_HEX}\.json")
_TAG: Final = re.compile(r"tags/[a-z][a-z0-9_.-]*\.json")
_UNFINISHED: Final = re.compile(rf"(?:[A-Za-z0-9_-][A-Za-z0-9_.-]*/)+{re.escape(TEMPORARY_PREFIX)}{_HEX}")


@dataclass(frozen=True)
class Garbage:
    """What a clean-up has deleted, or would delete.

    Attributes
    ----------
    versions : tuple of int
        Versions that are given up.
    kept_versions : tuple of int
    files : tuple of str
        Names of the files, those of the given-up versions among them.
    bytes : int
        Of all of them.
    unknown : tuple of str
        Files that dask-annoy has not written: they stay.
    is_dry_run : bool
        Whether nothing was deleted.
    held_back : bool
        Whether a writer is at work (or was killed lately). Then files stay for a later clean-up.
    """

    versions: tuple[int, ...]
    kept_versions: tuple[int, ...]
    files: tuple[str, ...]
    bytes: int
    unknown: tuple[str, ...]
    is_dry_run: bool
    held_back: bool


@dataclass
class _Names:
    """The shards and deletion sets that versions name."""

    shards: set[str] = field(default_factory=set)
    deletions: set[str] = field(default_factory=set)

    def add(self, manifest: Manifest) -> None:
        for shard in manifest.shards:
            self.shards.add(shard.uuid)
            if shard.deletions is not None:
                self.deletions.add(shard.deletions.uuid)


def collect_garbage(folder: IndexFolder, older_than: float, *, dry_run: bool = True) -> Garbage:
    """Delete what no kept version names.

    Kept are the newest version, those with a tag, and those that were the newest less than `older_than` ago.

    Parameters
    ----------
    folder : IndexFolder
    older_than : float
        Seconds, on the clock of the storage. More than the longest build takes: files that are younger may belong to a
        writer at work. 0 is right only when nobody writes.
    dry_run : bool
        Only say what would be deleted.

    Raises
    ------
    CorruptIndexError, FormatVersionError
        If a manifest or a tag cannot be read: what it names is not known, so nothing is deleted. A damaged tag can be
        taken away by `delete_tag`.
    """
    cutoff = folder.now() - older_than
    files = {file.name: file for file in folder.files()}
    versions = list_versions(folder)
    tagged = _tagged(folder, versions)
    safe = _recent(versions, files, cutoff) | tagged
    names = _names_of(folder, versions, safe)
    if _has_marks(files, cutoff) and not dry_run:
        return _garbage(files, [], versions, [], dry_run=False, held_back=True)
    with contextlib.ExitStack() as stack:
        if not dry_run:
            announced = [version for version in versions if version not in safe]
            stack.enter_context(announced_clean_up(folder, announced))
            late = _tagged(folder, versions) - safe
            for version in sorted(late):
                names.add(read_manifest(folder, version))
            safe |= late
        kept = sorted(safe)
        expired = [version for version in versions if version not in safe]
        builds = _old_builds(_files_by(_BUILD, files), names, cutoff)
        first = builds + [version_name(version) for version in expired]
        if not dry_run:
            if _has_marks(_work(folder), cutoff):  # reading all manifests takes a while
                return _garbage(files, [], versions, [], dry_run=False, held_back=True)
            folder.delete(first)
            # Marks before versions: a writer without a mark has committed, or will not find the names.
            if _has_marks(_work(folder), cutoff):
                return _garbage(files, expired, kept, first, dry_run=False, held_back=True)
            for version in sorted(set(list_versions(folder)) - set(versions)):
                names.add(read_manifest(folder, version))
                kept.append(version)
        second = _unnamed(files, names, cutoff) + _leftovers(files, cutoff)
        if not dry_run:
            folder.delete_found(second)
            folder.delete_empty(sorted({name.rpartition("/")[0] for name in builds}))
    return _garbage(files, expired, kept, first + second, dry_run=dry_run, held_back=_has_marks(files, cutoff))


def _tagged(folder: IndexFolder, versions: Sequence[int]) -> set[int]:
    """Those of the versions that have a tag, as tags are now."""
    return set(read_tags(folder).values()) & set(versions)


def _names_of(folder: IndexFolder, versions: Sequence[int], kept: Collection[int]) -> _Names:
    """What the kept versions name. All others are read, too, and let go: none may be unreadable.

    What another clean-up has deleted since the listing was not kept; if one of the kept is missing, that is an error.
    """

    def read(version: int) -> _Names:
        named = _Names()  # and not the manifest, which is a hundred times as large
        try:
            manifest = read_manifest(folder, version)
        except IndexNotFoundError:
            if version in kept:
                raise
        else:
            if version in kept:
                named.add(manifest)
        return named

    names = _Names()
    for named in folder.each(read, versions):
        names.shards |= named.shards
        names.deletions |= named.deletions
    return names


def _work(folder: IndexFolder) -> dict[str, StoredFile]:
    """The marks, as they are now."""
    return {file.name: file for file in folder.files(WORK)}


def _garbage(
    files: Mapping[str, StoredFile],
    expired: Sequence[int],
    kept: Sequence[int],
    gone: Sequence[str],
    *,
    dry_run: bool,
    held_back: bool,
) -> Garbage:
    return Garbage(
        versions=tuple(expired),
        kept_versions=tuple(kept),
        files=tuple(sorted(gone)),
        bytes=sum(files[name].bytes for name in gone if name in files),
        unknown=tuple(sorted(name for name in files if not _is_known(name))),
        is_dry_run=dry_run,
        held_back=held_back,
    )


def _recent(versions: Sequence[int], files: Mapping[str, StoredFile], cutoff: float) -> set[int]:
    """The newest version, and those whose successor came after the cutoff."""
    times = {version: files.get(version_name(successor)) for version, successor in pairwise(versions)}
    return {version for version in versions if (file := times.get(version)) is None or file.modified >= cutoff}


def _old_builds(builds: Mapping[str, Sequence[StoredFile]], names: _Names, cutoff: float) -> list[str]:
    """The plan and the sample of builds that have no receipt left, and receipts that name shards of no version.

    Builds with a young file are left alone, and what their receipts name is kept.
    """
    receipts: list[str] = []
    rest: list[str] = []
    for found in builds.values():
        attempts = {file.name: parsed[1] for file in found if (parsed := parse_receipt_name(file.name)) is not None}
        if any(file.modified >= cutoff for file in found):
            names.shards.update(attempts.values())
            continue
        old = [name for name, attempt in attempts.items() if attempt not in names.shards]
        receipts += old
        if len(old) == len(attempts):
            rest += [file.name for file in found if file.name not in attempts]
    # The rest first: the less time between the look for marks and its deletion, the better.
    return rest + receipts


def _unnamed(files: Mapping[str, StoredFile], names: _Names, cutoff: float) -> list[str]:
    """Files of shards and deletion sets that no version names; a shard goes when all its files are old."""
    gone = []
    for pattern, kept in ((_SHARD, names.shards), (_DELETIONS, names.deletions)):
        for uuid, found in _files_by(pattern, files).items():
            if uuid not in kept and all(file.modified < cutoff for file in found):
                gone += [file.name for file in found]
    return gone


def _leftovers(files: Mapping[str, StoredFile], cutoff: float) -> list[str]:
    """Row parts, probes, unfinished local files and marks that were left behind."""
    patterns = (_STAGING, _UNFINISHED, _MARK, _ANNOUNCEMENT)
    return [
        file.name
        for file in files.values()
        if file.modified < cutoff and any(pattern.fullmatch(file.name) for pattern in patterns)
    ]


def _has_marks(files: Mapping[str, StoredFile], cutoff: float) -> bool:
    """Whether there is a mark that is not too old to count."""
    return any(_MARK.fullmatch(file.name) and file.modified >= cutoff for file in files.values())


def _files_by(pattern: re.Pattern[str], files: Mapping[str, StoredFile]) -> dict[str, list[StoredFile]]:
    """The files whose name fits, by what the pattern's group is."""
    found: dict[str, list[StoredFile]] = {}
    for file in files.values():
        match = pattern.fullmatch(file.name)
        if match:
            found.setdefault(match[1], []).append(file)
    return found


def _is_known(name: str) -> bool:
    if name.startswith("versions/"):
        return parse_version_name(name) is not None or _UNFINISHED.fullmatch(name) is not None
    patterns = (_SHARD, _DELETIONS, _BUILD, _STAGING, _MARK, _ANNOUNCEMENT, _TAG, _UNFINISHED)
    return any(pattern.fullmatch(name) for pattern in patterns)

"""The next version of an index: made from the newest one, and made again when somebody else was faster."""

from __future__ import annotations

import datetime
import importlib.metadata
import uuid
from collections.abc import Callable, Sequence
from typing import Any, Final

from dask_annoy.errors import CommitConflictError
from dask_annoy.storage.folder import IndexFolder
from dask_annoy.storage.manifest import Manifest, Operation, ShardEntry, Totals
from dask_annoy.storage.versions import commit, read_manifest

__all__ = ["commit_change", "signature", "successor"]

#: Each failure means that somebody else has committed, so that all together always get on.
_ATTEMPTS: Final = 100


def signature() -> dict[str, Any]:
    """The fields of a manifest that say who wrote it and when, by this machine's clock."""
    return {
        "writer": uuid.uuid4().hex,
        "created": datetime.datetime.now(datetime.UTC),
        "library": f"dask-annoy {importlib.metadata.version('dask-annoy')}",
    }


def successor(manifest: Manifest, operation: Operation, shards: Sequence[ShardEntry], **fields: Any) -> Manifest:
    """The version after `manifest`, with other shards and fields; checked as a manifest that is read."""
    changed = {
        "version": manifest.version + 1,
        "parent": manifest.version,
        "operation": operation,
        "change_id": None,
        "shards": tuple(shards),
        "totals": Totals.of(shards),
        **signature(),
        **fields,
    }
    return Manifest(**{name: changed.get(name, getattr(manifest, name)) for name in Manifest.model_fields})


def commit_change(folder: IndexFolder, change: Callable[[Manifest], Manifest]) -> Manifest:
    """Commit what `change` makes of the newest version, and start again from a newer one if that came first.

    Parameters
    ----------
    folder : IndexFolder
    change : callable
        Given the newest manifest, returns its `successor` (or the manifest itself if there is nothing to change);
        raises CommitConflictError if the change cannot be made on it.

    Raises
    ------
    CommitConflictError
        If `change` does, or if others committed again and again in between.
    """
    last: CommitConflictError | None = None
    for _ in range(_ATTEMPTS):
        newest = read_manifest(folder)
        manifest = change(newest)
        if manifest is newest:
            return newest
        try:
            commit(folder, manifest)
        except CommitConflictError as conflict:
            last = conflict
        else:
            return manifest
    raise CommitConflictError(f"{folder} was changed by others {_ATTEMPTS} times in a row: try again later") from last

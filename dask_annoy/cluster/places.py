"""Where an index and its sources are: what the workers must be able to reach, and which options lead there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from dask_annoy.cluster.executor import Executor
from dask_annoy.errors import UnsupportedStorageError
from dask_annoy.storage import IndexFolder

__all__ = ["check_reachable", "check_writable", "options_for"]


def check_writable(folder: IndexFolder, executor: Executor) -> None:
    """Raise UnsupportedStorageError if a version cannot be published in the folder, or the workers do not see it."""
    if not folder.can_publish:
        folder.create("versions/none", b"refused")  # raises, and says why
    check_reachable(folder, executor)


def check_reachable(folder: IndexFolder, executor: Executor) -> None:
    """Raise UnsupportedStorageError if the folder is in this process and the workers are not."""
    if folder.protocol == "memory" and executor.is_remote:
        raise UnsupportedStorageError(
            f"{folder} is in the memory of this process, which the workers of the cluster do not share: "
            "give a folder or bucket that all of them can reach"
        )


def options_for(vectors: Any, folder: IndexFolder) -> Mapping[str, Any] | None:
    """The index's storage options, for a source on the same kind of storage."""
    if isinstance(vectors, (str, os.PathLike)):
        url = os.fspath(vectors)  # not as an IndexFolder, which refuses fsspec's caches
        if "::" not in url and url.partition("://")[0] == folder.protocol:
            return folder.storage_options
    return None

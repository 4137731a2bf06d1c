"""The errors of dask-annoy: one tree, and each class is also the builtin that fits.

::

    DaskAnnoyError
    ├── CorruptIndexError         OSError, ValueError   bytes that cannot be trusted
    ├── FormatVersionError        ValueError            written by a newer release
    ├── IndexNotFoundError        FileNotFoundError     nothing published under this URL
    ├── IndexExistsError          FileExistsError       another index is published there already
    ├── CommitConflictError       RuntimeError          another writer published first
    ├── CompactionError           RuntimeError          rewritten shards would have been worse
    ├── UnsupportedStorageError   NotImplementedError   a backend that cannot publish safely
    ├── InvalidVectorsError       ValueError            NaN, infinity, wrong width, ragged rows …
    ├── InvalidIdsError           ValueError            repeated ids, wrong type or number of ids
    └── MissingExtraError         ImportError           an optional dependency is not installed

    DaskAnnoyWarning
    └── UnfinishedBuildWarning    UserWarning           an earlier build is not continued, as something differs
"""

from __future__ import annotations

__all__ = [
    "CommitConflictError",
    "CompactionError",
    "CorruptIndexError",
    "DaskAnnoyError",
    "DaskAnnoyWarning",
    "FormatVersionError",
    "IndexExistsError",
    "IndexNotFoundError",
    "InvalidIdsError",
    "InvalidVectorsError",
    "MissingExtraError",
    "UnfinishedBuildWarning",
    "UnsupportedStorageError",
]


class DaskAnnoyError(Exception):
    """Base of all errors that dask-annoy raises on its own account."""


class DaskAnnoyWarning(UserWarning):
    """Base of all warnings of dask-annoy."""


class UnfinishedBuildWarning(DaskAnnoyWarning):
    """An earlier build into the same folder is not finished, and this one does not continue it: something differs."""


class CorruptIndexError(DaskAnnoyError, OSError, ValueError):
    """A file of an index is damaged, cut or forged: the message names the file and the reason."""


class FormatVersionError(DaskAnnoyError, ValueError):
    """A document was written by a newer release of dask-annoy than this one."""


class IndexNotFoundError(DaskAnnoyError, FileNotFoundError):
    """No version is published under the URL."""


class IndexExistsError(DaskAnnoyError, FileExistsError):
    """Another index is published under the URL and ``overwrite=True`` was not given."""


class CommitConflictError(DaskAnnoyError, RuntimeError):
    """Another writer published a version in the meantime."""


class CompactionError(DaskAnnoyError, RuntimeError):
    """Rewritten shards do not hold or find what the old ones did, so no version was published."""


class UnsupportedStorageError(DaskAnnoyError, NotImplementedError):
    """The storage backend has no atomic "create if absent", so publishing on it would not be safe."""


class InvalidVectorsError(DaskAnnoyError, ValueError):
    """Vectors that cannot be indexed: the message names the source and the first bad row."""


class InvalidIdsError(DaskAnnoyError, ValueError):
    """Ids that are repeated, of an unsupported type, or not as many as the vectors."""


class MissingExtraError(DaskAnnoyError, ImportError):
    """An optional dependency is needed: the message says which extra brings it."""

    def __init__(self, purpose: str, extra: str) -> None:
        super().__init__(f"{purpose} needs an optional dependency: pip install 'dask-annoy[{extra}]'")
        self.extra = extra

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str]]:
        purpose = str(self).split(" needs an optional dependency", 1)[0]
        return (type(self), (purpose, self.extra))

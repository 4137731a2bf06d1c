"""The local cache of shard files: remote ones are copied once and verified; local ones are used in place."""

from __future__ import annotations

import errno
import logging
import os
import tempfile
import threading
import uuid
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from dask_annoy.storage.checksum import check_file, check_size
from dask_annoy.storage.folder import IndexFolder
from dask_annoy.storage.local_files import DISK_FULL
from dask_annoy.storage.manifest import FileEntry
from dask_annoy.storage.private_directory import PrivateDirectory

__all__ = ["DEFAULT_MAX_BYTES", "CacheStats", "Lease", "ShardCache", "configure_cache", "shared_cache"]

#: Bound of the process-wide cache unless `configure_cache` says otherwise.
DEFAULT_MAX_BYTES: Final = 16 * 2**30

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CacheStats:
    """What a cache has done: remote files served from disk, downloaded and evicted; the bytes it holds."""

    hits: int
    downloads: int
    evictions: int
    bytes: int


class Lease:
    """Files that stay on local disk until `release`, the end of a ``with`` block, or garbage collection.

    Files that are mapped stay readable after that too, as the kernel keeps an open file.
    """

    def __init__(self, paths: dict[str, Path], release: Callable[[], None], collected: Callable[[], None]) -> None:
        self._paths = paths
        self._release = release
        self._finalizer = weakref.finalize(self, collected)
        self._finalizer.atexit = False

    def path(self, file_name: str) -> Path:
        """The local path of a leased file; KeyError if it was not asked for, ValueError after the release."""
        if not self._finalizer.alive:
            raise ValueError(f"the lease of {file_name} was released")
        return self._paths[file_name]

    def release(self) -> None:
        """Let the cache evict the files. Releasing again does nothing."""
        if self._finalizer.detach() is not None:
            self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class ShardCache:
    """A byte-bounded cache of verified files, for all threads of one process.

    Remote files lie under their checksum in a private folder and are evicted least-recently-used first, but
    never while leased: where leased files alone exceed the bound, the cache goes over it and logs that once.
    Files of local folders are verified once and served in place.

    Parameters
    ----------
    directory : Path, optional
        Where to put the private folder: a local disk. By default a folder of the user's in the temporary
        directory.
    max_bytes : int
        The bound on the bytes of remote files.
    """

    def __init__(self, directory: Path | None = None, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        if max_bytes < 1:
            raise ValueError(f"max_bytes is {max_bytes}: a cache needs room")
        self.directory = directory or _default_directory()
        self.max_bytes = max_bytes
        self._state = _State(self.directory, max_bytes)

    def lease(self, folder: IndexFolder, prefix: str, files: Sequence[FileEntry], *, fresh: bool = False) -> Lease:
        """Bring files of `folder` to local disk, verified, and keep them there as long as the lease lives.

        Parameters
        ----------
        folder : IndexFolder
        prefix : str
            The folder of the files inside the index folder, such as ``shard_folder(uuid)``.
        files : sequence of FileEntry
        fresh : bool
            Check what is in storage now, even if the same content is here, or was checked before: for who wants to know
            whether the stored files are sound, not to read them.

        Raises
        ------
        CorruptIndexError
            If a file has another size or checksum than its entry; nothing of it is kept.
        FileNotFoundError
            If a file is missing.
        OSError
            If the local disk is full even after everything that is not leased was evicted.
        """
        state = self._own_state()
        if folder.is_local:
            paths = {entry.name: state.verify(folder, f"{prefix}/{entry.name}", entry, fresh=fresh) for entry in files}
            return Lease(paths, _nothing, _nothing)
        held: list[_Entry] = []
        try:
            for file in files:  # not a comprehension: if one fails, those before it are to be released
                held.append(state.acquire(folder, f"{prefix}/{file.name}", file, fresh=fresh))  # noqa: PERF401
        except BaseException:
            state.release(held)
            raise
        paths = {file.name: entry.path for file, entry in zip(files, held, strict=True)}
        return Lease(paths, lambda: state.release(held), lambda: state.release_later(held))

    def stats(self) -> CacheStats:
        """What the cache has done in this process so far."""
        return self._own_state().stats()

    def _own_state(self) -> _State:
        # A forked child must not share folder, locks or leases with its parent.
        if self._state.pid != os.getpid():
            with _process.lock:
                if self._state.pid != os.getpid():
                    self._state = _State(self.directory, self.max_bytes)
        return self._state


@dataclass(eq=False)
class _Entry:
    """One remote file on local disk, or on its way there."""

    key: tuple[str, str, int]
    path: Path
    bytes: int
    leases: int = 1
    ready: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None


class _State:
    """Everything of a cache that changes, in one process."""

    def __init__(self, directory: Path, max_bytes: int) -> None:
        self.pid = os.getpid()
        self._parent = directory
        self._max_bytes = max_bytes
        self._private: PrivateDirectory | None = None
        self._lock = threading.Lock()
        self._entries: OrderedDict[tuple[str, str, int], _Entry] = OrderedDict()  # least recently used first
        self._collected: deque[list[_Entry]] = deque()
        self._bytes = self._hits = self._downloads = self._evictions = 0
        self._has_warned = False
        self._verified: set[tuple[object, ...]] = set()
        self._gates: dict[Path, threading.Lock] = {}

    # Remote files

    def acquire(self, folder: IndexFolder, name: str, file: FileEntry, *, fresh: bool = False) -> _Entry:
        """Return a leased entry whose file is in place; downloads it unless another thread does."""
        while True:
            entry, is_new = self._enter(file)
            if is_new:
                self._fetch(folder, name, file, entry)
                return entry
            try:
                entry.ready.wait()
            except BaseException:
                self.release([entry])
                raise
            if entry.error is None:
                with self._locked():
                    self._hits += 1
                if fresh:  # the content is here, perhaps by way of another folder: it says nothing of this one
                    self._check_stored(folder, name, file, entry)
                return entry
            if isinstance(entry.error, Exception):  # an interrupt is the other thread's alone: try again
                raise entry.error

    def release(self, entries: Sequence[_Entry]) -> None:
        """End a lease and evict what is over the bound."""
        if self.pid == os.getpid():  # a forked child leaves its parent's files alone
            with self._locked():
                self._drop(entries)

    def release_later(self, entries: list[_Entry]) -> None:
        """End a lease from the garbage collector, which may run in a thread that holds the lock."""
        if self.pid != os.getpid():
            return
        self._collected.append(entries)
        if self._lock.acquire(blocking=False):
            try:
                self._drop_collected()
            finally:
                self._lock.release()

    def stats(self) -> CacheStats:
        with self._locked():
            return CacheStats(self._hits, self._downloads, self._evictions, self._bytes)

    def _enter(self, file: FileEntry) -> tuple[_Entry, bool]:
        """Lease the entry of a file; the one for whom it is new must fetch it."""
        key = (file.sha256, file.name, file.bytes)
        with self._locked():
            entry = self._entries.get(key)
            if entry is not None and entry.ready.is_set() and not entry.path.exists():
                self._evict(entry)  # a cleaner of temporary folders was here
                entry = None
            if entry is not None:
                entry.leases += 1
                self._entries.move_to_end(key)
                return entry, False
            if self._private is None or not self._private.path.is_dir():  # a cleaner may have taken the folder, too
                self._private = PrivateDirectory(self._parent)
            entry = _Entry(key, self._private.path / f"{file.sha256}-{file.name}", file.bytes)
            self._evict_down_to(self._max_bytes - entry.bytes)
            self._entries[key] = entry
            self._bytes += entry.bytes
            if self._bytes > self._max_bytes and not self._has_warned:
                self._has_warned = True
                logger.warning(
                    "the shard files in use take %d bytes on local disk in %s, and the bound is %d bytes: "
                    "raise it or open fewer shards at once",
                    self._bytes, self._parent, self._max_bytes,
                )  # fmt: skip
            return entry, True

    def _fetch(self, folder: IndexFolder, name: str, file: FileEntry, entry: _Entry) -> None:
        try:
            self._bring(folder, name, file, entry.path)
        except BaseException as error:
            with self._locked():
                del self._entries[entry.key]
                self._bytes -= entry.bytes
            entry.error = error
            entry.ready.set()
            raise
        with self._locked():
            self._downloads += 1
        entry.ready.set()

    def _check_stored(self, folder: IndexFolder, name: str, file: FileEntry, entry: _Entry) -> None:
        copy = entry.path.with_name(f"{uuid.uuid4().hex}.check")
        try:
            self._bring(folder, name, file, copy)
        except BaseException:
            self.release([entry])
            raise
        finally:
            copy.unlink(missing_ok=True)

    def _bring(self, folder: IndexFolder, name: str, file: FileEntry, path: Path) -> None:
        """Download and check a file, with everything evicted that is not in use if the disk is full."""
        try:
            _download(folder, name, file, path)
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            with self._locked():
                self._evict_down_to(0)
            self._retry_on_full_disk(folder, name, file, path)

    def _retry_on_full_disk(self, folder: IndexFolder, name: str, file: FileEntry, path: Path) -> None:
        try:
            _download(folder, name, file, path)
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            raise OSError(
                error.errno,
                f"no room in {self._parent} on the local disk for the {file.bytes} bytes of "
                f"{folder.where(name)}, with everything evicted that is not in use: free space there or "
                "configure another cache directory",
            ) from error

    def _drop(self, entries: Sequence[_Entry]) -> None:
        for entry in entries:
            entry.leases -= 1
            if entry.leases == 0 and entry.bytes > self._max_bytes:
                self._evict(entry)  # it would push everything else out
        self._evict_down_to(self._max_bytes)

    def _drop_collected(self) -> None:
        while self._collected:
            self._drop(self._collected.popleft())

    def _evict_down_to(self, max_bytes: int) -> None:
        for entry in list(self._entries.values()):
            if self._bytes <= max_bytes:
                return
            if entry.leases == 0:
                self._evict(entry)

    def _evict(self, entry: _Entry) -> None:
        if self._entries.get(entry.key) is entry:
            del self._entries[entry.key]
            self._bytes -= entry.bytes
            self._evictions += 1
            entry.path.unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._lock:
            self._drop_collected()
            yield
            self._drop_collected()

    # Local files

    def verify(self, folder: IndexFolder, name: str, file: FileEntry, *, fresh: bool = False) -> Path:
        """Return the path of a local file, checked once for as long as it is the same file; always if `fresh`."""
        path = folder.local_path(name)
        with self._locked():
            gate = self._gates.setdefault(path, threading.Lock())
        with gate:
            before = _identity(path, file)
            if fresh or before not in self._verified:
                self._verified.discard(before)
                check_file(path, file, where=folder.where(name))
                if _identity(path, file) == before:  # else it was changed meanwhile: check again next time
                    self._verified.add(before)
        return path


def _identity(path: Path, file: FileEntry) -> tuple[object, ...]:
    status = path.stat()
    return (
        str(path),
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        file.bytes,
        file.sha256,
    )


def _download(folder: IndexFolder, name: str, file: FileEntry, path: Path) -> None:
    check_size(folder.size(name), file, where=folder.where(name))  # before a forged one fills the disk
    temporary = path.with_name(f"{uuid.uuid4().hex}.part")
    try:
        folder.download(name, temporary, size=file.bytes)
        check_file(temporary, file, where=folder.where(name))
        temporary.replace(path)
    except FileNotFoundError as error:
        if path.parent.is_dir():
            raise
        # Not to be taken for a file that is missing in storage.
        raise OSError(
            errno.EIO,
            f"the folder of the local cache, {path.parent}, was removed while {folder.where(name)} was fetched: run "
            "the same again, and keep cleaners of temporary files from it",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _default_directory() -> Path:
    directory = Path(tempfile.gettempdir(), f"dask-annoy-cache-{os.geteuid()}")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if directory.lstat().st_uid != os.geteuid():
        # Its owner could swap files after they were verified.
        raise PermissionError(f"{directory} belongs to another user: configure another cache directory")
    return directory


def _nothing() -> None:
    pass


class _Process:
    """The cache of this process and its settings."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.directory: Path | None = None
        self.max_bytes = DEFAULT_MAX_BYTES
        self.cache: ShardCache | None = None

    def after_fork(self) -> None:
        self.lock = threading.Lock()


_process = _Process()
os.register_at_fork(after_in_child=_process.after_fork)


def configure_cache(directory: Path | None = None, max_bytes: int = DEFAULT_MAX_BYTES) -> ShardCache:
    """Set the folder and the bound of the process-wide cache and return it.

    With other settings than before a new cache takes over; leases of the old one stay good.
    """
    with _process.lock:
        current = _process.cache
        if current is None or (_process.directory, _process.max_bytes) != (directory, max_bytes):
            current = ShardCache(directory, max_bytes)
            _process.directory, _process.max_bytes, _process.cache = directory, max_bytes, current
        return current


def shared_cache() -> ShardCache:
    """The process-wide cache: as configured, or with the defaults."""
    with _process.lock:
        if _process.cache is None:
            _process.cache = ShardCache(_process.directory, _process.max_bytes)
        return _process.cache

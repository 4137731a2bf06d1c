"""`IndexFolder`: the folder of an index at any fsspec URL; the storage layer's one door to fsspec."""

from __future__ import annotations

import builtins
import errno
import os
import re
import shutil
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from fsspec.core import split_protocol
from fsspec.implementations.local import LocalFileSystem

from dask_annoy.errors import CorruptIndexError, UnsupportedStorageError
from dask_annoy.storage.local_files import TEMPORARY_PREFIX, staged
from dask_annoy.vectors.client_errors import as_os_errors
from dask_annoy.vectors.filesystem import open_filesystem, public_url
from dask_annoy.vectors.patience import ask

__all__ = ["IndexFolder", "StoredFile", "check_name"]

_PART: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
_MAX_NAME: Final = 512
_LOCAL: Final = frozenset({"", "file", "local"})
_MEMORY: Final = frozenset({"memory"})
_CONDITIONAL_PUT: Final = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss"})
_CACHES: Final = frozenset({"simplecache", "filecache", "blockcache", "cached"})
_NO_HARD_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
_THREADS: Final = 8

Item = TypeVar("Item")
Answer = TypeVar("Answer")

# fsspec's memory store looks and then writes: exclusive only under a lock.
_memory_lock = threading.Lock()
os.register_at_fork(after_in_child=lambda: globals().update(_memory_lock=threading.Lock()))


def check_name(name: str) -> str:
    """Return `name` if it is a plain relative path that cannot leave a folder, else raise ValueError."""
    if not isinstance(name, str) or len(name) > _MAX_NAME or not all(map(_PART.fullmatch, name.split("/"))):
        raise ValueError(
            f"{str(name)[:80]!r} is not a name in an index folder: expected parts of letters, digits, '_', "
            "'-' and '.', joined by '/', none of which starts with a dot"
        )
    return name


@dataclass(frozen=True, order=True)
class StoredFile:
    """A file in an index folder: its name there, its size, and when it was written.

    `modified` is in seconds since 1970 on the storage's own clock: compare it with `IndexFolder.now` only.
    """

    name: str
    bytes: int
    modified: float


@dataclass(frozen=True, repr=False)
class IndexFolder:
    """A folder at an fsspec URL: a small picklable description; the connection is made lazily, per process.

    Names are relative POSIX paths and are checked (`check_name`): nothing that a manifest says can leave the
    folder. On local disk a half-written file is never visible under its final name. A remote server that does not
    answer is a TimeoutError after some minutes: see `dask_annoy.vectors.patience`. All errors of storage are OSErrors.

    Parameters
    ----------
    url : str
        A local path or an fsspec URL. Local paths are made absolute. fsspec's caching layers
        (``simplecache::`` …) are refused: they serve cut files and overwrite published ones.
    storage_options : mapping, optional
        Passed to the filesystem. Never shown in a repr or message, nor are credentials inside the URL.
    allow_unsafe_publish : bool
        Publish also where storage cannot create a file exclusively (SFTP, WebHDFS, a disk without hard links …), by
        looking whether the name is free and then writing. Safe only while there is a single writer: of two that publish
        at the same time one can overwrite the other, and a killed one can leave a cut manifest.
    """

    url: str
    storage_options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    allow_unsafe_publish: bool = False

    def __post_init__(self) -> None:
        url = os.fspath(self.url)
        if not url:
            raise ValueError("the URL of an index folder is empty")
        layers = {split_protocol(part)[0] or part for part in url.split("::")}
        if "::" in url and layers & _CACHES:
            raise UnsupportedStorageError(
                f"{public_url(url)} goes through a cache of fsspec, which can serve incomplete files and "
                "overwrite published ones: give the URL without it (dask-annoy keeps its own verified local "
                "cache)"
            )
        if "::" not in url and (split_protocol(url)[0] or "") in _LOCAL:
            url = str(LocalFileSystem._strip_protocol(url))
        object.__setattr__(self, "url", url)
        object.__setattr__(self, "storage_options", dict(self.storage_options or {}))

    def __repr__(self) -> str:
        return f"IndexFolder({self.display_url!r})"

    def __str__(self) -> str:
        return self.display_url

    def __getstate__(self) -> dict[str, Any]:
        return {
            "url": self.url,
            "storage_options": self.storage_options,
            "allow_unsafe_publish": self.allow_unsafe_publish,
        }

    @property
    def display_url(self) -> str:
        """The URL without credentials, for messages."""
        return public_url(self.url)

    @property
    def protocol(self) -> str:
        """The URL's scheme; ``"file"`` for local paths, and the whole chain for chained URLs."""
        if "::" in self.url:
            return "::".join(split_protocol(part)[0] or part for part in self.url.split("::"))
        return split_protocol(self.url)[0] or "file"

    @property
    def is_local(self) -> bool:
        """Whether the files are on a mounted file system and can be mapped in place."""
        return self.protocol in _LOCAL

    @property
    def has_conditional_put(self) -> bool:
        """Whether `create` relies on the server to honour a condition sent with the request."""
        return self.protocol in _CONDITIONAL_PUT

    @property
    def has_atomic_create(self) -> bool:
        """Whether the backend is known to have an atomic "create if absent"."""
        return self.is_local or self.has_conditional_put or self.protocol in _MEMORY

    @property
    def can_publish(self) -> bool:
        """Whether `create` works here: atomically, or because the user has accepted that it does not."""
        return self.has_atomic_create or self.allow_unsafe_publish

    def where(self, name: str) -> str:
        """The file's full address without credentials, for messages."""
        return f"{self.display_url.rstrip('/')}/{name}"

    def local_path(self, name: str) -> Path:
        """The path of `name` in a local folder; ValueError for a remote one."""
        if not self.is_local:
            raise ValueError(f"{self.where(name)} is not on a local file system")
        return Path(self.url, check_name(name))

    # Reading

    def read_bytes(self, name: str, *, max_bytes: int | None = None) -> bytes:
        """Read a whole file.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        CorruptIndexError
            If it is larger than `max_bytes`.
        """
        size = self.size(name)
        if max_bytes is not None and size > max_bytes:
            raise CorruptIndexError(f"{self.where(name)} has {size} bytes, more than the {max_bytes} expected at most")
        if self.is_local:
            with self.local_path(name).open("rb") as file:
                return file.read(size)
        if size == 0:  # a range request on an empty object is an error
            return b""
        fs, path = self._remote(name)
        payload: bytes = ask(fs, "cat_file", path, start=0, end=size, where=self.where(name), transferred=size)
        return payload

    def download(self, name: str, local_path: Path, *, size: int | None = None) -> None:
        """Copy a file to `local_path`, which must be a private name: on failure it is removed.

        How long it may take follows from its size in bytes, which is looked up if it is not given.
        """
        try:
            if self.is_local:
                shutil.copyfile(self.local_path(name), local_path)
                return
            fs, path = self._remote(name)
            if self.protocol in _MEMORY:  # its open files share one position between threads
                local_path.write_bytes(fs.cat_file(path))
            else:
                transferred = self.size(name) if size is None else size
                ask(fs, "get_file", path, str(local_path), where=self.where(name), transferred=transferred)
        except BaseException:
            local_path.unlink(missing_ok=True)
            raise

    def list(self, name: str) -> builtins.list[str]:
        """The sorted names of the files directly below the folder `name`; [] if there is no such folder."""
        if self.is_local:
            try:
                with os.scandir(self.local_path(name)) as entries:
                    found = [entry.name for entry in entries if entry.is_file()]
            except (FileNotFoundError, NotADirectoryError):
                return []
        else:
            fs, path = self._remote(name)
            try:
                listed = ask(fs, "ls", path, detail=True, where=self.where(name))
            except (FileNotFoundError, NotADirectoryError):
                return []
            # An object store also lists a folder's marker, or the path itself if that is a file.
            parent = path.strip("/") + "/"
            files = [str(entry["name"]).lstrip("/") for entry in listed if entry["type"] == "file"]
            found = [file.removeprefix(parent) for file in files if file.startswith(parent)]
        return sorted(file for file in found if _PART.fullmatch(file))

    def files(self, name: str | None = None) -> builtins.list[StoredFile]:
        """All files below the folder `name`, or of the whole index folder, whoever wrote them; sorted by name.

        For going through what there is: a name in the answer need not be one that the other methods accept. A file that
        goes meanwhile may be missing or not.
        """
        if self.is_local:
            return sorted(_local_files(Path(self.url), self.local_path(name) if name else Path(self.url)))
        fs, path = self._remote(name) if name else (self._filesystem()[0], self._filesystem()[1])
        fs.invalidate_cache()
        root = self._filesystem()[1].strip("/") + "/"
        parent = path.strip("/") + "/"
        try:
            found = ask(fs, "find", path, detail=True, where=self.where(name) if name else self.display_url)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(
            StoredFile(
                file.lstrip("/").removeprefix(root), int(info["size"] or 0), _modified(fs, file, info, self.display_url)
            )
            for file, info in found.items()
            if info.get("type") == "file" and file.lstrip("/").startswith(parent)
        )

    def now(self) -> float:
        """The time on the clock that dates the files, in seconds since 1970: writes a small file and looks at it."""
        name = f"staging/clock-{uuid.uuid4().hex}"
        self.write_bytes(name, b"now")
        try:
            return next(file.modified for file in self.files("staging") if file.name == name)
        finally:
            with suppress(OSError):  # it grows old and is cleaned up
                self.delete([name])

    def exists(self, name: str) -> bool:
        """Whether there is a file of this name. Unlike fsspec's, it does not take an error for a no."""
        try:
            self.size(name)
        except FileNotFoundError:
            return False
        return True

    def size(self, name: str) -> int:
        """The file's size in bytes; FileNotFoundError if there is no such file."""
        if self.is_local:
            path = self.local_path(name)
            if path.is_file():
                return path.stat().st_size
        else:
            fs, remote = self._remote(name)
            with suppress(FileNotFoundError, NotADirectoryError):
                info = ask(fs, "info", remote, where=self.where(name))
                if info["type"] == "file":
                    return int(info["size"])
        raise FileNotFoundError(errno.ENOENT, "No such file", self.where(name))

    def each(self, read: Callable[[Item], Answer], items: Iterable[Item]) -> Iterator[Answer]:
        """What `read` gives for each item, in order; a few at a time where storage is remote."""
        if not self.has_conditional_put:
            yield from map(read, items)
            return
        with ThreadPoolExecutor(_THREADS) as pool:
            yield from pool.map(read, items)

    # Writing

    def write_bytes(self, name: str, payload: bytes) -> None:
        """Write a file under a name that nobody else uses (an attempt's, a uuid's)."""
        if self.is_local:
            path = self.local_path(name)
            with staged(path, lambda file: file.write(payload)) as temporary:
                temporary.replace(path)
            return
        fs, remote = self._writable(name)
        ask(fs, "pipe_file", remote, payload, where=self.where(name), transferred=len(payload))

    def upload(self, local_path: Path, name: str) -> None:
        """Copy a local file to a name that nobody else uses."""
        if self.is_local:
            path = self.local_path(name)
            with (
                local_path.open("rb") as source,
                staged(path, lambda file: shutil.copyfileobj(source, file, 1 << 20)) as temporary,
            ):
                temporary.replace(path)
            return
        fs, remote = self._writable(name)
        size = local_path.stat().st_size
        ask(fs, "put_file", str(local_path), remote, where=self.where(name), transferred=size)

    def create(self, name: str, payload: bytes) -> None:
        """Write a file only if the name is free, whole or not at all.

        What an error means is for `put_if_absent` to find out: the request may have been carried out anyway.

        Raises
        ------
        FileExistsError
            If the name is taken.
        UnsupportedStorageError
            If the backend has no atomic way to do it.
        """
        if not self.can_publish:
            raise UnsupportedStorageError(
                f"{self.display_url} is on a backend ({self.protocol}) that is not known to create a file "
                "atomically only if it is absent, so two writers could overwrite each other: publish to a "
                "local or NFS folder, S3, Google Cloud Storage or Azure, and copy the finished folder; it "
                "can be read from here. If nobody else ever writes to it, allow_unsafe_publish=True publishes all "
                "the same"
            )
        if not payload:  # s3fs overwrites an existing object with an empty one
            raise ValueError(f"{self.where(name)} cannot be created empty")
        if self.is_local:
            self._create_by_link(self.local_path(name), payload)
            return
        fs, remote = self._remote(name)
        if self.protocol in _MEMORY:
            with _memory_lock:
                fs.pipe_file(remote, payload, mode="create")
        elif self.has_conditional_put:
            ask(fs, "pipe_file", remote, payload, mode="create", where=self.where(name), transferred=len(payload))
        else:
            if self.exists(name):
                raise FileExistsError(errno.EEXIST, "File exists", self.where(name))
            self._writable(name)
            ask(fs, "pipe_file", remote, payload, where=self.where(name), transferred=len(payload))

    def delete(self, names: Iterable[str]) -> None:
        """Delete files; those that are not there are passed over."""
        names = [check_name(name) for name in names]
        if self.is_local:
            for name in names:
                with suppress(FileNotFoundError, NotADirectoryError):
                    self.local_path(name).unlink()
        elif names:
            # One by one: fsspec's rm takes '*' or '[' anywhere in the path for a pattern.
            self._delete_remote([self._remote(name)[1] for name in names])

    def delete_found(self, names: Iterable[str]) -> None:
        """Delete files by the names that `files` gave, unfinished ones too; and local folders that are then empty."""
        if not self.is_local:
            self.delete(names)
            return
        for name in names:
            check_name(name.replace(f"/{TEMPORARY_PREFIX}", "/"))
            path = Path(self.url, name)
            with suppress(FileNotFoundError, NotADirectoryError):
                path.unlink()
            if path.parent.parent != Path(self.url):
                with suppress(OSError):  # not empty
                    path.parent.rmdir()

    def delete_empty(self, folders: Iterable[str]) -> None:
        """Delete local folders that are empty; elsewhere there are none."""
        for name in folders if self.is_local else ():
            with suppress(OSError):  # not empty, or gone
                self.local_path(name).rmdir()

    def delete_tree(self, name: str) -> None:
        """Delete everything below the folder `name`; nothing happens if it is not there."""
        if self.is_local:
            with suppress(FileNotFoundError, NotADirectoryError):
                shutil.rmtree(self.local_path(name))
            return
        fs, path = self._remote(name)
        with suppress(FileNotFoundError, NotADirectoryError):
            parent = path.strip("/") + "/"
            found = ask(fs, "find", path, where=self.where(name))
            self._delete_remote([file for file in found if file.lstrip("/").startswith(parent)])

    # Private

    def _create_by_link(self, path: Path, payload: bytes) -> None:
        # A link is atomic and refuses an existing name; O_EXCL would leave a cut file there after a crash.
        with staged(path, lambda file: file.write(payload)) as temporary:
            try:
                os.link(temporary, path)
            except OSError as error:
                if error.errno in _NO_HARD_LINKS and self.allow_unsafe_publish:
                    if path.exists():
                        raise FileExistsError(errno.EEXIST, "File exists", str(path)) from None
                    temporary.replace(path)
                elif error.errno in _NO_HARD_LINKS:
                    raise UnsupportedStorageError(
                        f"{path.parent} is on a file system without hard links, so a version cannot be "
                        "created atomically there: build on another local or NFS folder or an object store, "
                        "and copy the finished folder. If nobody else ever writes to it, allow_unsafe_publish=True "
                        "publishes all the same"
                    ) from error
                else:
                    raise

    def _delete_remote(self, paths: Iterable[str]) -> None:
        fs = self._filesystem()[0]

        def delete(path: str) -> None:
            with suppress(FileNotFoundError):
                ask(fs, "rm_file", path, where=self.display_url)

        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(delete, paths))

    def _writable(self, name: str) -> tuple[Any, str]:
        """The same as `_remote`, with the folders that a file needs where folders are real (SFTP, HDFS)."""
        fs, remote = self._remote(name)
        if not self.has_atomic_create:
            ask(fs, "makedirs", remote.rpartition("/")[0], exist_ok=True, where=self.where(name))
        return fs, remote

    def _remote(self, name: str) -> tuple[Any, str]:
        """The filesystem and the full path of `name`, with nothing remembered from earlier listings."""
        fs, root = self._filesystem()
        path = f"{root.rstrip('/')}/{check_name(name)}" if root else check_name(name)
        fs.invalidate_cache()
        return fs, path

    def _filesystem(self) -> tuple[Any, str]:
        made: tuple[int, Any, str] | None = self.__dict__.get("_made")
        if made is None or made[0] != os.getpid():  # a connection must not cross a fork
            with as_os_errors(self.display_url):  # some connect at once
                fs, root = open_filesystem(self.url, self.storage_options, error=UnsupportedStorageError)
            made = (os.getpid(), fs, root)
            object.__setattr__(self, "_made", made)
        return made[1], made[2]


def _local_files(root: Path, folder: Path) -> Iterator[StoredFile]:
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            with suppress(FileNotFoundError):
                status = path.lstat()
                yield StoredFile(path.relative_to(root).as_posix(), status.st_size, status.st_mtime)


def _modified(fs: Any, path: str, info: Mapping[str, Any], public: str) -> float:
    """When a file was written, as the backend's listing tells it, or else its own answer."""
    for key in ("LastModified", "last_modified", "mtime", "updated", "created"):
        value = info.get(key)
        if isinstance(value, (int, float)):
            return float(value)
        if isinstance(value, datetime):
            return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    moment: datetime = ask(fs, "modified", path, where=public)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()

"""Put-if-absent: the one step on which two writers can meet, settled by storage and by reading back."""

from __future__ import annotations

import errno
import random
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from dask_annoy.errors import UnsupportedStorageError
from dask_annoy.storage.folder import IndexFolder
from dask_annoy.vectors import patience
from dask_annoy.vectors.client_errors import http_status

__all__ = ["prove_conditional_put", "put_if_absent"]

_ATTEMPTS: Final = 7
#: Seconds; doubled each time, so the last pauses outlast the one write a second and name that GCS allows.
_FIRST_PAUSE: Final = 0.1
_TRANSIENT_ERRNO: Final = frozenset({errno.EBUSY, errno.EAGAIN, errno.EINTR, getattr(errno, "EREMOTEIO", errno.EIO)})
_TRANSIENT_STATUS: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504})

_proven: set[IndexFolder] = set()


def put_if_absent(folder: IndexFolder, name: str, payload: bytes) -> bool:
    """Create a file unless the name is taken: its whole content or nothing.

    After any error, "it exists" included, the file is read back: a reply may have been lost after our put was
    carried out. So the payload must identify its writer (carry a uuid) wherever that matters.

    Parameters
    ----------
    folder : IndexFolder
    name : str
        Name of the file in the folder.
    payload : bytes
        Not empty.

    Returns
    -------
    bool
        True if these bytes are what now stands under the name, False if others do.

    Raises
    ------
    UnsupportedStorageError
        If the backend, or the server behind it, has no atomic "create if absent", unless the folder allows unsafe
        publishing.
    TimeoutError
        If the server does not answer; other errors as storage raises them. The file may be there or not.
    """
    if not payload:
        raise ValueError(f"{folder.where(name)} cannot be published empty")
    if folder.has_conditional_put:
        prove_conditional_put(folder)
    return _put(folder, name, payload)


def _put(folder: IndexFolder, name: str, payload: bytes) -> bool:
    pause = _FIRST_PAUSE
    give_up = time.monotonic() + patience.PATIENCE
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            folder.create(name, payload)
        except UnsupportedStorageError:
            raise
        except Exception as error:
            last = attempt == _ATTEMPTS or time.monotonic() > give_up
            try:
                standing = _standing(folder, name, len(payload))
            except Exception as unreadable:
                if last or not _is_transient(unreadable):
                    raise
                standing = None
            if standing is not None:
                return standing == payload
            if last or not (_is_transient(error) or isinstance(error, FileExistsError)):
                raise
        else:
            # Where `create` looks and then writes, somebody else may have written since.
            return folder.has_atomic_create or _standing(folder, name, len(payload)) == payload
        time.sleep(pause * random.uniform(0.5, 1.5))
        pause *= 2
    raise AssertionError("unreachable")


def _standing(folder: IndexFolder, name: str, size: int) -> bytes | None:
    """What stands under the name, as far as it matters: None if nothing, b"" if something of another size."""
    try:
        return folder.read_bytes(name) if folder.size(name) == size else b""
    except FileNotFoundError:
        return None


def prove_conditional_put(folder: IndexFolder) -> None:
    """Try once a process and folder, on a throw-away name, that the server refuses to overwrite.

    Older botocores drop the condition and older S3-compatible servers ignore it: both would overwrite a
    version.
    """
    if folder in _proven:
        return
    name = f"staging/probe-{uuid.uuid4().hex}"
    _put(folder, name, b"first")
    try:
        if _put(folder, name, b"again"):
            raise UnsupportedStorageError(
                f"the server at {folder.display_url} overwrote a file although it was asked to create it "
                "only if absent, so two writers could overwrite each other: use a server that honours "
                "If-None-Match (and current s3fs and botocore), or build on a local folder and copy the "
                "finished folder"
            )
    finally:
        with suppress(OSError):  # a writer need not be allowed to delete
            folder.delete([name])
    _proven.add(folder)


def _is_transient(error: BaseException) -> bool:
    """Whether trying again can help: throttling, a conflict of two requests at once, a lost connection."""
    if isinstance(error, TimeoutError | ConnectionError):
        return True
    if isinstance(error, OSError) and error.errno in _TRANSIENT_ERRNO:
        return True
    return any(http_status(cause) in _TRANSIENT_STATUS for cause in _causes(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, the client's own that it was raised from, and so on."""
    while error is not None:
        yield error
        error = error.__cause__

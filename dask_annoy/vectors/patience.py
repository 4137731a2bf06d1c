"""Requests to remote filesystems that end: a server that never answers is an error after a bounded time.

Clients try again on several levels, and each level tries again what the one below has given up: s3fs asks five times
five times for a file, by way of a client that asks five times and waits 15 seconds each time. So the bound is on the
whole.
"""

from __future__ import annotations

import inspect
import time
from typing import Any, Final

__all__ = ["PATIENCE", "SLOWEST", "ask"]

#: Seconds within which a request has to be answered, with all that is tried again. Longer than the clients themselves
#: need for a request that is tried again on two levels, as the connections of a busy process are waited for meanwhile.
PATIENCE: Final = 600.0
#: Bytes a second: what is sent or fetched may take that much longer.
SLOWEST: Final = 256 * 1024


def ask(
    filesystem: Any, method: str, *arguments: Any, where: str, transferred: int = 0, **options: Any
) -> Any:  # fmt: skip
    """Call a method of a filesystem, for no longer than `PATIENCE` and what its bytes take at `SLOWEST`.

    Filesystems that do not run in fsspec's event loop (this machine's disks, memory, SFTP …) have no bound.

    Parameters
    ----------
    filesystem : fsspec.AbstractFileSystem
    method : str
        Such as ``"cat_file"``.
    arguments, options
        Of the method.
    where : str
        What is asked for, without credentials, for messages.
    transferred : int
        Bytes that are sent or fetched.

    Raises
    ------
    TimeoutError
        If there is no whole answer by then. What was asked for may have been done.
    """
    call = getattr(filesystem, method)
    if not inspect.iscoroutinefunction(getattr(call, "__wrapped__", None)):
        return call(*arguments, **options)
    began = time.monotonic()
    try:
        return call(*arguments, timeout=PATIENCE + transferred / SLOWEST, **options)
    except TimeoutError as error:
        raise TimeoutError(
            f"{where}: no whole answer from the server in {time.monotonic() - began:.0f} seconds, though it was asked "
            "again and again: see whether it can be reached and run the same again"
        ) from error

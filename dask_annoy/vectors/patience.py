"""Requests to remote filesystems that end: a server that never answers is an error after a bounded time.

Clients try again on several levels, and each level tries again what the one below has given up: s3fs asks five times
five times for a file, by way of a client that asks five times and waits 15 seconds each time. So the bound is on the
whole.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from dask_annoy.vectors.client_errors import as_os_errors

__all__ = ["PATIENCE", "SLOWEST", "ask", "within_patience"]

#: Seconds within which a request has to be answered, with all that is tried again. Longer than the clients themselves
#: need for a request that is tried again on two levels, as the connections of a busy process are waited for meanwhile.
PATIENCE: Final = 600.0
#: Bytes a second: what is sent or fetched may take that much longer.
SLOWEST: Final = 256 * 1024

Answer = TypeVar("Answer")


def ask(
    filesystem: Any, method: str, *arguments: Any, where: str, transferred: float = 0, **options: Any
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
    transferred : float
        Bytes that are sent or fetched; infinity for no bound.

    Raises
    ------
    TimeoutError
        If there is no whole answer by then. What was asked for may have been done.
    OSError
        For errors of the client that are none: see `as_os_errors`.
    """
    call = getattr(filesystem, method)
    if not inspect.iscoroutinefunction(getattr(call, "__wrapped__", None)):
        with as_os_errors(where):
            return call(*arguments, **options)
    with as_os_errors(where), _naming(where):
        return call(*arguments, timeout=_seconds(transferred), **options)


async def within_patience(answer: Awaitable[Answer], *, where: str, transferred: float = 0) -> Answer:
    """Await the answer to a request for as long as `ask` would, with its parameters and errors."""
    with as_os_errors(where), _naming(where):
        return await asyncio.wait_for(answer, _seconds(transferred))


def _seconds(transferred: float) -> float:
    return PATIENCE + transferred / SLOWEST


@contextmanager
def _naming(where: str) -> Iterator[None]:
    began = time.monotonic()
    try:
        yield
    except TimeoutError as error:
        raise TimeoutError(
            f"{where}: no whole answer from the server in {time.monotonic() - began:.0f} seconds, though it was asked "
            "again and again: see whether it can be reached and run the same again"
        ) from error

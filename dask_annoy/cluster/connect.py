"""From a scheduler's address, as people type it, to a Dask client."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import distributed

from dask_annoy.cluster.executor import ClientLike

__all__ = ["connect"]


@contextlib.contextmanager
def connect(address: str | None = None, scheduler_file: str | os.PathLike[str] | None = None) -> Iterator[ClientLike]:
    """A client of the Dask scheduler at an address, closed at the end; without an address, False: local threads.

    The client is the process's current one meanwhile.

    Parameters
    ----------
    address : str, optional
        Any address that Dask knows: ``tcp://``, ``tls://`` (certificates as in Dask's configuration under
        ``distributed.comm.tls``), ``ucx://``, ``ws://`` …
    scheduler_file : str or PathLike, optional
        The file that ``dask scheduler --scheduler-file`` wrote.

    Raises
    ------
    FileNotFoundError, ValueError
        If the scheduler file is missing, or is no such file.
    OSError
        If no scheduler answers within Dask's ``distributed.comm.timeouts.connect``.
    """
    if address is not None and scheduler_file is not None:
        raise ValueError("give the address of a scheduler or a scheduler file, not both")
    if scheduler_file is not None:
        _check_scheduler_file(Path(scheduler_file))
        client = distributed.Client(scheduler_file=os.fspath(scheduler_file))
    elif address is not None:
        client = distributed.Client(address)
    else:
        yield False
        return
    with client:
        yield client


def _check_scheduler_file(path: Path) -> None:
    """Refuse now what Dask's client would wait for, or fail on without a word."""
    if not path.exists():
        raise FileNotFoundError(f"there is no scheduler file {path}: is the scheduler running?")
    try:
        content = json.loads(path.read_text())
    except ValueError:
        content = None
    if not isinstance(content, dict) or not isinstance(content.get("address"), str):
        raise ValueError(
            f"{path} is not a scheduler file: expected JSON with an address, as Dask's scheduler writes it"
        )

"""Where a command's work runs: ``--scheduler``, ``--scheduler-file``, or threads of this process."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from dask_annoy.cluster.executor import ClientLike

__all__ = ["client_at", "scheduler_options"]

Command = TypeVar("Command", bound=Callable[..., Any])


def scheduler_options(command: Command) -> Command:
    """Add ``--scheduler`` and ``--scheduler-file``."""
    for decorator in (
        click.option(
            "--scheduler-file",
            type=click.Path(path_type=Path, dir_okay=False),
            help="The file that `dask scheduler --scheduler-file` wrote, instead of an address.",
        ),
        click.option(
            "--scheduler",
            metavar="ADDRESS",
            help="Run on this Dask cluster: tcp://, tls:// (certificates: distributed.comm.tls of Dask's "
            "configuration), ucx:// … [default: threads of this machine]",
        ),
    ):
        command = decorator(command)
    return command


@contextlib.contextmanager
def client_at(scheduler: str | None, scheduler_file: Path | None) -> Iterator[ClientLike]:
    """A client of the scheduler that was asked for, while the work lasts; False for local threads."""
    if scheduler is not None and scheduler_file is not None:
        raise click.UsageError("give --scheduler or --scheduler-file, not both")
    from dask_annoy.cluster.connect import connect

    with connect(scheduler, scheduler_file) as client:
        if client and not client.nthreads():
            click.echo("Note: the scheduler has no workers yet; the work waits for them.", err=True)
        yield client

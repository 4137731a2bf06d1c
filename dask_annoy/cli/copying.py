"""``dask annoy copy | export``: one version, somewhere else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from dask_annoy.cli.errors import AnnoyCommand
from dask_annoy.cli.options import (
    VERSION,
    quiet_option,
    report_options,
    storage_options,
    target_options,
    unsafe_publish_option,
)
from dask_annoy.cli.output import echo_json
from dask_annoy.cli.progress import reporting
from dask_annoy.cli.scheduler import client_at, scheduler_options

__all__ = ["copy_command", "export_command"]


def _transfer_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for decorator in reversed((
        click.argument("url"),
        click.argument("target"),
        click.option("--version", type=VERSION, help="Which version. [default: the newest]"),
        storage_options, target_options, scheduler_options, quiet_option, report_options,
    )):  # fmt: skip
        command = decorator(command)
    return command


@click.command("copy", cls=AnnoyCommand)
@_transfer_options
@unsafe_publish_option
def copy_command(
    url: str,
    target: str,
    version: int | str | None,
    allow_unsafe_publish: bool,
    storage_options: Mapping[str, Any] | None,
    target_options: Mapping[str, Any] | None,
    scheduler: str | None,
    scheduler_file: Path | None,
    quiet: bool,
    as_json: bool,
    debug: bool,
) -> None:
    """Copy a version of the index in the folder URL to the empty folder TARGET, verified on the way."""
    del debug  # AnnoyCommand's
    from dask_annoy.cluster import open_index

    with client_at(scheduler, scheduler_file) as client, reporting(quiet) as progress:
        index = open_index(url, version=version, storage_options=storage_options, client=client)
        copied = index.copy(
            target, storage_options=target_options, allow_unsafe_publish=allow_unsafe_publish, progress=progress
        )
    if as_json:
        echo_json(copied.info())
    else:
        click.echo(f"version {index.version} of {index.url} is version 1 of {copied.url}")


@click.command("export", cls=AnnoyCommand)
@_transfer_options
def export_command(
    url: str,
    target: str,
    version: int | str | None,
    storage_options: Mapping[str, Any] | None,
    target_options: Mapping[str, Any] | None,
    scheduler: str | None,
    scheduler_file: Path | None,
    quiet: bool,
    as_json: bool,
    debug: bool,
) -> None:
    """Write a version of the index in the folder URL to the folder TARGET as plain Annoy files and ids."""
    del debug  # AnnoyCommand's
    from dask_annoy.cluster import open_index
    from dask_annoy.vectors.filesystem import public_url

    with client_at(scheduler, scheduler_file) as client, reporting(quiet) as progress:
        index = open_index(url, version=version, storage_options=storage_options, client=client)
        index.export(target, storage_options=target_options, progress=progress)
    target = public_url(target)
    if as_json:
        echo_json({"exported": target, "version": index.version, "shards": index.n_shards})
    else:
        click.echo(
            f"version {index.version} of {index.url}: {index.n_shards:,} Annoy files in {target}; see index.json"
        )

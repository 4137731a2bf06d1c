"""``dask annoy verify | repair``: is all of an index there and sound, and if not, what can be mended."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from dask_annoy.cli.errors import AnnoyCommand, ResumableCommand, sentence_of
from dask_annoy.cli.options import (
    VERSION,
    quiet_option,
    report_options,
    source_options,
    storage_options,
    unsafe_publish_option,
)
from dask_annoy.cli.output import echo_json
from dask_annoy.cli.progress import reporting
from dask_annoy.cli.scheduler import client_at, scheduler_options
from dask_annoy.errors import CorruptIndexError

__all__ = ["repair_command", "verify_command"]

_DAMAGED: Final = 3


@click.command("verify", cls=AnnoyCommand)
@click.argument("url")
@click.option("--full", is_flag=True, help="Read and check everything, not names and sizes only.")
@click.option("--version", type=VERSION, help="Which version. [default: the newest]")
@storage_options
@scheduler_options
@quiet_option
@report_options
@click.pass_context
def verify_command(
    ctx: click.Context,
    url: str,
    full: bool,
    version: int | str | None,
    storage_options: Mapping[str, Any] | None,
    scheduler: str | None,
    scheduler_file: Path | None,
    quiet: bool,
    as_json: bool,
    debug: bool,
) -> None:
    """Check that all files of the index in the folder URL are there and sound.

    With --full, that is: checksums, each node of the forests, cells, ids, that no two items have the same id, deletion
    sets, and the recall of each shard on some of its own items.

    Exit codes: 0 sound, 3 damaged, 1 it could not be checked.
    """
    del debug  # AnnoyCommand's
    from dask_annoy.cluster import open_index
    from dask_annoy.vectors.filesystem import public_url

    try:
        with client_at(scheduler, scheduler_file) as client, reporting(quiet) as progress:
            index = open_index(url, version=version, storage_options=storage_options, client=client)
            report = index.verify("full" if full else "quick", progress=progress)
    except CorruptIndexError as error:  # a manifest
        if as_json:
            problem = {"type": type(error).__name__, "message": sentence_of(error)}
            echo_json({"ok": False, "url": public_url(url), "error": problem})
        click.echo(f"Damaged: {sentence_of(error)}", err=True)
        ctx.exit(_DAMAGED)
    if as_json:
        echo_json(report.as_dict())
    else:
        click.echo(str(report))
        if report.damaged and version is None:  # repair looks at the newest
            click.echo(f"\nNext: dask annoy repair {index.url}")
    if not report.ok:
        ctx.exit(_DAMAGED)


@click.command("repair", cls=ResumableCommand)
@click.argument("url")
@click.option("--source", metavar="VECTORS", help="What the shards were built from. [default: the files they name]")
@click.option("--ids", metavar="COLUMN|URL", help="The ids that belong to --source. [default: row numbers]")
@click.option("--column", help="Column of --source, if that is Parquet, that holds the vectors.")
@click.option(
    "--drop-damaged", is_flag=True,
    help="Publish a version without the shards that cannot be built again, and say what is lost.",
)  # fmt: skip
@click.option("--quick", is_flag=True, help="Look for damage by names and sizes only.")
@unsafe_publish_option
@storage_options
@source_options
@scheduler_options
@quiet_option
@report_options
@click.pass_context
def repair_command(
    ctx: click.Context,
    url: str,
    source: str | None,
    ids: str | None,
    column: str | None,
    drop_damaged: bool,
    quick: bool,
    allow_unsafe_publish: bool,
    storage_options: Mapping[str, Any] | None,
    source_options: Mapping[str, Any] | None,
    scheduler: str | None,
    scheduler_file: Path | None,
    quiet: bool,
    as_json: bool,
    debug: bool,
) -> None:
    """Build damaged shards of the index in the folder URL again, and publish a version with them.

    A shard is built again if what it was built from is there and unchanged, and counts only if it is the same bytes.
    The older versions stay.

    Exit codes: 0 nothing is damaged any more, 3 something still is, 1 error.
    """
    del debug  # ResumableCommand's
    if source is None and (ids is not None or column is not None):
        raise click.UsageError("--ids and --column belong to --source")
    from dask_annoy.cluster import open_index

    with client_at(scheduler, scheduler_file) as client, reporting(quiet) as progress:
        index = open_index(
            url, storage_options=storage_options, allow_unsafe_publish=allow_unsafe_publish, client=client
        )
        report = index.repair(
            source,
            ids,
            column=column,
            drop=drop_damaged,
            mode="quick" if quick else "full",
            source_options=source_options,
            progress=progress,
        )
    if as_json:
        echo_json(report.as_dict())
    else:
        click.echo(str(report))
        if report.remaining:
            click.echo("\nNext: the same with --source VECTORS, or with --drop-damaged to give these shards up")
    if not report.ok:
        ctx.exit(_DAMAGED)

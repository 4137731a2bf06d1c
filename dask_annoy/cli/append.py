"""``dask annoy append``: more vectors into an index."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import click

from dask_annoy.cli.errors import ResumableCommand
from dask_annoy.cli.options import (
    quiet_option,
    report_options,
    source_options,
    storage_options,
    unsafe_publish_option,
)
from dask_annoy.cli.output import echo_change
from dask_annoy.cli.progress import reporting
from dask_annoy.cli.scheduler import client_at, scheduler_options

__all__ = ["append_command"]


@click.command("append", cls=ResumableCommand)
@click.argument("vectors")
@click.argument("url")
@click.option("--ids", metavar="COLUMN|URL", help="Ids of the new vectors. [default: row numbers, going on]")
@click.option("--column", help="Column of Parquet files that holds the vectors.")
@click.option(
    "--on-duplicate", type=click.Choice(["raise", "keep", "replace"]), default="raise", show_default=True,
    help="If an id is in the index: refuse, keep the old item, or put the new one in its place.",
)  # fmt: skip
@unsafe_publish_option
@storage_options
@source_options
@scheduler_options
@quiet_option
@report_options
def append_command(
    vectors: str,
    url: str,
    ids: str | None,
    column: str | None,
    on_duplicate: Literal["raise", "keep", "replace"],
    allow_unsafe_publish: bool,
    storage_options: Mapping[str, Any] | None,
    source_options: Mapping[str, Any] | None,
    scheduler: str | None,
    scheduler_file: Path | None,
    quiet: bool,
    as_json: bool,
    debug: bool,
) -> None:
    """Add VECTORS to the index in the folder URL, as shards of their own, and publish a new version.

    Shards are built by the rules of the first build. Stopped or killed, the same command goes on from the shards that
    are finished, as long as nothing else has changed the index.
    """
    del debug  # ResumableCommand's
    from dask_annoy.cluster import open_index

    with client_at(scheduler, scheduler_file) as client, reporting(quiet) as progress:
        index = open_index(
            url, storage_options=storage_options, allow_unsafe_publish=allow_unsafe_publish, client=client
        )
        changed = index.append(
            vectors,
            ids,
            column=column,
            on_duplicate=on_duplicate,
            source_options=source_options,
            progress=progress,
        )
    echo_change(index, changed, as_json)

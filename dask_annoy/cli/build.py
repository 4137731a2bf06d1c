"""``dask annoy build``: vectors to a published index, with progress."""

from __future__ import annotations

import datetime
import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dask_annoy.cli.errors import ResumableCommand
from dask_annoy.cli.options import (
    build_options,
    quiet_option,
    report_options,
    source_options,
    storage_options,
    unsafe_publish_option,
    vector_options,
)
from dask_annoy.cli.output import echo_json, echo_pairs
from dask_annoy.cli.progress import reporting
from dask_annoy.cli.scheduler import client_at, scheduler_options
from dask_annoy.units import duration_text, size_text

if TYPE_CHECKING:
    from dask_annoy.cluster import ShardedIndex

__all__ = ["build_command"]


@click.command("build", cls=ResumableCommand)
@click.argument("vectors")
@click.argument("url")
@vector_options
@build_options
@click.option("--no-resume", is_flag=True, help="Build all shards anew, also those that an earlier run has finished.")
@click.option("--overwrite", is_flag=True, help="Publish a new version over another index; the old stays readable.")
@unsafe_publish_option
@storage_options
@source_options
@scheduler_options
@quiet_option
@report_options
def build_command(
    vectors: str,
    url: str,
    no_resume: bool,
    overwrite: bool,
    allow_unsafe_publish: bool,
    storage_options: Mapping[str, Any] | None,
    source_options: Mapping[str, Any] | None,
    scheduler: str | None,
    scheduler_file: Path | None,
    quiet: bool,
    as_json: bool,
    debug: bool,
    **parameters: Any,
) -> None:
    """Build an index of VECTORS in the folder URL, and publish it.

    Stopped or killed, the same command goes on from the shards that are finished. Run again after the end, it
    finds the index and builds nothing.
    """
    del debug  # ResumableCommand's
    from dask_annoy.cluster import build_index

    began, started = datetime.datetime.now(datetime.UTC), time.monotonic()
    with client_at(scheduler, scheduler_file) as client, reporting(quiet) as progress:
        index = build_index(
            vectors,
            url,
            resume=not no_resume,
            overwrite=overwrite,
            storage_options=storage_options,
            source_options=source_options,
            allow_unsafe_publish=allow_unsafe_publish,
            client=client,
            progress=progress,
            **parameters,
        )
    seconds = time.monotonic() - started
    stood = index.manifest.created < began
    if as_json:
        echo_json(index.info() | {"already_built": stood, "seconds": round(seconds, 3)})
    else:
        _summarise(index, vectors, stood, seconds, bool(storage_options))


def _summarise(index: ShardedIndex, vectors: str, stood: bool, seconds: float, has_options: bool) -> None:
    info = index.info()
    tuning = info["tuning"]
    recall = "not measured: an item has no neighbours" if tuning is None else (
        f"{tuning['recall']:.3f}, measured on {tuning['sample_rows']:,} of the vectors, "
        f"at a search budget of {tuning['search_k']:,} a shard"
    )  # fmt: skip
    echo_pairs(
        [
            ("index", info["url"]),
            ("version", f"{info['version']}{' (built before: nothing was left to do)' if stood else ''}"),
            ("items", f"{info['items']:,} × {info['width']:,}, {info['metric']}"),
            ("shards", f"{len(info['shards']):,} of {info['n_trees']:,} trees, {size_text(info['bytes'])}"),
            ("recall@10", recall),
            ("time", duration_text(seconds)),
        ]
    )
    options = " --storage-options …" if has_options else ""
    click.echo(f"\nNext: dask annoy query {shlex.quote(info['url'])} {shlex.quote(vectors)} --rows 0:5{options}")

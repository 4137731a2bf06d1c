"""``dask annoy info``: what is published in an index folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from dask_annoy.cli.errors import AnnoyCommand
from dask_annoy.cli.options import VERSION, report_options, storage_options
from dask_annoy.cli.output import echo_json, echo_pairs, echo_table
from dask_annoy.units import size_text

__all__ = ["info_command"]


@click.command("info", cls=AnnoyCommand)
@click.argument("url")
@click.option("--version", type=VERSION, help="Which version, by number or tag. [default: the newest]")
@storage_options
@report_options
def info_command(
    url: str, version: int | str | None, storage_options: Mapping[str, Any] | None, as_json: bool, debug: bool
) -> None:
    """Show what is published in the index folder URL."""
    del debug  # AnnoyCommand's
    from dask_annoy.cluster import open_index

    info = open_index(url, version=version, storage_options=storage_options, client=False).info()
    if as_json:
        echo_json(info)
        return
    deleted = f", and {info['deleted']:,} deleted" if info["deleted"] else ""
    items = [shard["items"] for shard in info["shards"]]
    echo_pairs(
        [
            ("index", info["url"]),
            (
                "version",
                f"{info['version']}, published {info['created'][:19].replace('T', ' ')} UTC by {info['operation']}",
            ),
            ("library", info["library"]),
            ("source", f"{info['source']} ({info['source_dtype']}{', packed bits' if info['packed'] else ''})"),
            ("metric", info["metric"]),
            (
                "items",
                f"{info['items']:,} × {info['width']:,}, ids {info['ids']}{deleted}",
            ),
            ("shards", f"{len(items):,} of {min(items):,} to {max(items):,} items, {info['n_trees']:,} trees each"),
            (
                "cells",
                "none"
                if not info["cells"]
                else "in all shards"
                if info["cells"] == len(items)
                else f"in {info['cells']:,} of the shards",
            ),
            ("size", size_text(info["bytes"])),
            ("build id", info["build_id"]),
        ]
    )
    if tuning := info["tuning"]:
        click.echo(f"\nrecall@{tuning['k']} by search budget, on {tuning['sample_rows']:,} of the vectors:")
        rows = [
            [f"{budget:,}", f"{recall:.3f}", "chosen" if budget == tuning["search_k"] else ""]
            for budget, recall in tuning["curve"]
        ]
        echo_table(["search_k", "recall", ""], rows)

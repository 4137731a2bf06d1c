"""What is printed on stdout: JSON for machines, aligned text for people."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from dask_annoy.cluster import ShardedIndex

__all__ = ["echo_change", "echo_json", "echo_pairs", "echo_table"]

_COLUMN = 16  # as wide as the one that a plan prints


def echo_change(before: ShardedIndex, after: ShardedIndex, as_json: bool) -> None:
    """Print which version came of a change, and how many items it has."""
    if as_json:
        echo_json(after.info() | {"changed": after.version != before.version})
    elif after.version == before.version:
        click.echo(f"nothing to change: version {after.version} of {after.url} stays, with {len(after):,} items")
    else:
        click.echo(f"version {after.version} of {after.url}: {len(after):,} items in {after.n_shards:,} shards")


def echo_json(document: Any) -> None:
    """Print one JSON document on one line."""
    click.echo(json.dumps(document, ensure_ascii=False, allow_nan=False))


def echo_pairs(pairs: Iterable[tuple[str, str]]) -> None:
    """Print names and values, a pair a line."""
    for name, value in pairs:
        click.echo(f"{name:<{_COLUMN}}{value}")


def echo_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows below a header, columns aligned on the right, the last one on the left."""
    widths = [max(len(row[place]) for row in [header, *rows]) for place in range(len(header))]
    for row in [header, *rows]:
        cells = [cell.rjust(width) for cell, width in zip(row[:-1], widths, strict=False)]
        click.echo("  ".join([*cells, row[-1]]))

"""``dask annoy compact | gc``: what keeps an index small."""

from __future__ import annotations

import dataclasses
import datetime
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from dask_annoy.cli.errors import AnnoyCommand, ResumableCommand
from dask_annoy.cli.options import quiet_option, report_options, storage_options, unsafe_publish_option
from dask_annoy.cli.output import echo_change, echo_json
from dask_annoy.cli.progress import reporting
from dask_annoy.cli.scheduler import client_at, scheduler_options
from dask_annoy.units import size_text

if TYPE_CHECKING:
    ParamType = click.ParamType[Any]
else:  # generic since click 8.4 only
    ParamType = click.ParamType

__all__ = ["compact_command", "gc_command"]

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class _Age(ParamType):
    """A number with a unit, such as 36h or 7d; gives a timedelta."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime.timedelta:
        if isinstance(value, datetime.timedelta):
            return value
        match = re.fullmatch(r"([0-9]{1,9})([smhd])", value)
        if match is None:
            self.fail(f"{value!r} is no age: expected a number and s, m, h or d, such as 7d", param, ctx)
        return datetime.timedelta(**{_UNITS[match[2]]: int(match[1])})


@click.command("compact", cls=ResumableCommand)
@click.argument("url")
@click.option(
    "--max-deleted", type=click.FloatRange(0, 1, max_open=True), default=0.2, show_default=True,
    help="Rewrite shards of which a larger share is deleted, beside small ones.",
)  # fmt: skip
@unsafe_publish_option
@storage_options
@scheduler_options
@quiet_option
@report_options
def compact_command(
    url: str,
    max_deleted: float,
    allow_unsafe_publish: bool,
    storage_options: Mapping[str, Any] | None,
    scheduler: str | None,
    scheduler_file: Path | None,
    quiet: bool,
    as_json: bool,
    debug: bool,
) -> None:
    """Rewrite small shards of the index in the folder URL, and those with many deleted items.

    The new version is published only if it holds the same ids and finds them as well. The old one stays until `gc`.
    """
    del debug  # ResumableCommand's
    from dask_annoy.cluster import open_index

    with client_at(scheduler, scheduler_file) as client, reporting(quiet) as progress:
        index = open_index(
            url, storage_options=storage_options, allow_unsafe_publish=allow_unsafe_publish, client=client
        )
        changed = index.compact(max_deleted=max_deleted, progress=progress)
    echo_change(index, changed, as_json)


@click.command("gc", cls=AnnoyCommand)
@click.argument("url")
@click.option(
    "--older-than", type=_Age(), default="7d", show_default=True,
    help="Only what has not been used by the newest version for so long: longer than any build takes.",
)  # fmt: skip
@click.option("--delete", is_flag=True, help="Delete it. Without this, only say what would be deleted.")
@storage_options
@report_options
def gc_command(
    url: str,
    older_than: datetime.timedelta,
    delete: bool,
    storage_options: Mapping[str, Any] | None,
    as_json: bool,
    debug: bool,
) -> None:
    """Delete old versions of the index in the folder URL, and files that no version names.

    The newest version, tagged ones, and files that dask-annoy does not know stay.
    """
    del debug  # AnnoyCommand's
    from dask_annoy.cluster import open_index

    found = open_index(url, storage_options=storage_options, client=False).gc(older_than, dry_run=not delete)
    if as_json:
        echo_json(dataclasses.asdict(found))
        return
    verb = "deleted" if delete else "to delete"
    versions = f", among them the versions {' '.join(map(str, found.versions))}" if found.versions else ""
    click.echo(f"{verb}: {len(found.files):,} files of {size_text(found.bytes)}{versions}")
    click.echo(f"versions kept: {' '.join(map(str, found.kept_versions))}")
    if found.held_back:
        click.echo("A writer is at work, or was killed lately: files stay until it is done, or old.")
    if found.unknown:
        shown = ", ".join(found.unknown[:5]) + (" …" if len(found.unknown) > 5 else "")
        click.echo(f"{len(found.unknown):,} files are not dask-annoy's and stay: {shown}")
    if found.files and not delete:
        click.echo("\nNext: the same with --delete")

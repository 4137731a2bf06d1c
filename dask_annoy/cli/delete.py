"""``dask annoy delete``: items out of an index, by their ids."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from dask_annoy.cli.errors import AnnoyCommand
from dask_annoy.cli.options import quiet_option, report_options, source_options, storage_options, unsafe_publish_option
from dask_annoy.cli.output import echo_change
from dask_annoy.cli.progress import reporting
from dask_annoy.cli.scheduler import client_at, scheduler_options

if TYPE_CHECKING:
    from dask_annoy.vectors import Ids

__all__ = ["delete_command"]


@click.command("delete", cls=AnnoyCommand)
@click.argument("url")
@click.argument("words", metavar="[ID]...", nargs=-1)
@click.option("--ids", "ids_url", metavar="URL", help="A .npy file of the ids, instead of or beside those given as ID.")
@click.option(
    "--missing", type=click.Choice(["raise", "ignore"]), default="raise", show_default=True,
    help="What to do about ids that are not in the index.",
)  # fmt: skip
@unsafe_publish_option
@storage_options
@source_options
@scheduler_options
@quiet_option
@report_options
def delete_command(
    url: str,
    words: tuple[str, ...],
    ids_url: str | None,
    missing: Literal["raise", "ignore"],
    allow_unsafe_publish: bool,
    storage_options: Mapping[str, Any] | None,
    source_options: Mapping[str, Any] | None,
    scheduler: str | None,
    scheduler_file: Path | None,
    quiet: bool,
    as_json: bool,
    debug: bool,
) -> None:
    """Delete the items with these IDs from the index in the folder URL, and publish a new version.

    Older versions still have them, until `gc`. Put -- before an ID that begins with a minus sign.
    """
    del debug  # AnnoyCommand's
    if not words and ids_url is None:
        raise click.UsageError("give ids to delete, or --ids with a file of them")
    from dask_annoy.cluster import open_index
    from dask_annoy.cluster.places import options_for
    from dask_annoy.storage import IndexFolder

    with client_at(scheduler, scheduler_file) as client, reporting(quiet) as progress:
        index = open_index(
            url, storage_options=storage_options, allow_unsafe_publish=allow_unsafe_publish, client=client
        )
        options = source_options
        if ids_url is not None and options is None:
            options = options_for(ids_url, IndexFolder(url, storage_options or {}))
        ids = _ids(words, ids_url, index.manifest.id_type, options)
        changed = index.delete(ids, missing=missing, progress=progress)
    echo_change(index, changed, as_json)


def _ids(words: tuple[str, ...], ids_url: str | None, id_type: str, options: Mapping[str, Any] | None) -> Ids:
    """The ids of the command line and of the file, as the index has them: integers or strings."""
    import numpy as np

    from dask_annoy.errors import InvalidIdsError
    from dask_annoy.vectors import NpyIds

    try:
        numbers = id_type == "int64"
        given = np.array([_integer(word) for word in words], np.int64) if numbers else np.array(words, object)
    except (ValueError, OverflowError):
        raise InvalidIdsError("the ids of this index are integers of 64 bits, but words were given to delete") from None
    if ids_url is None:
        return given
    read = NpyIds(ids_url, storage_options=options).read()
    return np.concatenate([given, read]) if words else read


def _integer(word: str) -> int:
    if re.fullmatch(r"-?[0-9]+", word) is None:  # int() takes "1_0" for 10
        raise ValueError(word)
    return int(word)

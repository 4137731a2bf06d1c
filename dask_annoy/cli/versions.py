"""``dask annoy versions | tag | untag | rollback``: the versions of an index, their names, and the way back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import click

from dask_annoy.cli.errors import AnnoyCommand
from dask_annoy.cli.options import VERSION, report_options, storage_options, unsafe_publish_option
from dask_annoy.cli.output import echo_change, echo_json, echo_table
from dask_annoy.units import size_text

__all__ = ["rollback_command", "tag_command", "untag_command", "versions_command"]


@click.command("versions", cls=AnnoyCommand)
@click.argument("url")
@storage_options
@report_options
def versions_command(url: str, storage_options: Mapping[str, Any] | None, as_json: bool, debug: bool) -> None:
    """List the versions of the index in the folder URL that can be read, oldest first."""
    del debug  # AnnoyCommand's
    from dask_annoy.cluster import open_index
    from dask_annoy.cluster.history import newest_sound
    from dask_annoy.storage import IndexFolder, list_versions

    folder = IndexFolder(url, dict(storage_options or {}))
    found = open_index(url, version=newest_sound(folder), storage_options=storage_options, client=False).versions()
    if hidden := sorted(set(list_versions(folder)) - {one.version for one in found}):
        click.echo(f"Note: the manifests of the versions {' '.join(map(str, hidden))} cannot be read.", err=True)
    if as_json:
        echo_json([dataclasses.asdict(one) | {"created": one.created.isoformat()} for one in found])
        return
    rows = [
        [
            str(one.version), f"{one.created:%Y-%m-%d %H:%M:%S}", one.operation, f"{one.items:,}", f"{one.deleted:,}",
            f"{one.shards:,}", size_text(one.bytes), " ".join(one.tags),
        ]
        for one in found
    ]  # fmt: skip
    echo_table(["version", "published (UTC)", "by", "items", "deleted", "shards", "size", "tags"], rows)


@click.command("tag", cls=AnnoyCommand)
@click.argument("url")
@click.argument("name")
@click.option("--version", type=VERSION, help="Which version. [default: the newest]")
@unsafe_publish_option
@storage_options
@report_options
def tag_command(
    url: str,
    name: str,
    version: int | str | None,
    allow_unsafe_publish: bool,
    storage_options: Mapping[str, Any] | None,
    as_json: bool,
    debug: bool,
) -> None:
    """Give a version of the index in the folder URL a NAME, which keeps it from `gc`."""
    del debug  # AnnoyCommand's
    from dask_annoy.cluster import open_index

    index = open_index(
        url,
        version=version,
        storage_options=storage_options,
        allow_unsafe_publish=allow_unsafe_publish,
        client=False,
    )
    index.tag(name)
    if as_json:
        echo_json({"tag": name, "version": index.version})
    else:
        click.echo(f"{name} is version {index.version} of {index.url}")


@click.command("untag", cls=AnnoyCommand)
@click.argument("url")
@click.argument("name")
@storage_options
@report_options
def untag_command(url: str, name: str, storage_options: Mapping[str, Any] | None, as_json: bool, debug: bool) -> None:
    """Take the tag NAME from the version of the index in the folder URL that has it."""
    del debug  # AnnoyCommand's
    from dask_annoy.cluster import open_index

    index = open_index(url, storage_options=storage_options, client=False)
    index.untag(name)
    if as_json:
        echo_json({"untagged": name})
    else:
        click.echo(f"{name} is no tag of {index.url} any more")


@click.command("rollback", cls=AnnoyCommand)
@click.argument("url")
@click.argument("version", type=VERSION)
@unsafe_publish_option
@storage_options
@report_options
def rollback_command(
    url: str,
    version: int | str,
    allow_unsafe_publish: bool,
    storage_options: Mapping[str, Any] | None,
    as_json: bool,
    debug: bool,
) -> None:
    """Publish a new version of the index in the folder URL that holds what VERSION, a number or a tag, did."""
    del debug  # AnnoyCommand's
    from dask_annoy.cluster import open_index
    from dask_annoy.cluster.history import newest_sound
    from dask_annoy.storage import IndexFolder

    # If the newest manifest is damaged, this is the way out: from the newest that is not.
    base = newest_sound(IndexFolder(url, dict(storage_options or {})))
    index = open_index(
        url,
        version=base,
        storage_options=storage_options,
        allow_unsafe_publish=allow_unsafe_publish,
        client=False,
    )
    echo_change(index, index.rollback(version), as_json)

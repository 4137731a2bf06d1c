"""``dask annoy``: the group of commands that Dask's entry point loads."""

from __future__ import annotations

import click

from dask_annoy.cli.append import append_command
from dask_annoy.cli.build import build_command
from dask_annoy.cli.copying import copy_command, export_command
from dask_annoy.cli.delete import delete_command
from dask_annoy.cli.demo import demo_command
from dask_annoy.cli.info import info_command
from dask_annoy.cli.plan import plan_command
from dask_annoy.cli.query import query_command
from dask_annoy.cli.upkeep import compact_command, gc_command
from dask_annoy.cli.verify import repair_command, verify_command
from dask_annoy.cli.versions import rollback_command, tag_command, untag_command, versions_command

__all__ = ["annoy"]


_HELP = """Sharded approximate nearest neighbours: plan, build, query and change an index.

Start with `dask annoy demo`.

Vectors are a path or URL: .npy, .fbin and its kin, .parquet, .zarr, a folder of Parquet files, a glob pattern. An index
is a folder: a path, or s3://, gs://, abfs://.

\b
Exit codes: 0 done, 1 error (one sentence on stderr), 2 wrong usage, 3 an index is damaged
(verify, repair), 130 Ctrl-C.
With --json the result is on stdout, and so is an error, as
{"error": {"type": …, "message": …}}; progress is always on stderr.
"""


@click.group("annoy", help=_HELP, short_help="Sharded approximate nearest neighbours.")
@click.version_option(package_name="dask-annoy", prog_name="dask-annoy")
def annoy() -> None:
    """Lead to the commands."""


for _command in (
    demo_command, plan_command, build_command, info_command, query_command,
    append_command, delete_command, compact_command,
    versions_command, tag_command, untag_command, rollback_command,
    copy_command, export_command, gc_command, verify_command, repair_command,
):  # fmt: skip
    annoy.add_command(_command)

"""``dask annoy plan``: what a build would do and take; builds nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from dask_annoy.cli.errors import AnnoyCommand
from dask_annoy.cli.options import build_options, report_options, source_options, vector_options
from dask_annoy.cli.output import echo_json

__all__ = ["plan_command"]


@click.command("plan", cls=AnnoyCommand)
@click.argument("vectors")
@vector_options
@build_options
@source_options
@report_options
def plan_command(
    vectors: str, source_options: Mapping[str, Any] | None, as_json: bool, debug: bool, **parameters: Any
) -> None:
    """Say what `build` would do with VECTORS, and what it would take. Builds nothing."""
    del debug  # AnnoyCommand's
    from dask_annoy.cluster import plan_index

    plan = plan_index(vectors, source_options=source_options, client=False, **parameters)
    if as_json:
        document = plan.model_dump(mode="json", exclude={"sample_rows"})
        echo_json(document | {"sampled": len(plan.sample_rows)})
    else:
        click.echo(str(plan))

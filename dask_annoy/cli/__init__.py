"""The command line, ``dask annoy …``: a face of the cluster layer and of the demo.

Dask imports this package at every ``dask`` call, so the modules import nothing heavy: each command imports what it
needs when it runs.
"""

from __future__ import annotations

from dask_annoy.cli.group import annoy

__all__ = ["annoy"]

"""One machine: Annoy's index with files anywhere and pickling. No Dask."""

from __future__ import annotations

from dask_annoy.annoy.annoy_index import AnnoyIndex
from dask_annoy.annoy.build_estimate import BuildEstimate, estimate_build

__all__ = ["AnnoyIndex", "BuildEstimate", "estimate_build"]

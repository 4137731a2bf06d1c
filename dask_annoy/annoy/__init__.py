"""One machine: Annoy's index with files anywhere and pickling. No Dask."""

from __future__ import annotations

from dask_annoy.annoy.annoy_index import AnnoyIndex

__all__ = ["AnnoyIndex"]

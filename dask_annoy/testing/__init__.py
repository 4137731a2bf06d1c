"""Promises that storage must keep, as test classes to derive from; needs pytest."""

from __future__ import annotations

from dask_annoy.testing.storage import StorageConformance

__all__ = ["StorageConformance"]

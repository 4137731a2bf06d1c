"""The error that ends a measurement with a sentence and no traceback."""

from __future__ import annotations


class BenchmarkError(Exception):
    """What was found, and what to do, in a sentence."""

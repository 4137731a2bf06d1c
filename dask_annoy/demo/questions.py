"""Questions in plain words that `dask annoy demo` asks its index."""

from __future__ import annotations

__all__ = ["QUESTIONS"]

QUESTIONS = (
    "read a csv file",
    "merge two sorted lists",
    "run a function in another thread",
    "random numbers from a normal distribution",
    "distributed task scheduling",
    "walk through a directory tree",
)

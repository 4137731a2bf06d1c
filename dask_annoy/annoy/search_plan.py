"""How a search goes about it: what `AnnoyIndex.explain_search` tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from dask_annoy.units import duration_text

__all__ = ["SearchMethod", "SearchPlan"]

SearchMethod: TypeAlias = Literal["auto", "exact", "trees", "leaves", "cells"]


@dataclass(frozen=True)
class SearchPlan:
    """How a search would go about it. Print it.

    Attributes
    ----------
    method : {"exact", "trees", "leaves", "cells"}
        What the search would do.
    reason : str
        Why.
    seconds : mapping of str to float
        Estimated wall time of the whole call by each method that can be had, on a machine of 2025. What matters, and
        what the choice follows from, are the ratios.
    n_queries, n, search_k : int
        What was asked.
    """

    method: Literal["exact", "trees", "leaves", "cells"]
    reason: str
    seconds: Mapping[str, float]
    n_queries: int
    n: int
    search_k: int

    def __str__(self) -> str:
        times = "\n".join(f"  {method:<8}about {_time(seconds)}" for method, seconds in self.seconds.items())
        return f"{self.method}: {self.reason}\n{times}"


def _time(seconds: float) -> str:
    return duration_text(seconds) if seconds >= 1 else f"{1e3 * seconds:,.3g} ms"

"""The names a metric goes by: those of the native registry, and aliases of the literature."""

from __future__ import annotations

from typing import Final

from dask_annoy._native import metric_names

__all__ = ["DEFAULT_METRIC", "METRIC_ALIASES", "canonical_metric"]

DEFAULT_METRIC: Final = "angular"

#: Each name that is understood, and Annoy's name for it. ``lstsq`` stands for least squares.
METRIC_ALIASES: Final = {
    **{name: name for name in metric_names()},
    **{
        alias: name
        for name, aliases in {
            "angular": ("cosine",),
            "euclidean": ("l2", "lstsq"),
            "manhattan": ("l1", "cityblock", "taxicab"),
            "dot": ("@", ".", "dotproduct", "inner", "innerproduct"),
        }.items()
        for alias in aliases
    },
}


def canonical_metric(metric: str) -> str:
    """Annoy's name of a metric.

    Parameters
    ----------
    metric : str
        One of `METRIC_ALIASES`, in any case.

    Raises
    ------
    ValueError
        If the name is not known; lists those that are.
    """
    if not isinstance(metric, str):
        raise TypeError(f"metric must be a string, got {type(metric).__name__}")
    found = METRIC_ALIASES.get(metric.strip().lower())
    if found is None:
        raise ValueError(f"No such metric: {metric!r}; known are {', '.join(map(repr, METRIC_ALIASES))}")
    return found

"""The libraries that are measured, each behind the same few calls, and their table."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.engines.annoy_forest import Annoy
from benchmarks.engines.engine import Engine
from benchmarks.engines.faiss_indexes import (
    FaissBinaryFlat,
    FaissBinaryInvertedLists,
    FaissFlat,
    FaissInvertedLists,
    FaissQuantised,
)
from benchmarks.engines.graphs import Hnswlib, Usearch, Voyager
from benchmarks.engines.own import OwnCells, OwnExact, OwnForest
from benchmarks.failure import BenchmarkError

__all__ = ["ENGINES", "Engine", "usable"]

ENGINES: dict[str, type[Engine]] = {
    engine.name: engine
    for engine in (
        OwnCells,
        OwnForest,
        OwnExact,
        Annoy,
        Hnswlib,
        FaissQuantised,
        FaissInvertedLists,
        FaissFlat,
        FaissBinaryInvertedLists,
        FaissBinaryFlat,
        Usearch,
        Voyager,
    )
}


def usable(metric: str, names: Sequence[str] | None = None) -> list[type[Engine]]:
    """The engines for a metric, all or those named.

    Raises
    ------
    BenchmarkError
        If a package is not installed, or a name is not known.
    """
    unknown = sorted(set(names or ()) - set(ENGINES))
    if unknown:
        raise BenchmarkError(f"no engine named {', '.join(unknown)}; there are {', '.join(ENGINES)}")
    chosen = [engine for name, engine in ENGINES.items() if metric in engine.metrics and (not names or name in names)]
    if names is None:
        chosen = [engine for engine in chosen if engine.exists()]
    for engine in chosen:
        engine.check()
    return chosen

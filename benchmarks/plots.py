"""The pictures of the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.curves import Growth, Point, frontier
from benchmarks.failure import BenchmarkError

COLOURS = {
    "ours-cells": "#c1121f",
    "ours": "#f08080",
    "ours-exact": "#fcbf49",
    "annoy": "#000000",
    "hnswlib": "#1d6fb8",
    "usearch": "#56b4e9",
    "voyager": "#009e73",
    "faiss-ivfpq": "#6a3d9a",
    "faiss-ivf": "#b294c7",
    "faiss-flat": "#999999",
    "faiss-binary-ivf": "#6a3d9a",
    "faiss-binary-flat": "#999999",
}


def draw_curves(path: Path, title: str, panels: Mapping[str, Mapping[str, Sequence[Point]]]) -> Path:
    """Queries per second against recall, a panel each, the frontier of each engine's points.

    Returns
    -------
    Path
        `path`.
    """
    figure, axes = _panels(len(panels), title)
    for axis, (words, engines) in zip(axes, panels.items(), strict=True):
        for engine, points in engines.items():
            edge = [point for point in frontier(points) if point.recall >= 0.5]
            if edge:
                recalls, speeds = zip(*edge, strict=True)
                axis.plot(recalls, speeds, "o-", markersize=3, label=engine, color=COLOURS.get(engine))
        axis.set(title=words, xlabel="recall", ylabel="queries / s", yscale="log", xlim=(0.5, 1.005))
    return _written(figure, axes, path)


def draw_growth(
    path: Path,
    title: str,
    panels: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[float], Growth]]],
) -> Path:
    """Costs against the number of items, both logarithmic, with the fitted lines.

    Returns
    -------
    Path
        `path`.
    """
    figure, axes = _panels(len(panels), title)
    for axis, (words, engines) in zip(axes, panels.items(), strict=True):
        for engine, (sizes, costs, growth) in engines.items():
            colour = COLOURS.get(engine)
            axis.plot(sizes, costs, "o", markersize=4, color=colour)
            label = f"{engine}: n^{growth.exponent:.2f}"
            axis.plot(sizes, [growth.at(size) for size in sizes], "-", color=colour, label=label)
        every = [cost for _, costs, _ in engines.values() for cost in costs]
        if every:
            axis.set_ylim(min(every) / 1.5, max(every) * 1.5)  # costs an item may all be the same
        axis.set(title=words, xlabel="items", xscale="log", yscale="log")
    return _written(figure, axes, path)


def _panels(count: int, title: str) -> tuple[Any, list[Any]]:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise BenchmarkError(
            "pictures need matplotlib, which is not installed: pip install 'dask-annoy[bench]'"
        ) from error
    rows = -(-count // 2)
    figure = Figure(figsize=(11, 4.2 * rows), layout="constrained")
    figure.suptitle(title)
    return figure, list(figure.subplots(rows, 2, squeeze=False).flat)[:count]


def _written(figure: Any, axes: list[Any], path: Path) -> Path:
    for axis in axes:
        axis.grid(visible=True, which="both", alpha=0.25)
        if axis.has_data():
            axis.legend(fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    return path

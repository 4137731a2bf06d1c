"""How build time, query cost, bytes and memory grow with the number of items, at one recall.

    python -m benchmarks.growth --data DIR [--sets NAME ...] [--sizes N ...] [--engines NAME ...] [--rounds 3]

Up to the size of the data set its first rows are taken; beyond, its rows come again with small Gaussian noise, a tenth
of each component's spread. The cost of a query is the time of a thread in a batch on all of them. Exponents are those
of the straight line through the logarithms, by least squares.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.curves import Growth, fitted_growth, median, speed_at
from benchmarks.datasets import Prepared
from benchmarks.engines import usable
from benchmarks.options import described, notes, parsed, parser, prepared, run, sources, written
from benchmarks.peers import Document, Figure, curve, identity, remove
from benchmarks.plots import draw_growth
from benchmarks.processes import StageFailed, run_stage
from benchmarks.tables import Table, number, terminal

CLAIM = "growth"
SIZES = (50_000, 100_000, 200_000, 400_000, 800_000)
QUICK_SIZES = (2_000, 4_000, 8_000)
ENGINES = ("ours-cells", "ours", "hnswlib", "faiss-ivf", "faiss-ivfpq")
BEYOND = 0.01  # a sweep ends so far above the recall
BILLION = 1_000_000_000
SHARD_SIZES = (1_000_000, 10_000_000)


def main() -> None:
    made = parser(CLAIM, __doc__, ["text256", "sift128"])
    made.add_argument("--sizes", type=int, nargs="+", metavar="N", help=f"({' '.join(map(str, SIZES))})")
    made.add_argument("--recall", type=float, default=0.90, help="(0.90)")
    options = parsed(made)
    options.sizes = options.sizes or list(QUICK_SIZES if options.quick else SIZES)
    state = described()
    figures: list[Figure] = []
    for source in sources(options):
        wanted = options.engines or [engine.name for engine in usable(source.metric) if engine.name in ENGINES]
        usable(source.metric, wanted)
        data = [prepared(options, source, size) for size in options.sizes]
        for turn in range(options.rounds):
            for one in data:
                figures += [measure(options, one, engine, turn) for engine in wanted]
            path = written(options, CLAIM, figures, state)
    document = {"claim": CLAIM, "machine": state, "options": vars(options), "figures": figures}
    for table in tables(document):
        table.show(terminal())
    draw(document, path.parent)


def measure(options: argparse.Namespace, data: Prepared, engine: str, turn: int) -> Figure:
    """A build with the usual settings, and a sweep up to the recall."""
    notes.print(f"{data.name}, {data.n_items:,}: round {turn + 1} of {options.rounds}, {engine} …", highlight=False)
    (kind,) = usable(data.metric, [engine])
    settings = kind.builds(data.n_items)[0]
    figure = identity(data, engine, settings, turn)
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        folder = Path(scratch)
        common = {"engine": engine, "settings": settings, "folder": folder, "threads": options.threads}
        try:
            figure["built"] = run_stage("build_stage", data, **common)
            sweep = {"top": options.recall + BEYOND, "patience": options.patience, "singles": 0}
            figure["searched"] = run_stage("sweep_stage", data, **common, **sweep)
        except StageFailed as error:
            notes.print(f"  {engine} failed: {error}", style="red", highlight=False)
            figure["failed"] = str(error)
        remove(folder)
    return figure


def query_seconds(figure: Figure, clock: str, recall: float, threads: int) -> float | None:
    """A thread's time for a query at the recall."""
    speed = speed_at(curve(figure, "batch", clock), recall)
    return None if speed is None else threads / speed


class Costs:
    """The costs of one engine on one data set, the median over rounds at each size."""

    def __init__(self, document: Document, name: str, engine: str) -> None:
        options = document["options"]
        clock, recall, threads = options.get("clock", "wall"), options["recall"], options["threads"]
        own = [figure for figure in document["figures"] if figure["set"] == name and figure["engine"] == engine]
        self.sizes = sorted({figure["items"] for figure in own})

        def at(cost: Callable[[Figure], float | None]) -> list[float | None]:
            return [median(cost(figure) for figure in own if figure["items"] == size) for size in self.sizes]

        def built(cost: Callable[[dict[str, Any]], float]) -> list[float | None]:
            return at(lambda figure: cost(figure["built"]) / figure["items"] if "built" in figure else None)

        self.costs: dict[str, list[float | None]] = {
            "build, thread µs an item": built(lambda built: 1e6 * threads * built["build"][clock]),
            "query, thread µs": at(
                lambda figure: _scaled(1e6, query_seconds(figure, clock, recall, threads)),
            ),
            "bytes an item": built(lambda built: built["bytes"]),
            "build peak, bytes an item": built(lambda built: built["peak"]),
        }

    def fitted(self, cost: str) -> tuple[list[float], list[float], Growth] | None:
        """The sizes and costs that are known and not 0, and the line through them; None of fewer than two."""
        pairs = [(size, value) for size, value in zip(self.sizes, self.costs[cost], strict=True) if value]
        if len(pairs) < 2:
            return None
        sizes, values = ([float(number) for number in part] for part in zip(*pairs, strict=True))
        return sizes, values, fitted_growth(sizes, values)


def _scaled(factor: float, value: float | None) -> float | None:
    return None if value is None else factor * value


def _engines(document: Document, name: str) -> list[str]:
    return list(dict.fromkeys(figure["engine"] for figure in document["figures"] if figure["set"] == name))


def _names(document: Document) -> list[str]:
    return list(dict.fromkeys(figure["set"] for figure in document["figures"]))


def tables(document: Document) -> list[Table]:
    """Costs by size and their exponents, and what they say of a billion items in shards."""
    made = []
    for name in _names(document):
        costs = {engine: Costs(document, name, engine) for engine in _engines(document, name)}
        sizes = sorted({size for cost in costs.values() for size in cost.sizes})
        for cost in ("build, thread µs an item", "query, thread µs", "bytes an item", "build peak, bytes an item"):
            rows = []
            for engine, own in costs.items():
                values = dict(zip(own.sizes, own.costs[cost], strict=True))
                fit = own.fitted(cost)
                exponent = "–" if fit is None else f"{fit[2].exponent:+.2f}"
                rows.append([engine, *(number(values.get(size)) for size in sizes), exponent])
            at_recall = f", at recall {document['options']['recall']:.2f}" if cost.startswith("query") else ""
            title = f"{name}: {cost}{at_recall}"
            made.append(Table(title, ["engine", *(f"{size:,}" for size in sizes), "exponent"], rows))
        made.append(_billion(name, costs))
    return made


def _billion(name: str, costs: dict[str, Costs]) -> Table:
    """The fitted lines, drawn on: all shards are built, and all are asked."""
    columns = ["engine"]
    for size in SHARD_SIZES:
        columns += [f"build, thread hours, shards of {size:,}", "a query, thread ms", "TB"]
    rows = []
    for engine, own in costs.items():
        cells = [engine]
        for size in SHARD_SIZES:
            build, query, stored = (
                own.fitted(cost) for cost in ("build, thread µs an item", "query, thread µs", "bytes an item")
            )
            cells.append(number(build and build[2].at(size) * BILLION / 3.6e9))
            cells.append(number(query and query[2].at(size) * BILLION / size / 1e3))
            cells.append(number(stored and stored[2].at(size) * BILLION / 1e12))
        rows.append(cells)
    return Table(f"{name}: a billion items in shards, each asked, as the fitted lines have it", columns, rows)


def draw(document: Document, folder: Path) -> list[Path]:
    """Costs against size, a picture a data set."""
    made = []
    for name in _names(document):
        costs = {engine: Costs(document, name, engine) for engine in _engines(document, name)}
        panels = {
            cost: {engine: fit for engine, own in costs.items() if (fit := own.fitted(cost)) is not None}
            for cost in next(iter(costs.values())).costs
        }
        title = f"{name}, at recall {document['options']['recall']:.2f}"
        made.append(draw_growth(folder / f"growth-{name}.svg", title, panels))
    return made


if __name__ == "__main__":
    run(main)

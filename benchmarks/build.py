"""How long ours and annoy take to build the same forest, the adding of items included, and what its searches find.

    python -m benchmarks.build --data DIR [--sets NAME ...] [--trees 50] [--rounds 3]

Each build is in a process of its own, on --threads threads. The forest is loaded again, and asked all queries at each
of the --budgets. Ratios are taken within a round; the median over the rounds is shown.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.curves import median, ratio
from benchmarks.datasets import Prepared
from benchmarks.engines import usable
from benchmarks.options import described, notes, parsed, parser, prepared, run, sources, written
from benchmarks.peers import Document, Figure, identity, remove
from benchmarks.processes import run_stage
from benchmarks.tables import Table, megabytes, number, terminal, times

CLAIM = "build"
ENGINES = ("ours", "annoy")


def main() -> None:
    made = parser(CLAIM, __doc__, ["text256", "sift128"])
    made.add_argument("--trees", type=int, default=50, metavar="N")
    made.add_argument("--budgets", type=int, nargs="+", default=[1_000, 10_000], metavar="N", help="(1000 10000)")
    options = parsed(made)
    state = described()
    figures: list[Figure] = []
    for source in sources(options):
        usable(source.metric, options.engines or ENGINES)
        figures += measure(options, prepared(options, source))
        written(options, CLAIM, figures, state)
    for table in tables({"claim": CLAIM, "machine": state, "options": vars(options), "figures": figures}):
        table.show(terminal())


def measure(options: argparse.Namespace, data: Prepared) -> list[Figure]:
    """One figure an engine and round."""
    engines = list(options.engines or ENGINES)
    settings = {"n_trees": options.trees}
    searches = [{"search_k": budget} for budget in options.budgets]
    figures = []
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        for turn in range(options.rounds):
            for engine in engines if turn % 2 == 0 else reversed(engines):
                notes.print(f"{data.name}: round {turn + 1} of {options.rounds}, {engine} …", highlight=False)
                folder = Path(scratch) / f"{engine}-{turn}"
                folder.mkdir()
                common: dict[str, Any] = {"engine": engine, "settings": settings, "folder": folder}
                common["threads"] = options.threads
                built = run_stage("build_stage", data, **common)
                searched = run_stage("point_stage", data, **common, searches=searches)
                remove(folder)
                figures.append(identity(data, engine, settings, turn) | {"built": built, "searched": searched})
    return figures


def tables(document: Document) -> list[Table]:
    """One for all data sets."""
    clock, budgets = document["options"].get("clock", "wall"), document["options"]["budgets"]
    columns = ["data set, engine", "build s", "to annoy", *(f"recall, budget {budget:,}" for budget in budgets)]
    columns += ["less annoy's", "save s", "bytes / raw", "peak MB"]
    rows = []
    figures = document["figures"]
    for name in dict.fromkeys(figure["set"] for figure in figures):
        of_set = [figure for figure in figures if figure["set"] == name]
        annoys = {figure["round"]: figure for figure in of_set if figure["engine"] == "annoy"}
        for engine in dict.fromkeys(figure["engine"] for figure in of_set):
            own = [figure for figure in of_set if figure["engine"] == engine]
            quicker = [
                ratio(annoys[figure["round"]]["built"]["build"][clock], figure["built"]["build"][clock])
                for figure in own
                if figure["round"] in annoys
            ]
            recalls = _recalls(own)
            gains = [one - other for one, other in zip(recalls, _recalls(list(annoys.values())), strict=False)]
            rows.append(
                [
                    f"{name}, {engine}",
                    number(median(figure["built"]["build"][clock] for figure in own)),
                    times(median(quicker)),
                    *(f"{recall:.3f}" for recall in recalls),
                    ", ".join(f"{gain:+.3f}" for gain in gains) or "–",
                    number(median(figure["built"]["save"][clock] for figure in own)),
                    number(median(figure["built"]["bytes"] / figure["raw"] for figure in own)),
                    megabytes(median(figure["built"]["peak"] for figure in own)),
                ]
            )
    trees, threads = figures[0]["settings"]["n_trees"], document["options"]["threads"]
    return [Table(f"{trees} trees, {threads} threads, adding the items included", columns, rows)]


def _recalls(figures: list[Figure]) -> list[float]:
    """The median recall of each budget."""
    if not figures:
        return []
    by_budget = zip(*(figure["searched"]["points"] for figure in figures), strict=True)
    return [median(point["recall"] for point in points) or 0.0 for points in by_budget]


if __name__ == "__main__":
    run(main)

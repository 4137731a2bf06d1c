"""Recall, speed, build time, bytes and memory of ours and of other libraries, each in processes of its own.

    python -m benchmarks.peers --data DIR [--sets NAME ...] [--engines NAME ...] [--rounds 3]

A round builds every index on --threads threads, saves it, loads it in a new process, and sweeps its search settings:
all queries as one batch on --threads threads, and --singles of them one by one on one thread. Recall is of the 10
nearest, ties counted. Rounds go through the engines in turn, every other one backwards. Speeds at a recall are read off
each round's own frontier, ratios are taken within a round, and the median over the rounds is shown.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.curves import TARGETS, Point, median, ratio, speed_at
from benchmarks.datasets import Prepared
from benchmarks.engines import Engine
from benchmarks.options import described, notes, parsed, parser, prepared, run, with_engines, written
from benchmarks.plots import draw_curves
from benchmarks.processes import StageFailed, run_stage
from benchmarks.tables import Table, megabytes, number, terminal, times

CLAIM = "peers"
Figure = dict[str, Any]
Document = dict[str, Any]


def main() -> None:
    made = parser(CLAIM, __doc__)
    made.add_argument("--singles", type=int, default=1000, metavar="N", help="queries asked one by one (1000)")
    made.add_argument("--build-once", action="store_true", help="build in the first round only")
    options = parsed(made)
    state = described()
    figures: list[Figure] = []
    for source, engines in with_engines(options):
        data = prepared(options, source)
        figures += measure(options, data, engines)
        path = written(options, CLAIM, figures, state)  # after each set: what is measured is not lost
    document = {"claim": CLAIM, "machine": state, "options": vars(options), "figures": figures}
    for table in tables(document):
        table.show(terminal())
    draw(document, path.parent)


def measure(options: argparse.Namespace, data: Prepared, engines: Sequence[type[Engine]]) -> list[Figure]:
    """One figure an engine and round."""
    figures = []
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        built: dict[str, dict[str, Any]] = {}
        for turn in range(options.rounds):
            for engine in engines if turn % 2 == 0 else reversed(engines):
                notes.print(f"{data.name}: round {turn + 1} of {options.rounds}, {engine.name} …", highlight=False)
                figure = identity(data, engine.name, engine.builds(data.n_items)[0], turn)
                folder = Path(scratch) / (engine.name if options.build_once else f"{engine.name}-{turn}")
                try:
                    figure |= _measured(options, data, engine, figure["settings"], folder, built)
                except StageFailed as error:
                    notes.print(f"  {engine.name} failed: {error}", style="red", highlight=False)
                    figure["failed"] = str(error)
                figures.append(figure)
                if not options.build_once:
                    remove(folder)
    return figures


def _measured(
    options: argparse.Namespace,
    data: Prepared,
    engine: type[Engine],
    settings: dict[str, int],
    folder: Path,
    built: dict[str, dict[str, Any]],
) -> Figure:
    common = {"engine": engine.name, "settings": settings, "folder": folder, "threads": options.threads}
    if not options.build_once or engine.name not in built:
        folder.mkdir()
        built[engine.name] = run_stage("build_stage", data, **common)
    sweep = {"top": TARGETS[-1], "patience": options.patience, "singles": options.singles}
    return {"built": built[engine.name], "searched": run_stage("sweep_stage", data, **common, **sweep)}


def identity(data: Prepared, engine: str, settings: dict[str, int], turn: int) -> Figure:
    """What a figure is of."""
    return {
        "set": data.name,
        "metric": data.metric,
        "items": data.n_items,
        "width": data.width,
        "raw": data.raw_bytes,
        "engine": engine,
        "settings": settings,
        "round": turn,
    }


def remove(folder: Path) -> None:
    """A flat folder of files."""
    for file in folder.iterdir() if folder.exists() else ():
        file.unlink()


def is_ours(engine: str) -> bool:
    """Or a peer's."""
    return engine.startswith("ours")


def per_second(speed: dict[str, Any], clock: str) -> float:
    """Queries a second; by processor time as if all threads had been busy all the time."""
    seconds = speed["wall"] if clock == "wall" else speed["cpu"] / speed["threads"]
    return float(speed["queries"] / max(seconds, 1e-9))


def curve(figure: Figure, way: str, clock: str) -> list[Point]:
    """The points of a sweep, `way` being "batch" or "one"."""
    points = figure.get("searched", {}).get("points", [])
    return [Point(point["recall"], per_second(point[way], clock)) for point in points if way in point]


class Comparison:
    """The speeds of one data set's engines at fixed recall, round by round."""

    def __init__(self, figures: Iterable[Figure], way: str, clock: str) -> None:
        self._speeds: dict[tuple[str, int, float], float | None] = {
            (figure["engine"], figure["round"], target): speed_at(curve(figure, way, clock), target)
            for figure in figures
            for target in TARGETS
        }
        self._rounds = sorted({turn for _, turn, _ in self._speeds})
        self._engines = list(dict.fromkeys(engine for engine, _, _ in self._speeds))

    def speed(self, engine: str, target: float) -> float | None:
        """Queries per second."""
        return median(self._speeds.get((engine, turn, target)) for turn in self._rounds)

    def to_annoy(self, engine: str, target: float) -> float | None:
        """The ratio to annoy's speed."""
        return self._ratio(engine, ["annoy"], target)

    def to_best_peer(self, engine: str, target: float) -> float | None:
        """The ratio to the fastest of the others that are not ours."""
        others = [name for name in self._engines if not is_ours(name) and name != engine]
        return self._ratio(engine, others, target)

    def _ratio(self, engine: str, others: list[str], target: float) -> float | None:
        def of_round(turn: int) -> float | None:
            speeds = [self._speeds.get((name, turn, target)) for name in others]
            best = max((speed for speed in speeds if speed is not None), default=None)
            return ratio(self._speeds.get((engine, turn, target)), best)

        return median(of_round(turn) for turn in self._rounds)


def tables(document: Document) -> list[Table]:
    """For each data set: builds, batches, single queries."""
    clock = document["options"].get("clock", "wall")
    made = []
    for name in dict.fromkeys(figure["set"] for figure in document["figures"]):
        figures = [figure for figure in document["figures"] if figure["set"] == name]
        head = f"{name}, {figures[0]['metric']}, {figures[0]['items']:,} × {figures[0]['width']}"
        made.append(_builds(f"{head}: build, {document['options']['threads']} threads", figures, clock))
        for way, words in (("batch", f"one batch, {document['options']['threads']} threads"), ("one", "one by one")):
            made.append(_speeds(f"{head}: queries per second, {words}", figures, way, clock))
    return made


def _builds(title: str, figures: list[Figure], clock: str) -> Table:
    columns = ["engine", "settings", "build s", "to annoy", "save s", "bytes / raw"]
    columns += ["build peak MB", "load s", "search peak MB"]
    rows = []
    for engine in dict.fromkeys(figure["engine"] for figure in figures):
        own = [figure for figure in figures if figure["engine"] == engine and "built" in figure]
        annoys = {figure["round"]: figure for figure in figures if figure["engine"] == "annoy" and "built" in figure}
        if not own:
            failures = [figure["failed"] for figure in figures if figure["engine"] == engine]
            rows.append([engine, f"failed: {failures[0]}"] + ["–"] * (len(columns) - 2))
            continue
        quicker = [
            ratio(annoys[figure["round"]]["built"]["build"][clock], figure["built"]["build"][clock])
            for figure in own
            if figure["round"] in annoys
        ]
        rows.append(
            [
                engine,
                shown(own[0]["settings"]),
                number(median(figure["built"]["build"][clock] for figure in own)),
                times(median(quicker) if quicker else None),
                number(median(figure["built"]["save"][clock] for figure in own)),
                number(median(figure["built"]["bytes"] / figure["raw"] for figure in own)),
                megabytes(median(figure["built"]["peak"] for figure in own)),
                number(median(figure["searched"]["load"][clock] for figure in own)),
                megabytes(median(figure["searched"]["peak"] for figure in own)),
            ]
        )
    return Table(title, columns, rows)


def _speeds(title: str, figures: list[Figure], way: str, clock: str) -> Table:
    compared = Comparison(figures, way, clock)
    columns = ["engine", *(f"@{target:.2f}" for target in TARGETS)]
    columns += [f"{words} @{target:.2f}" for words in ("to annoy", "to the best other") for target in (0.90, 0.95)]
    rows = []
    for engine in dict.fromkeys(figure["engine"] for figure in figures):
        cells = [number(compared.speed(engine, target)) for target in TARGETS]
        cells += [times(compared.to_annoy(engine, target)) for target in (0.90, 0.95)]
        cells += [times(compared.to_best_peer(engine, target)) for target in (0.90, 0.95)]
        rows.append([engine, *cells])
    return Table(title, columns, rows)


def shown(settings: dict[str, int]) -> str:
    """Settings in a cell."""
    return ", ".join(f"{name} {value}" for name, value in settings.items()) or "–"


def draw(document: Document, folder: Path) -> list[Path]:
    """Recall against speed, a picture a data set."""
    clock = document["options"].get("clock", "wall")
    made = []
    for name in dict.fromkeys(figure["set"] for figure in document["figures"]):
        figures = [figure for figure in document["figures"] if figure["set"] == name]
        curves = {
            words: {
                engine: _middle([curve(figure, way, clock) for figure in figures if figure["engine"] == engine])
                for engine in dict.fromkeys(figure["engine"] for figure in figures)
            }
            for way, words in (("one", "one by one, 1 thread"), ("batch", "one batch, all threads"))
        }
        made.append(draw_curves(folder / f"peers-{name}.svg", f"{name}, recall of the 10 nearest", curves))
    return made


def _middle(rounds: list[list[Point]]) -> list[Point]:
    """The round whose speeds are in the middle: points of different rounds make no curve."""
    present = sorted((points for points in rounds if points), key=lambda points: points[-1].speed)
    return present[len(present) // 2] if present else []


if __name__ == "__main__":
    run(main)

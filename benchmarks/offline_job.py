"""The offline job as a whole: vectors in, index on disk, 100,000 queries answered at a recall of at least 0.90.

    python -m benchmarks.offline_job --data DIR [--sets NAME ...] [--engines NAME ...] [--rounds 3]

The seconds are those of adding, building and saving in one process, and of loading and searching in another; both have
--threads threads. The queries of the data set are asked as they are, as --batches batches one after the other: nothing
is remembered between them. Every engine is tried with its usual build and with lighter ones, as less work on the index
may be the shorter job, and with the fastest search setting that finds enough; finding that setting is not timed. The
best build of an engine counts. An exact scan takes part.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.curves import median, ratio
from benchmarks.datasets import Prepared
from benchmarks.engines.engine import Settings
from benchmarks.options import described, notes, parsed, parser, prepared, run, with_engines, written
from benchmarks.peers import Document, Figure, identity, is_ours, remove, shown
from benchmarks.processes import StageFailed, run_stage
from benchmarks.tables import Table, number, terminal, times

CLAIM = "offline_job"
SLACK = 0.002  # builds on several threads differ a little from one another: the setting must find so much more


def main() -> None:
    made = parser(CLAIM, __doc__, ["text256", "sift128"])
    made.add_argument("--recall", type=float, default=0.90, help="(0.90)")
    made.add_argument("--batches", type=int, default=10, metavar="N", help="(10)")
    options = parsed(made)
    state = described()
    figures: list[Figure] = []
    for source, engines in with_engines(options):
        data = prepared(options, source)
        jobs = [(engine.name, settings) for engine in engines for settings in engine.builds(data.n_items)]
        figures += measure(options, data, jobs)
        written(options, CLAIM, figures, state)
    for table in tables({"claim": CLAIM, "machine": state, "options": vars(options), "figures": figures}):
        table.show(terminal())


def measure(options: argparse.Namespace, data: Prepared, jobs: list[tuple[str, Settings]]) -> list[Figure]:
    """One figure a job and round."""
    figures = []
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        searches: dict[int, Settings | None] = {}
        for turn in range(options.rounds):
            places = list(range(len(jobs)))
            for place in places if turn % 2 == 0 else reversed(places):
                engine, settings = jobs[place]
                words = f"{engine}, {shown(settings)}"
                notes.print(f"{data.name}: round {turn + 1} of {options.rounds}, {words} …", highlight=False)
                folder = Path(scratch) / f"{place}-{turn}"
                folder.mkdir()
                figure = identity(data, engine, settings, turn)
                try:
                    figure |= _job(options, data, engine, settings, folder, searches, place)
                except StageFailed as error:
                    notes.print(f"  {words} failed: {error}", style="red", highlight=False)
                    figure["failed"] = str(error)
                remove(folder)
                figures.append(figure)
    return figures


def _job(
    options: argparse.Namespace,
    data: Prepared,
    engine: str,
    settings: Settings,
    folder: Path,
    searches: dict[int, Settings | None],
    place: int,
) -> Figure:
    common = {"engine": engine, "settings": settings, "folder": folder, "threads": options.threads}
    built = run_stage("build_stage", data, **common)
    if place not in searches:
        target = options.recall + SLACK
        tuned = run_stage("tune_stage", data, **common, target=target, patience=options.patience)
        searches[place] = tuned["search"]
    search = searches[place]
    if search is None:
        return {"built": built, "failed": f"no setting found {options.recall:.2f}"}
    answered = run_stage("batches_stage", data, **common, search=search, batches=options.batches)
    return {"built": built, "search": search, "answered": answered}


def seconds(figure: Figure, clock: str) -> float | None:
    """Of the whole job; None if it failed, or found too little."""
    if "answered" not in figure:
        return None
    built, answered = figure["built"], figure["answered"]
    return float(built["build"][clock] + built["save"][clock] + answered["load"][clock] + answered["search"][clock])


def tables(document: Document) -> list[Table]:
    """One a data set; the fastest job first."""
    options = document["options"]
    made = []
    for name in dict.fromkeys(figure["set"] for figure in document["figures"]):
        figures = [figure for figure in document["figures"] if figure["set"] == name]
        asked = next((figure["answered"]["queries"] for figure in figures if "answered" in figure), 0)
        title = (
            f"{name}, {figures[0]['items']:,} items in, {asked:,} queries answered at recall "
            f"≥ {options['recall']:.2f}, {options['threads']} threads"
        )
        made.append(_table(title, figures, options.get("clock", "wall"), options["recall"]))
    return made


def _table(title: str, figures: list[Figure], clock: str, target: float) -> Table:
    columns = [
        "engine and build",
        "search",
        "recall",
        "build s",
        "save s",
        "load s",
        "search s",
        "job s",
        "best peer / this",
    ]
    rows: list[tuple[float, list[str]]] = []
    for own in _jobs(figures):
        words = [f"{own[0]['engine']}, {shown(own[0]['settings'])}"]
        done = [figure for figure in own if "answered" in figure]
        job = median(seconds(figure, clock) for figure in own)
        if not done or job is None:
            rows.append((float("inf"), [*words, own[0].get("failed", "–"), *["–"] * 7]))
            continue
        recall = min(figure["answered"]["recall"] for figure in done)
        cells = [shown(done[0]["search"]), f"{recall:.3f}" + ("" if recall >= target else " (too low)")]
        cells += [number(median(figure["built"][part][clock] for figure in done)) for part in ("build", "save")]
        cells += [number(median(figure["answered"][part][clock] for figure in done)) for part in ("load", "search")]
        ratios = [
            ratio(_best_peer(figures, figure["round"], clock, target, figure["engine"]), seconds(figure, clock))
            for figure in done
        ]
        rows.append((job, [*words, *cells, number(job), times(median(ratios))]))
    return Table(title, columns, [cells for _, cells in sorted(rows, key=lambda row: row[0])])


def _jobs(figures: list[Figure]) -> Iterator[list[Figure]]:
    """The rounds of each job."""
    found: dict[str, list[Figure]] = {}
    for figure in figures:
        found.setdefault(f"{figure['engine']} {figure['settings']}", []).append(figure)
    yield from found.values()


def _best_peer(figures: list[Figure], turn: int, clock: str, target: float, engine: str) -> float | None:
    """Seconds of the fastest job of another engine that is not ours and found enough, in that round."""
    jobs: list[Any] = [
        seconds(figure, clock)
        for figure in figures
        if figure["round"] == turn
        and not is_ours(figure["engine"])
        and figure["engine"] != engine
        and figure.get("answered", {}).get("recall", 0) >= target
    ]
    return min(jobs, default=None)


if __name__ == "__main__":
    run(main)

"""What all commands ask alike: data, engines, threads, rounds, where figures go."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import machine
from benchmarks.datasets import METRICS, Prepared, Source, find_sets, prepare
from benchmarks.engines import Engine, usable
from benchmarks.failure import BenchmarkError

QUICK = {"limit": 5_000, "queries": 500, "rounds": 1}

notes = Console(stderr=True)


def parser(claim: str, description: str | None, sets: list[str] | None = None) -> argparse.ArgumentParser:
    """The options of a command; `sets` are measured if the folder has more."""
    made = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{claim}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--data", type=Path, nargs="+", required=True, help="folders or files with vectors")
    made.add_argument("--sets", nargs="+", default=sets, metavar="NAME", help="only these data sets")
    made.add_argument("--metric", choices=METRICS, help="instead of the data set's own")
    made.add_argument("--engines", nargs="+", metavar="NAME", help="only these")
    made.add_argument("--threads", type=int, default=2, help="of builds and batches (2)")
    made.add_argument("--rounds", type=int, help="repetitions, engines in turn; medians are shown (3)")
    made.add_argument("--limit", type=int, metavar="N", help="no more items than N")
    made.add_argument("--queries", type=int, metavar="N", help="no more queries than N")
    made.add_argument("--patience", type=float, default=120, help="a sweep ends after a batch of so many seconds (120)")
    made.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="seconds to judge by (wall)")
    made.add_argument("--quick", action="store_true", help=f"try the command out: {QUICK}")
    made.add_argument("--json", type=Path, default=Path("results") / f"{claim}.json", help="where the figures go")
    made.add_argument("--cache", type=Path, help="folder of prepared data (the user's cache)")
    made.add_argument("--scratch", type=Path, help="folder for indexes (the system's temporary one)")
    return made


def parsed(made: argparse.ArgumentParser) -> argparse.Namespace:
    """The options given, with what `--quick` stands for."""
    options = made.parse_args()
    for name, value in QUICK.items():
        if getattr(options, name) is None and (options.quick or name == "rounds"):
            setattr(options, name, value if options.quick else 3)
    if options.threads < 1 or options.rounds < 1:
        made.error("--threads and --rounds are at least 1")
    return options


def sources(options: argparse.Namespace) -> list[Source]:
    """The data sets asked for."""
    return find_sets(options.data, options.sets, options.metric)


def with_engines(options: argparse.Namespace) -> list[tuple[Source, list[type[Engine]]]]:
    """The data sets asked for, each with the engines asked for that know its metric; sets without any are left out."""
    found = [(source, usable(source.metric, options.engines)) for source in sources(options)]
    for source, engines in found:
        if not engines:
            notes.print(f"{source.name} is left out: no engine asked for knows {source.metric}", highlight=False)
    if not any(engines for _, engines in found):
        raise BenchmarkError("no engine asked for knows the metric of any data set; see --engines and --sets")
    return [(source, engines) for source, engines in found if engines]


def prepared(options: argparse.Namespace, source: Source, n_items: int | None = None) -> Prepared:
    """A data set with its exact answers."""
    notes.print(f"{source.name}: exact answers …", highlight=False)
    at_most = options.limit if n_items is None else None
    return prepare(source, n_items=n_items, at_most=at_most, n_queries=options.queries, cache=options.cache)


def written(options: argparse.Namespace, claim: str, figures: list[dict[str, Any]], state: dict[str, Any]) -> Path:
    """The figures as JSON, with what they were taken on and with."""
    asked = {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}
    asked["data"] = [str(path) for path in options.data]
    options.json.parent.mkdir(parents=True, exist_ok=True)
    document = {"claim": claim, "machine": state, "options": asked, "figures": figures}
    options.json.write_text(json.dumps(document, indent=1))
    notes.print(f"figures: {options.json}", highlight=False)
    return Path(options.json)


def run(command: Callable[[], None]) -> None:
    """A command's main; errors of ours are sentences."""
    try:
        command()
    except BenchmarkError as error:
        sys.exit(f"Error: {error}")


def described() -> dict[str, Any]:
    """The machine, before it is put to work."""
    return machine.describe()

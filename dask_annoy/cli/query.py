"""``dask annoy query``: the nearest items to queries from a file, and recall against exact search."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from dask_annoy.cli.answers import FILE_SUFFIXES, answer_file, no_answers, print_json, print_table
from dask_annoy.cli.errors import AnnoyCommand
from dask_annoy.cli.options import ROWS, VERSION, quiet_option, report_options, source_options, storage_options
from dask_annoy.cli.output import echo_json, echo_pairs
from dask_annoy.cli.progress import reporting
from dask_annoy.cli.scheduler import client_at, scheduler_options
from dask_annoy.units import duration_text

if TYPE_CHECKING:
    from dask_annoy.cli.answers import Write
    from dask_annoy.cli.progress import Report
    from dask_annoy.cli.truth import Truth
    from dask_annoy.cluster import ShardedIndex
    from dask_annoy.cluster.executor import ClientLike
    from dask_annoy.shard import SearchMethod
    from dask_annoy.vectors import RowSource

__all__ = ["query_command"]

_SHOWN: Final = 5  # queries that are answered if nobody says how many


@click.command("query", cls=AnnoyCommand)
@click.argument("url")
@click.argument("queries")
@click.option("-k", type=click.IntRange(min=1), default=10, show_default=True, help="Answers a query.")
@click.option("--search-k", type=click.IntRange(min=1), help="Search budget in each shard. [default: the tuned one]")
@click.option("--target-recall", type=click.FloatRange(0, 1, min_open=True), help="Choose the budget for this recall.")
@click.option(
    "--method",
    type=click.Choice(["auto", "exact", "trees", "leaves", "cells"]),
    default="auto",
    show_default=True,
    help="How each shard is searched; auto takes what costs least at the search budget.",
)
@click.option(
    "--rows",
    type=ROWS,
    help="Rows of QUERIES: one, or START:STOP. [default: all; without --output, "
    f"--json or --exact, the first {_SHOWN}]",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the answers to a local file: .npz (arrays queries, ids, distances) or .parquet.",
)
@click.option(
    "--exact",
    metavar="VECTORS",
    help="The vectors that were indexed: find the exact neighbours in them too, and print the recall.",
)
@click.option(
    "--ids", metavar="COLUMN|URL", help="With --exact: the ids of VECTORS, as given to build. [default: row numbers]"
)
@click.option("--column", help="Column of Parquet files that holds QUERIES.")
@click.option("--exact-column", metavar="COLUMN", help="Column of Parquet files that holds VECTORS.")
@click.option("--version", type=VERSION, help="Version of the index, by number or tag. [default: the newest]")
@storage_options
@source_options
@scheduler_options
@quiet_option
@report_options
def query_command(
    url: str,
    queries: str,
    k: int,
    search_k: int | None,
    target_recall: float | None,
    method: SearchMethod,
    rows: slice | None,
    output: Path | None,
    exact: str | None,
    ids: str | None,
    column: str | None,
    exact_column: str | None,
    version: int | str | None,
    storage_options: Mapping[str, Any] | None,
    source_options: Mapping[str, Any] | None,
    scheduler: str | None,
    scheduler_file: Path | None,
    quiet: bool,
    as_json: bool,
    debug: bool,
) -> None:  # fmt: skip
    """Answer QUERIES, vectors in a file, from the index in the folder URL.

    Prints the answers to a few queries as a table. With --json: a line {"query", "ids", "distances"} for each query
    (unless --output takes them), and a last line {"summary": …}.

    With --exact, recall is counted by ids. Exact search finds row numbers: if the index was built with ids of its own,
    give the same --ids here.
    """
    del debug  # AnnoyCommand's
    if search_k is not None and target_recall is not None:
        raise click.UsageError("give --search-k or --target-recall, not both: each decides the search budget")
    if exact is None and (ids is not None or exact_column is not None):
        raise click.UsageError("--ids and --exact-column describe the vectors of --exact, which is not given")
    if output is not None and output.suffix not in FILE_SUFFIXES:
        raise click.UsageError(f"--output {output}: the name must end with {' or '.join(FILE_SUFFIXES)}")
    from dask_annoy.cluster import open_index
    from dask_annoy.vectors import open_source

    few = rows is None and output is None and exact is None and not as_json
    with client_at(scheduler, scheduler_file) as client:
        index = open_index(url, version=version, storage_options=storage_options, client=client)
        options = _Options(url, storage_options, source_options)
        source = open_source(queries, column=column, storage_options=options.of(queries))
        chosen = slice(0, min(_SHOWN, source.n_rows)) if few else rows or slice(0, source.n_rows)
        truth = None if exact is None else _truth(index, exact, exact_column, ids, options, k, client)
        with contextlib.ExitStack() as stack:
            write: Write = print_json if as_json else no_answers if exact else print_table
            if output is not None:
                write = stack.enter_context(answer_file(output, index.manifest.id_type))
            report = stack.enter_context(reporting(quiet or few))
            question = _Question(k, search_k, target_recall, method)
            answered = _answer(index, source, chosen, question, write, truth, report)
    summary = _summary(index, question, answered, truth, output)
    if as_json:
        echo_json({"summary": summary})
    elif few:
        hint = "" if source.n_rows == chosen.stop else "; --rows, --output or --json for more"
        click.echo(f"\n{chosen.stop:,} of {source.n_rows:,} queries{hint}")
    else:
        _print_summary(summary, None if exact is None else ids)


@dataclass(frozen=True)
class _Options:
    """Storage options of the index, which also do for a source on the same kind of storage."""

    url: str
    storage: Mapping[str, Any] | None
    source: Mapping[str, Any] | None

    def of(self, source_url: str) -> Mapping[str, Any] | None:
        if self.source is not None:
            return self.source
        same = source_url.partition("://")[0] == self.url.partition("://")[0]
        return self.storage if same and "://" in self.url else None


@dataclass(frozen=True)
class _Question:
    k: int
    search_k: int | None
    target_recall: float | None
    method: SearchMethod


@dataclass(frozen=True)
class _Answered:
    queries: int
    seconds: float
    methods: Mapping[str, int]


def _truth(
    index: ShardedIndex,
    exact: str,
    column: str | None,
    ids: str | None,
    options: _Options,
    k: int,
    client: ClientLike,
) -> Truth:
    from dask_annoy.cli.truth import Truth
    from dask_annoy.vectors import open_ids, open_source

    vectors = open_source(exact, column=column, storage_options=options.of(exact))
    named = None if ids is None else open_ids(ids, vectors=vectors, storage_options=options.of(exact))
    return Truth(index, vectors, named, k, client)


def _answer(
    index: ShardedIndex,
    source: RowSource,
    chosen: slice,
    question: _Question,
    write: Write,
    truth: Truth | None,
    report: Report | None,
) -> _Answered:
    """Read, answer and hand on block by block. The time is that of the searches alone."""
    from dask_annoy.cluster.settings import current_settings

    stop = source.n_rows if chosen.stop is None else chosen.stop
    total, done, seconds = stop - chosen.start, 0, 0.0
    methods: Counter[str] = Counter()
    label = "search" if truth is None else "compare"
    if report is not None:
        report(label, 0, total)
    for first, rows in source.blocks(chosen.start, stop, max_bytes=current_settings().block_bytes):
        started = time.monotonic()
        result = index.query(rows, question.k, question.search_k, question.target_recall, method=question.method)
        methods.update(result.methods or {})
        seconds += time.monotonic() - started
        write(first, result)
        if truth is not None:
            truth.add(rows, result)
        done += len(rows)
        if report is not None:
            report(label, done, total)
    return _Answered(done, seconds, dict(methods))


def _summary(
    index: ShardedIndex, question: _Question, answered: _Answered, truth: Truth | None, output: Path | None
) -> dict[str, Any]:
    summary: dict[str, Any] = {
        "index": index.url,
        "version": index.version,
        "queries": answered.queries,
        "k": question.k,
        "seconds": round(answered.seconds, 4),
        "methods": answered.methods,
    }
    if output is not None:
        summary["output"] = str(output)
    if truth is not None:
        from dask_annoy.cli.truth import expected_recall

        tuning = index.info()["tuning"]
        summary["recall"] = truth.recall
        summary["expected_recall"] = expected_recall(tuning, question.search_k, question.target_recall)
        summary["expected_recall_k"] = None if tuning is None else tuning["k"]
    return summary


def _print_summary(summary: Mapping[str, Any], ids: str | None) -> None:
    speed = summary["queries"] / max(summary["seconds"], 1e-9)
    pairs = [
        ("answered", f"{summary['queries']:,} queries in {duration_text(summary['seconds'])} ({speed:,.0f} a second)")
    ]
    if summary["methods"]:
        searches = ", ".join(f"{count:,} by {method}" for method, count in sorted(summary["methods"].items()))
        pairs.append(("searches", f"{searches} (one a shard and block of queries)"))
    if "output" in summary:
        pairs.append(("answers", summary["output"]))
    if "recall" in summary:
        taken = "ids taken as row numbers" if ids is None else f"ids of {ids}"
        pairs.append((f"recall@{summary['k']}", f"{summary['recall']:.4f} against exact search ({taken})"))
        if summary["expected_recall"] is not None:
            name = f"recall@{summary['expected_recall_k']}"
            pairs.append(("index's own", f"{summary['expected_recall']:.4f} {name}, measured on its own vectors"))
    click.echo()
    echo_pairs(pairs)

"""``dask annoy demo``: an index of the documentation that every machine has, and questions to it."""

from __future__ import annotations

import shlex
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import click

from dask_annoy.cli.errors import ResumableCommand
from dask_annoy.cli.options import quiet_option, report_options
from dask_annoy.cli.output import echo_json
from dask_annoy.cli.scheduler import client_at, scheduler_options
from dask_annoy.units import duration_text

if TYPE_CHECKING:
    from dask_annoy.demo.index import Answer, Demo, Step

__all__ = ["demo_command"]

_NAME_WIDTH: Final = 32
_TEXT_WIDTH: Final = 78


@click.command("demo", cls=ResumableCommand)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Local folder for it. [default: dask-annoy/demo in the user's cache folder]",
)
@click.option("--ask", multiple=True, metavar="QUESTION", help="Ask this instead of the demo's questions; repeatable.")
@click.option("-n", type=click.IntRange(1, 20), default=3, show_default=True, help="Answers to a question.")
@click.option("--rebuild", is_flag=True, help="Build all anew, e.g. if a file of the folder is damaged.")
@scheduler_options
@quiet_option
@report_options
def demo_command(
    folder: Path | None,
    ask: tuple[str, ...],
    n: int,
    rebuild: bool,
    scheduler: str | None,
    scheduler_file: Path | None,
    quiet: bool,
    as_json: bool,
    debug: bool,
) -> None:
    """Index the documentation of Python, numpy and Dask on this machine, and ask it questions.

    Takes less than a minute the first time, without network, server or cluster, and some 80 MB. Later calls use what
    was built, until Python or one of the packages changes its version.
    """
    del debug  # ResumableCommand's
    from dask_annoy.demo.index import prepare
    from dask_annoy.demo.questions import QUESTIONS

    started = time.monotonic()
    with client_at(scheduler, scheduler_file) as client, _Steps(quiet) as steps:
        demo = prepare(folder, rebuild=rebuild, client=client, on_start=steps.start, on_step=steps.end)
        ready = time.monotonic() - started
        answers = {question: demo.ask(question, n) for question in ask or QUESTIONS}
    if as_json:
        echo_json(_document(demo, answers, ready))
        return
    if not ask:
        _introduce(demo, ready)
    for question, found in answers.items():
        click.echo(f"\n{click.style(question, bold=True)}")
        for answer in found:
            text = textwrap.shorten(answer.passage.text, _TEXT_WIDTH, placeholder=" …")
            click.echo(f"  {answer.passage.name:<{_NAME_WIDTH}} {answer.similarity:.2f}  {text}")
        if not found:
            click.echo("  None of its words are in the documentation.")
    if not ask:
        _say_how_to_go_on(demo, folder)


class _Steps:
    """Says on stderr what is going on: a step a line, ended when the step is."""

    def __init__(self, quiet: bool) -> None:
        self._quiet, self._line_is_open = quiet, False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *of_error: object) -> None:
        self._end_line("")

    def start(self, name: str) -> None:
        self._end_line("")
        if not self._quiet:
            click.echo(f"{name:<30}", err=True, nl=False)
            self._line_is_open = True

    def end(self, step: Step) -> None:
        self._end_line(f"{step.result:<20}{duration_text(step.seconds):>8}")

    def _end_line(self, text: str) -> None:
        if self._line_is_open:
            click.echo(text, err=True)
            self._line_is_open = False


def _introduce(demo: Demo, ready: float) -> None:
    done = "built" if demo.steps else "built before, opened"
    state, tuning = demo.state, demo.index.manifest.tuning
    click.echo(f"{len(demo.index):,} paragraphs of documentation in {demo.index.n_shards} shards, ", nl=False)
    click.echo(f"{done} in {duration_text(ready)}: {demo.index.url}")
    if state.recall is not None:
        own = "" if tuning is None else f" (on the paragraphs themselves {tuning.recall:.3f})"
        click.echo(
            f"recall@10 {state.recall:.3f} on {state.recall_queries:,} short questions, against exact search{own}"
        )


def _say_how_to_go_on(demo: Demo, folder: Path | None) -> None:
    where = "" if folder is None else f" --folder {shlex.quote(str(folder))}"
    index, vectors, ids = (shlex.quote(str(path)) for path in (demo.folder.index, demo.folder.vectors, demo.folder.ids))
    click.echo(f'\nAsk your own:  dask annoy demo{where} --ask "split a string at commas"')
    click.echo(f"Look inside:   dask annoy info {index}")
    click.echo(f"Measure:       dask annoy query {index} {vectors} --exact {vectors} --ids {ids}")
    click.echo("From Python:   from dask_annoy import open_index")
    click.echo(f"               index = open_index({demo.index.url!r})")


def _document(demo: Demo, answers: dict[str, list[Answer]], ready: float) -> dict[str, Any]:
    tuning = demo.index.manifest.tuning
    return {
        "folder": str(demo.folder.path),
        "index": demo.index.url,
        "items": len(demo.index),
        "shards": demo.index.n_shards,
        "recall": demo.state.recall,
        "recall_queries": demo.state.recall_queries,
        "expected_recall": None if tuning is None else tuning.recall,
        "seconds": round(ready, 3),
        "steps": [{"name": step.name, "result": step.result, "seconds": round(step.seconds, 3)} for step in demo.steps],
        "answers": [
            {
                "question": question,
                "answers": [
                    {
                        "id": answer.passage.id,
                        "name": answer.passage.name,
                        "similarity": round(answer.similarity, 4),
                        "text": answer.passage.text,
                    }
                    for answer in found
                ],
            }
            for question, found in answers.items()
        ],
    }

"""Progress of long work on stderr: a bar with the time left on a terminal, lines now and then elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

import click

from dask_annoy.units import duration_text

__all__ = ["Report", "reporting"]

Report = Callable[[str, int, int], None]
"""Called with what is done, how much of it is done, and how much there is."""

_SECONDS_BETWEEN_LINES = 10.0
_FEW_SECONDS = 0.5


@contextlib.contextmanager
def reporting(quiet: bool) -> Iterator[Report | None]:
    """What to give a long call as its ``progress``; None if nothing is to be shown."""
    if quiet:
        yield None
    elif sys.stderr.isatty():
        with _bars() as report:
            yield report
    else:
        yield _Lines()


@contextlib.contextmanager
def _bars() -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description:<8}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=False),
    )
    tasks: dict[str, TaskID] = {}
    # Shards finish far apart: the speed is that of the last half hour, not rich's last half minute.
    with Progress(*columns, console=Console(stderr=True), speed_estimate_period=1800) as progress:

        def report(label: str, done: int, total: int) -> None:
            if label not in tasks:
                tasks[label] = progress.add_task(label, total=total)
            progress.update(tasks[label], completed=done, total=total)

        yield report


class _Lines:
    """For logs: a line at the start, at each further tenth or after ten seconds, and at the end, never in a hurry."""

    def __init__(self) -> None:
        self._label = ""
        self._started = self._told_at = 0.0
        self._told = 0

    def __call__(self, label: str, done: int, total: int) -> None:
        now = time.monotonic()
        if label != self._label:
            self._label, self._started = label, now
        elif done < total:
            seconds = now - self._told_at
            if seconds < (_FEW_SECONDS if done - self._told >= total / 10 else _SECONDS_BETWEEN_LINES):
                return
        self._told, self._told_at, elapsed = done, now, now - self._started
        if done >= total:
            end = f" in {duration_text(elapsed)}"
        elif done:
            end = f", about {duration_text(elapsed * (total - done) / done)} left"
        else:
            end = ""
        click.echo(f"{label}: {done:,} of {total:,}{end}", err=True)

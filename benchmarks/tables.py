"""Tables of figures, for the terminal and for Markdown."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table as RichTable


@dataclass(frozen=True)
class Table:
    """A title, columns of which the first is of words, and rows of cells."""

    title: str
    columns: list[str]
    rows: list[list[str]]

    def markdown(self) -> str:
        """With the title as a line of its own."""
        head = [self.columns, ["---"] + ["---:"] * (len(self.columns) - 1)]
        lines = ["| " + " | ".join(row) + " |" for row in [*head, *self.rows]]
        return "\n".join([f"**{self.title}**", "", *lines])

    def show(self, console: Console) -> None:
        """On a terminal; wide tables are not cut where the output is no terminal."""
        made = RichTable(title=self.title, title_justify="left")
        for place, column in enumerate(self.columns):
            made.add_column(column, justify="right" if place else "left", no_wrap=True)
        for row in self.rows:
            made.add_row(*row)
        console.print(made)


def terminal() -> Console:
    """Standard output; where it is no terminal, wide enough for every table."""
    console = Console()
    return console if console.is_terminal else Console(width=240)


def number(value: float | None) -> str:
    """Three digits that count; a dash if there is none."""
    if value is None:
        return "–"
    if value >= 100:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def times(value: float | None) -> str:
    """A ratio."""
    return "–" if value is None else f"{number(value)}×"


def megabytes(value: float | None) -> str:
    """Bytes, in MB."""
    return "–" if value is None else f"{value / 1e6:,.0f}"

"""Options that several commands share, and the types of their values."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from dask_annoy._native import metric_names

__all__ = [
    "AUTO_INT",
    "ROWS",
    "VERSION",
    "build_options",
    "quiet_option",
    "report_options",
    "source_options",
    "storage_options",
    "target_options",
    "target_recall_option",
    "unsafe_publish_option",
    "vector_options",
]

Command = TypeVar("Command", bound=Callable[..., Any])

if TYPE_CHECKING:
    ParamType = click.ParamType[Any]
else:  # generic since click 8.4 only
    ParamType = click.ParamType


class _AutoInt(ParamType):
    """A positive integer, or the word auto."""

    name = "integer|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | Literal["auto"]:
        if value == "auto":
            return "auto"
        try:
            number = int(value)
        except ValueError:
            number = 0
        if number < 1:
            self.fail(f"{value!r} is neither a positive integer nor auto", param, ctx)
        return number


class _Cells(_AutoInt):
    """A positive integer, or the word auto, or none, which is False."""

    name = "integer|auto|none"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | Literal["auto", False]:
        return False if value == "none" or value is False else super().convert(value, param, ctx)


class _Rows(ParamType):
    """``START:STOP``, either end may be missing, or a single row; gives a slice."""

    name = "start:stop"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> slice:
        if isinstance(value, slice):
            return value
        first, colon, last = value.partition(":")
        try:
            start = int(first) if first else 0
            stop = (int(last) if last else None) if colon else start + 1
        except ValueError:
            start, stop = -1, None
        if start < 0 or (stop is not None and stop <= start) or not value:
            self.fail(f"{value!r} is no range of rows: expected START:STOP with STOP above START", param, ctx)
        return slice(start, stop)


class _Options(ParamType):
    """One of: a JSON object, ``key=value``, or ``@FILE`` with a JSON object; gives a dict. Never shows its value."""

    name = "json|key=value|@file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        text = value.strip()
        if text.startswith("@"):
            try:
                text = Path(text[1:]).read_text().strip()
            except (OSError, ValueError) as error:
                self.fail(f"the file cannot be read: {getattr(error, 'strerror', None) or 'it is no text'}", param, ctx)
        elif not text.startswith("{"):
            key, equals, word = text.partition("=")
            if not (key and equals):
                self.fail("expected a JSON object, key=value, or @FILE", param, ctx)
            return {key: {"true": True, "false": False, "null": None}.get(word, word)}
        try:
            options = json.loads(text)
        except ValueError:
            options = None
        if not isinstance(options, dict):
            self.fail("the text is no JSON object", param, ctx)
        return options


class _Version(ParamType):
    """The number of a version, or a tag."""

    name = "number|tag"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        if isinstance(value, int) or not value.lstrip("-").isdecimal():
            return value  # type: ignore[no-any-return]
        number = int(value)
        if number < 1:
            self.fail(f"{value!r} is no version: versions count from 1", param, ctx)
        return number


AUTO_INT = _AutoInt()
CELLS = _Cells()
ROWS = _Rows()
VERSION = _Version()


def _merged(ctx: click.Context, param: click.Parameter, values: tuple[dict[str, Any], ...]) -> Mapping[str, Any] | None:
    """One dict of all the values of a repeated option; None if there was none."""
    del ctx, param
    if not values:
        return None
    options: dict[str, Any] = {}
    for value in values:
        options |= value
    return options


def _options(name: str, what: str) -> Callable[[Command], Command]:
    return click.option(name, type=_Options(), multiple=True, callback=_merged, help=what)


def _all(*decorators: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


def report_options(command: Command) -> Command:
    """Add ``--json`` and ``--debug``, which `AnnoyCommand` acts on."""
    return _all(
        click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout, errors too."),
        click.option("--debug", is_flag=True, help="Show the traceback of an error."),
    )(command)


quiet_option = click.option("--quiet", "-q", is_flag=True, help="No progress on stderr.")

target_recall_option = click.option(
    "--target-recall", type=click.FloatRange(0, 1, min_open=True), default=0.9, show_default=True,
    help="Recall@10 that the search budget is chosen for, on sampled rows.",
)  # fmt: skip

storage_options = _options(
    "--storage-options",
    "What fsspec needs beside the URL of the index: '{\"client_kwargs\": {…}}', key=value (repeat it), or @FILE with "
    "JSON, which keeps secrets out of the list of processes.",
)
target_options = _options("--target-options", "The same for the folder that is written to.")
unsafe_publish_option = click.option(
    "--allow-unsafe-publish", is_flag=True,
    help="Publish also on storage that cannot create a file exclusively (SFTP, WebHDFS …): right as long as nobody "
    "else writes there.",
)  # fmt: skip
source_options = _options(
    "--source-options",
    "The same for the vectors, queries and ids. [default: --storage-options, if the storage is of the same kind]",
)

vector_options: Callable[[Command], Command] = _all(
    click.option("--metric", type=click.Choice(metric_names()), default="angular", show_default=True),
    click.option("--ids", metavar="COLUMN|URL", help="Ids: a column of the Parquet files, or a .npy file of "
                 "integers or strings. [default: row numbers]"),
    click.option("--column", help="Column of Parquet files that holds the vectors."),
    click.option("--width", type=click.IntRange(min=1), help="Dimensions: needed with --packed, else checked."),
    click.option("--packed", is_flag=True, help="For hamming: rows hold packed bits, as numpy.packbits makes them."),
)  # fmt: skip

build_options: Callable[[Command], Command] = _all(
    click.option("--n-trees", type=AUTO_INT, default="auto", show_default=True, help="Trees in each shard."),
    click.option("--shard-rows", type=AUTO_INT, default="auto", show_default=True, help="Rows of a shard at most."),
    click.option("--cells", type=CELLS, default="auto", show_default=True,
                 help="Cells of each shard, about; none makes shards that are searched by their trees, slowly."),
    target_recall_option,
    click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True,
                 help="The same input, parameters and seed give the same bytes."),
)  # fmt: skip

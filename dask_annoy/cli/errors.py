"""Errors as sentences and exit codes: the click classes that all commands are made with."""

from __future__ import annotations

import contextlib
import re
import traceback
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, TextIO

import click

from dask_annoy.cli.output import echo_json
from dask_annoy.errors import DaskAnnoyError, DaskAnnoyWarning

__all__ = ["AnnoyCommand", "ResumableCommand", "sentence_of"]

_INTERRUPTED = 130  # 128 + SIGINT, as shells have it
_SECRET_KEY = re.compile(r"key|secret|token|pass|cred|sas|sig|auth|connection", re.IGNORECASE)
_PASSWORD_IN_URL = re.compile(r"://[^/\s@]*:[^/\s@]*@")
_ARGUMENT = re.compile(
    r"\b(overwrite|packed|column|width|metric|ids|allow_unsafe_publish|on_duplicate|missing|max_deleted)=(True|…|[\w'\"]+)"
)
_QUOTES = "'\""
_OWN_WORDS = (DaskAnnoyError, OSError, ValueError, TypeError, ImportError, RuntimeError, NotImplementedError)


class AnnoyCommand(click.Command):
    """A command whose errors are one sentence on stderr (and JSON on stdout with ``--json``), exit code 1."""

    interrupted: ClassVar[str] = "Interrupted."

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; click calls this."""
        try:
            with _warnings_as_notes():
                return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise  # usage errors and closed pipes are click's
        except KeyboardInterrupt as error:
            self._tell(ctx, error, self.interrupted)
            ctx.exit(_INTERRUPTED)
        except Exception as error:
            secrets = [secret for value in ctx.params.values() for secret in _secrets(value)]
            if ctx.params.get("debug"):
                click.echo(_without(secrets, traceback.format_exc()), err=True, nl=False)
            message = _without(secrets, sentence_of(error))
            self._tell(ctx, error, message, prefix="Error: ")
            ctx.exit(1)

    def _tell(self, ctx: click.Context, error: BaseException, message: str, prefix: str = "") -> None:
        if ctx.params.get("as_json"):
            echo_json({"error": {"type": type(error).__name__, "message": message}})
        click.echo(f"{prefix}{message}", err=True)


@contextlib.contextmanager
def _warnings_as_notes() -> Iterator[None]:
    """Show our warnings on stderr, as a sentence and without a line of code."""

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, DaskAnnoyWarning):
            click.echo(f"Note: {message}", err=True)
        else:
            shown(message, category, filename, lineno, file, line)

    with warnings.catch_warnings():
        shown = warnings.showwarning
        warnings.simplefilter("always", DaskAnnoyWarning)
        warnings.showwarning = show
        yield


class ResumableCommand(AnnoyCommand):
    """A command that goes on where it was stopped."""

    interrupted = "Interrupted. Run the same command again: it continues from what is finished."


def sentence_of(error: BaseException) -> str:
    """The error on one line, in words."""
    if isinstance(error, OSError) and error.errno is not None and error.strerror and not isinstance(error, ValueError):
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    words = _ARGUMENT.sub(_as_option, " ".join(str(error).split()))
    if isinstance(error, _OWN_WORDS) and words:
        return words
    return f"unexpected {type(error).__name__}{f': {words}' if words else ''} (--debug shows where)"


def _as_option(argument: re.Match[str]) -> str:
    """A keyword argument, which the library's messages advise, as the option that it is here."""
    name, value = argument.groups()
    option = f"--{name.replace('_', '-')}"
    return option if value in ("True", "…") else f"{option} {value.strip(_QUOTES)}"


def _secrets(options: Any) -> Iterator[str]:
    """The strings that must not be printed: those in storage options under a telling name."""
    if isinstance(options, Mapping):
        for key, value in options.items():
            yield from _secrets(value)
            if isinstance(value, str) and len(value) > 3 and _SECRET_KEY.search(str(key)):
                yield value


def _without(secrets: list[str], text: str) -> str:
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return _PASSWORD_IN_URL.sub("://***@", text)

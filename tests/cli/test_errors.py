from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from dask_annoy.cli.errors import AnnoyCommand
from dask_annoy.cli.options import report_options, storage_options
from dask_annoy.errors import InvalidVectorsError


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("build", "missing.npy", "new"), "missing.npy: No such file or directory"),
        (("build", "vectors.npy", "new", "--width", 7), "vectors.npy has 64 columns, but --width 7 was given"),
        (("build", "damaged.npy", "new"), "damaged.npy: row 77, column 3 is nan"),
        (("build", "vectors.npy", "index"), "holds version 1 of another index"),
        (("build", "vectors.npy", "new", "--ids", "queries.npy"), "ids must be a 1-D array of integers or strings"),
        (("build", "vectors.npy", "new", "--packed"), "--packed is for the hamming metric"),
        (("plan", "vectors.txt"), "the suffix does not say what this is"),
        (("info", "nothing-here"), "nothing-here"),
        (("info", "index", "--version", 9), "version 9"),
        (("query", "index", "names.npy"), "names.npy"),
        (("query", "index", "queries.npy", "--rows", "90:110"), "rows 90 to 110 were asked for, there are 100"),
        (("query", "index", "vectors.npy", "--scheduler-file", "none.json"), "there is no scheduler file none.json"),
        (("query", "index", "vectors.npy", "--scheduler-file", "vectors.npy"), "is not a scheduler file"),
        (("query", "index", "vectors.npy", "--scheduler", "tcp://127.0.0.1:1"), "tcp://127.0.0.1:1"),
        (("query", "index", "vectors.npy", "--scheduler", "nonsense://x"), "nonsense"),
    ],
)
def test_an_error_is_one_sentence_and_exit_code_1(
    call, files: Path, index: Path, arguments: tuple[Any, ...], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    del index
    import dask

    monkeypatch.chdir(files)
    with dask.config.set({"distributed.comm.timeouts.connect": "0.5s"}):
        done = call(*arguments, *(["-q"] if arguments[0] in ("build", "query") else []))
    assert done.exit_code == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: ")
    assert sentence in line


@pytest.mark.parametrize(
    "arguments",
    [
        ("build", "vectors.npy"),
        ("build", "vectors.npy", "unused", "--metric", "cosine"),
        ("build", "vectors.npy", "unused", "--shard-rows", "many"),
        ("build", "vectors.npy", "unused", "--storage-options", "secret-text"),
        ("build", "vectors.npy", "unused", "--storage-options", '{"secret": "secret-text"'),
        ("build", "vectors.npy", "unused", "--storage-options", "@none.json"),
        ("query", "index", "queries.npy", "--rows", "5:5"),
        ("query", "index", "queries.npy", "--output", "answers.csv"),
        ("query", "index", "queries.npy", "--ids", "names.npy"),
        ("query", "index", "queries.npy", "--search-k", 5, "--target-recall", 0.5),
        ("query", "index", "queries.npy", "--scheduler", "tcp://x:1", "--scheduler-file", "f"),
        ("nothing",),
    ],
)
def test_wrong_usage_is_exit_code_2(
    call, files: Path, arguments: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files)
    done = call(*arguments)
    assert done.exit_code == 2
    assert "secret-text" not in done.output
    assert not (files / "unused").exists()


def test_a_real_process_fails_without_a_traceback(process, tmp_path: Path) -> None:
    done = process("info", tmp_path / "nothing")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr


def test_debug_shows_where_an_error_comes_from(call, tmp_path: Path) -> None:
    done = call("info", tmp_path / "nothing", "--debug")
    assert done.exit_code == 1
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("Error: ")


def test_with_json_an_error_is_json_on_stdout_too(call, tmp_path: Path) -> None:
    done = call("info", tmp_path / "nothing", "--json")
    assert done.exit_code == 1
    error = json.loads(done.stdout)["error"]
    assert error["type"] == "IndexNotFoundError"
    assert done.stderr == f"Error: {error['message']}\n"


@pytest.mark.parametrize("debug", [[], ["--debug"]])
@pytest.mark.parametrize(
    "options",
    [
        ['{"key": "AKIA-someone", "client_kwargs": {"aws_secret_access_key": "hunter2"}}'],
        ["key=AKIA-someone", "secret=hunter2"],
        ["@FILE"],
    ],
)
def test_credentials_are_never_printed(options: list[str], debug: list[str], tmp_path: Path) -> None:
    (tmp_path / "options.json").write_text('{"key": "AKIA-someone", "token": "hunter2"}')

    @click.command(cls=AnnoyCommand)
    @storage_options
    @report_options
    def chatty(storage_options: Mapping[str, Any], as_json: bool, debug: bool) -> None:
        raise PermissionError(f"{dict(storage_options)} may not read s3://someone:hunter3@bucket")

    values = [option.replace("FILE", str(tmp_path / "options.json")) for option in options]
    arguments = [word for value in values for word in ("--storage-options", value)]
    done = CliRunner().invoke(chatty, [*arguments, *debug, "--json"])
    assert done.exit_code == 1
    assert "may not read s3://***@bucket" in done.stderr
    for secret in ("AKIA", "hunter"):
        assert secret not in done.output


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (InvalidVectorsError("two\n  lines"), "two lines"),
        (FileNotFoundError(2, "No such file or directory", "/x"), "/x: No such file or directory"),
        (KeyError("x"), "unexpected KeyError: 'x' (--debug shows where)"),
        (ValueError(), "unexpected ValueError (--debug shows where)"),
    ],
)
def test_whatever_is_raised_becomes_a_sentence(error: Exception, sentence: str) -> None:
    @click.command(cls=AnnoyCommand)
    @report_options
    def failing(as_json: bool, debug: bool) -> None:
        raise error

    done = CliRunner().invoke(failing, [])
    assert (done.exit_code, done.stderr) == (1, f"Error: {sentence}\n")

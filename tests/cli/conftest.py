"""Files of handwritten digits, an index of them, and ways to call the command."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from dask_annoy.cli import annoy

Call = Callable[..., Result]
Process = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def files(digits: NDArray[np.float32], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,697 digits to index, and 100 others to ask for; a damaged copy; ids."""
    folder = tmp_path_factory.mktemp("digits")
    rows = digits
    np.save(folder / "vectors.npy", rows[:-100])
    np.save(folder / "queries.npy", rows[-100:])
    np.save(folder / "names.npy", np.array([f"digit {row}" for row in range(len(rows) - 100)]))
    np.save(folder / "numbers.npy", np.arange(len(rows) - 100) + 5000)
    damaged = rows.copy()
    damaged[77, 3] = np.nan
    np.save(folder / "damaged.npy", damaged)
    return folder


@pytest.fixture(scope="session")
def call() -> Call:
    """Call the command in this process."""

    def call(*arguments: object) -> Result:
        return CliRunner().invoke(annoy, [str(argument) for argument in arguments], catch_exceptions=False)

    return call


@pytest.fixture(scope="session")
def process() -> Process:
    """Call ``dask annoy`` in a process of its own, as Dask loads it."""

    def process(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=120, **options)

    return process


@pytest.fixture(scope="session")
def index(files: Path, call: Call) -> Path:
    """An index of the digits in four shards, ids being row numbers."""
    return built(call, files, "index")


@pytest.fixture(scope="session")
def named_index(files: Path, call: Call) -> Path:
    """The same, with strings as ids."""
    return built(call, files, "named-index", "--ids", files / "names.npy")


def built(call: Call, files: Path, name: str, *options: object) -> Path:
    url = files / name
    done = call("build", files / "vectors.npy", url, "--metric", "euclidean", "--shard-rows", 500, "-q", *options)
    assert done.exit_code == 0, done.stderr
    return url


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-P", "-m", "dask", "annoy", *(str(argument) for argument in arguments)]

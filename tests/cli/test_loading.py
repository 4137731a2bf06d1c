from __future__ import annotations

import subprocess
import sys

from dask_annoy.cli import annoy


def test_loading_the_commands_loads_nothing_heavy() -> None:
    check = (
        "import sys, dask_annoy.cli; heavy = {'numpy', 'distributed', 'dask', 'rich', 'pydantic', 'fsspec'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_dask_lists_the_command(process) -> None:
    done = process("--help")
    assert done.returncode == 0
    assert done.stderr == ""
    for name in annoy.commands:
        assert f"\n  {name} " in done.stdout


def test_the_version_is_that_of_dask_annoy(call) -> None:
    assert call("--version").output.startswith("dask-annoy, version ")

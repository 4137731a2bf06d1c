from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np


def test_ctrl_c_ends_a_build_at_once_and_the_same_command_continues_it(tmp_path: Path) -> None:
    rows = 160_000
    np.save(tmp_path / "vectors.npy", np.random.default_rng(0).normal(size=(rows, 48)).astype(np.float32))
    arguments = ["build", str(tmp_path / "vectors.npy"), str(tmp_path / "index"), "--shard-rows", "8000"]
    command = [sys.executable, "-P", "-m", "dask", "annoy", *arguments]

    first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert first.stderr is not None
    told = []
    for line in first.stderr:
        told.append(line)
        if line.startswith("build:") and list(tmp_path.glob("index/builds/*/[0-9]*.json")):  # a shard is finished
            first.send_signal(signal.SIGINT)
            break
    output, rest = first.communicate(timeout=60)
    assert first.returncode == 130, "".join(told) + rest
    assert output == ""
    assert rest.splitlines()[-1] == "Interrupted. Run the same command again: it continues from what is finished."
    assert "Traceback" not in rest

    second = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert second.returncode == 0, second.stderr
    missing = re.search(r"build: 0 of ([\d,]+)", second.stderr)
    assert missing is not None
    assert int(missing[1].replace(",", "")) < rows
    assert f"{rows:,} × 48" in second.stdout


def test_an_interrupted_query_leaves_no_file(files: Path, index: Path, tmp_path: Path) -> None:
    check = f"""
import signal, sys
from dask_annoy.cluster import ShardedIndex
from dask.__main__ import main
search = ShardedIndex.query
def interrupted(self, *arguments, **settings):
    signal.raise_signal(signal.SIGINT)
    return search(self, *arguments, **settings)
ShardedIndex.query = interrupted
sys.argv = ["dask", "annoy", "query", {str(index)!r}, {str(files / "queries.npy")!r}, "--output", "a.parquet"]
main()
"""
    done = subprocess.run([sys.executable, "-P", "-c", check], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.splitlines()[-1] == "Interrupted."
    assert list(tmp_path.iterdir()) == []

"""A forest over more than the memory it may take: time and peak memory next to the unbounded build.

    python benchmarks/out_of_core.py --data DIR [--rows 2000000] [--trees 10] [--limit 300] [--rounds 3] [--folder TMP]

The rows are those of DIR/sift128.npy, repeated until there are enough, each with Gaussian noise of standard deviation 2
(components are 0 to 255); they are written to a .npy file first. Every build is a process of its own: it imports numpy
and dask_annoy, adds the rows in pieces of 20,000 read from the file, builds on disk, and saves. One has
``memory_limit=`` (in MB, the whole process), the other none; they take turns. Peak memory is VmHWM, from Linux's
/proc/self/status. Both must have written the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from dask_annoy import AnnoyIndex, estimate_build

METRIC = "euclidean"
PIECE = 20_000
NOISE = 2.0


def write_rows(base: Path, count: int, path: Path) -> None:
    """The base set repeated, with noise."""
    rows = np.load(base, mmap_mode="r")
    rng = np.random.default_rng(0)
    out = np.lib.format.open_memmap(path, "w+", np.float32, (count, rows.shape[1]))
    for start in range(0, count, PIECE):
        n = min(PIECE, count - start)
        noise = rng.normal(0, NOISE, (n, rows.shape[1])).astype(np.float32)
        out[start : start + n] = rows[np.arange(start, start + n) % len(rows)] + noise
    out.flush()


def peak_bytes() -> int:
    """The most memory this process has had resident."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


class Laps:
    """Wall and processor seconds since the last lap, and the peak so far."""

    def __init__(self) -> None:
        self.laps: dict[str, dict[str, float]] = {}
        self._last = self._now()

    def _now(self) -> tuple[float, float]:
        return time.perf_counter(), time.process_time()

    def end(self, name: str) -> None:
        """Note what it took since the lap before."""
        now = self._now()
        self.laps[name] = {"wall": now[0] - self._last[0], "cpu": now[1] - self._last[1], "peak": peak_bytes()}
        self._last = now


def build(rows: Path, forest: Path, n_trees: int, limit: int | None) -> dict[str, dict[str, float]]:
    with rows.open("rb") as file:
        np.lib.format.read_magic(file)
        (count, width), _, dtype = np.lib.format.read_array_header_1_0(file)
        laps = Laps()
        index = AnnoyIndex(width, METRIC)
        index.on_disk_build(str(forest))
        for start in range(0, count, PIECE):
            n = min(PIECE, count - start)
            index.add_items(np.fromfile(file, dtype, n * width).reshape(n, width))
    laps.end("add")
    index.build(n_trees, memory_limit=limit)
    laps.end("build")
    index.save(str(forest))
    laps.end("save")
    return laps.laps


def build_apart(rows: Path, forest: Path, n_trees: int, limit: int | None) -> dict[str, dict[str, float]]:
    """The same in a fresh process."""
    job = json.dumps({"rows": str(rows), "forest": str(forest), "n_trees": n_trees, "limit": limit})
    done = subprocess.run([sys.executable, __file__, "--job", job], check=True, stdout=subprocess.PIPE, text=True)
    laps: dict[str, dict[str, float]] = json.loads(done.stdout)
    return laps


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def shown(name: str, runs: list[dict[str, dict[str, float]]]) -> str:
    def median(phase: str, what: str) -> float:
        return statistics.median(run[phase][what] for run in runs)

    phases = "   ".join(
        f"{phase} {median(phase, 'wall'):6.1f} s wall {median(phase, 'cpu'):6.1f} s cpu" for phase in runs[0]
    )
    return f"{name:10} {phases}   peak {max(run['save']['peak'] for run in runs) / 1e6:7.1f} MB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with sift128.npy")
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--trees", type=int, default=10)
    parser.add_argument("--limit", type=float, default=300, help="bound on the process's memory, MB")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the files go; the system's temporary folder by default")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        job: dict[str, Any] = json.loads(options.job)
        print(json.dumps(build(Path(job["rows"]), Path(job["forest"]), job["n_trees"], job["limit"])))
        return
    if options.data is None:
        parser.error("--data is needed: a folder with sift128.npy")
    limit = int(options.limit * 1e6)
    runs: dict[str, list[dict[str, dict[str, float]]]] = {"unbounded": [], "bounded": []}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        rows, forest = Path(folder) / "rows.npy", Path(folder) / "forest.ann"
        write_rows(options.data / "sift128.npy", options.rows, rows)
        digests: set[str] = set()
        for _ in range(options.rounds):
            for name, bound in (("unbounded", None), ("bounded", limit)):
                runs[name].append(build_apart(rows, forest, options.trees, bound))
                digests.add(digest(forest))
                print(f"{name:10} {runs[name][-1]}", file=sys.stderr, flush=True)
        size = forest.stat().st_size
        width = np.load(rows, mmap_mode="r").shape[1]
    if len(digests) != 1:
        sys.exit("the builds wrote different bytes")
    predicted = estimate_build(options.rows, width, METRIC, options.trees, on_disk=True, memory_limit=limit)
    print(f"{options.rows:,} rows of {width} ({METRIC}), {options.trees} trees, {os.cpu_count()} processors")
    print(f"file {size / 1e6:.1f} MB, predicted {predicted.file_bytes / 1e6:.1f} MB; the same bytes in every run")
    for name, found in runs.items():
        print(shown(name, found))
    for what in ("wall", "cpu"):
        ratios = [
            bounded["build"][what] / unbounded["build"][what]
            for bounded, unbounded in zip(runs["bounded"], runs["unbounded"], strict=True)
        ]
        print(
            f"bounded / unbounded build, {what}: {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f})"
        )
    peak = max(run["save"]["peak"] for run in runs["bounded"])
    print(f"peak of the bounded process {peak / 1e6:.1f} MB, {'under' if peak < limit else 'OVER'} {limit / 1e6:g} MB")


if __name__ == "__main__":
    main()

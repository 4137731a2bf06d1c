"""How fast a forest file is opened, every node checked, next to how fast its bytes can be read.

    python benchmarks/load_speed.py [--gigabytes 1.2] [--rounds 5] [--folder DIR]

Builds a forest of each shape in a temporary folder (of DIR, or of the system's) and opens it with
``AnnoyIndex.load``, in turn with reading it by ``read`` into one buffer: warm (the file is in the page cache) and
cold-ish (the kernel was asked to drop it; what lies below the kernel may still remember). Prints the median and the
range of GB/s. Threads are those of ``n_jobs=-1``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dask_annoy import AnnoyIndex
from dask_annoy._native import list_capacity, node_size, thread_count

# Wide nodes are mostly skipped; of narrow ones every byte is looked at, so these are the two ends.
SHAPES = [("angular", 128, 20), ("euclidean", 8, 10), ("hamming", 256, 10)]
BLOCK = 100_000
BUFFER = 4 << 20


def build(path: Path, metric: str, width: int, n_trees: int, size: float) -> None:
    """A forest of about that many bytes, so many trees on each item."""
    # A list is about two thirds full, and there are about as many splits.
    items = int(size / node_size(metric, width) / (1 + n_trees * 3 / list_capacity(metric, width)))
    index = AnnoyIndex(width, metric)
    index.on_disk_build(str(path))
    rng = np.random.default_rng(0)
    while len(index) < items:
        index.add_items(rng.normal(size=(BLOCK, width)).astype(np.float32))
    index.build(n_trees)
    index.save(str(path))
    index.close()


def load(path: Path, metric: str, width: int) -> float:
    with AnnoyIndex(width, metric) as index:
        start = time.perf_counter()
        index.load(str(path))
        return time.perf_counter() - start


def read(path: Path) -> float:
    buffer = bytearray(BUFFER)
    start = time.perf_counter()
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass
    return time.perf_counter() - start


def drop(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)  # only clean pages can be dropped
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def speeds(size: int, rounds: int, prepare: Callable[[], object], *calls: Callable[[], float]) -> list[list[float]]:
    """GB/s of each call, the calls in turn."""
    found: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, speed in zip(calls, found, strict=True):
            prepare()
            speed.append(size / call() / 1e9)
    return found


def shown(values: list[float]) -> str:
    return f"{statistics.median(values):6.2f} GB/s ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=1.2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    print(f"{thread_count(-1)} threads")
    for metric, width, n_trees in SHAPES:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            path = Path(folder) / "forest.ann"
            build(path, metric, width, n_trees, options.gigabytes * 1e9)
            size = path.stat().st_size
            print(
                f"{metric} {width}, {n_trees} trees: {size / 1e9:.2f} GB in nodes of {node_size(metric, width)} bytes"
            )
            calls = (lambda: load(path, metric, width)), (lambda: read(path))  # noqa: B023
            for name, prepare in (("warm", lambda: read(path)), ("cold", lambda: drop(path))):  # noqa: B023
                loads, reads = speeds(size, options.rounds, prepare, *calls)
                ratio = statistics.median(a / b for a, b in zip(loads, reads, strict=True))
                print(f"  {name}  load {shown(loads)}   read {shown(reads)}   load / read {ratio:.2f}")


if __name__ == "__main__":
    main()

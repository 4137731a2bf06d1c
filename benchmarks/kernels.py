"""Compare the kernels of each instruction set on the work that they are for, on one thread.

Each table of kernels gets a process of its own, with `DASK_ANNOY_KERNELS` set: it builds a forest and its cells, and
answers queries exactly, by the trees and by the cells. The tables take turns, every other round backwards; processor
time is compared, and ratios are medians over the rounds. Answers must be equal.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.datasets import METRICS, Source, find_sets
from benchmarks.failure import BenchmarkError
from benchmarks.tables import Table, number, terminal, times
from benchmarks.vector_files import read_vectors

REFERENCE = "avx2"
NEIGHBORS = 10
TREES = 10
CANDIDATES = 5_000
QUERIES = {"exact scan": 200, "forest search": 500, "cells batch": 2_000}


def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.kernels",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders or files with vectors")
    parser.add_argument("--sets", nargs="+", metavar="NAME", help="only these data sets")
    parser.add_argument("--metric", choices=[*METRICS, "manhattan"], help="instead of the data set's own")
    parser.add_argument("--kernels", nargs="+", metavar="NAME", help="only these tables (all that run here)")
    parser.add_argument("--limit", type=int, default=50_000, help="no more items than this (50,000)")
    parser.add_argument("--rounds", type=int, default=3, help="repetitions, tables in turn (3)")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    parser.add_argument("--measure", metavar="NAME", help=argparse.SUPPRESS)  # what a process of its own is asked
    options = parser.parse_args()
    sources = find_sets(options.data, options.sets, options.metric)
    if options.measure:
        source = next(source for source in sources if source.name == options.measure)
        print(json.dumps(measure(source, options.limit)))
        return
    figures = [compare(source, options) for source in sources]
    for figure in figures:
        table_of(figure).show(terminal())
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


def measure(source: Source, limit: int) -> dict[str, Any]:
    """Seconds of processor time by the kind of work, with a digest of what came out."""
    from dask_annoy import AnnoyIndex
    from dask_annoy._native import ExactSearch, active_kernels

    binary = source.metric == "hamming"
    if source.queries is None:
        raise BenchmarkError(f"{source.name} has no file of queries beside it; HDF5 is not read here")
    items, queries = (_as_asked(read_vectors(path), binary) for path in (source.items, source.queries))
    items = items[:limit]
    width = items.shape[1] * (8 if binary else 1)
    packed = {"packed": True} if binary else {}
    digest = hashlib.blake2b(digest_size=8)

    def exact() -> Any:
        search = ExactSearch(queries[: QUERIES["exact scan"]], source.metric, width, NEIGHBORS, **packed)
        search.add(items, 0, n_jobs=1, **packed)
        return search.answers()

    def ask(work: str, budget: int) -> Any:
        asked = queries[: QUERIES[work]]
        return index.get_nns_by_vectors(asked, NEIGHBORS, budget, include_distances=True, n_jobs=1, **packed)

    index = AnnoyIndex(width, source.metric)
    index.add_items(items, **packed)
    works: dict[str, Callable[[], Any]] = {
        "build": lambda: index.build(TREES, n_jobs=1),
        "exact scan": exact,
        "forest search": lambda: ask("forest search", CANDIDATES),
        "cells build": lambda: index.build_cells(n_jobs=1),
        "cells batch": lambda: ask("cells batch", CANDIDATES),
    }
    seconds = {}
    for name, work in works.items():
        started = time.process_time()
        result = work()
        seconds[name] = time.process_time() - started
        if isinstance(result, tuple):
            for array in result:
                digest.update(np.ascontiguousarray(array).tobytes())
    return {"kernels": active_kernels(), "seconds": seconds, "digest": digest.hexdigest()}


def _as_asked(vectors: npt.NDArray[Any], binary: bool) -> npt.NDArray[Any]:
    return vectors if binary else vectors.astype(np.float32)


def compare(source: Source, options: argparse.Namespace) -> dict[str, Any]:
    """The seconds of each table in each round."""
    from dask_annoy._native import available_kernels

    names = options.kernels or available_kernels()
    rounds: list[dict[str, dict[str, float]]] = []
    digests: dict[str, str] = {}
    for turn in range(options.rounds):
        seconds = {}
        for name in names if turn % 2 == 0 else names[::-1]:
            found = run_with(name, source, options)
            seconds[name] = found["seconds"]
            digests[name] = found["digest"]
        rounds.append(seconds)
    if len(set(digests.values())) != 1:
        raise BenchmarkError(
            f"the kernels answer {source.name} differently: {digests}; expected the same bytes from all"
        )
    return {"set": source.name, "metric": source.metric, "limit": options.limit, "rounds": rounds}


def run_with(name: str, source: Source, options: argparse.Namespace) -> dict[str, Any]:
    """What a process with these kernels measures."""
    command = [sys.executable, "-m", "benchmarks.kernels", "--measure", source.name, "--limit", str(options.limit)]
    command += ["--data", *map(str, options.data)]
    command += ["--metric", options.metric] if options.metric else []
    environment = {**os.environ, "DASK_ANNOY_KERNELS": name, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise BenchmarkError(f"the process with the kernels {name} ended with status {done.returncode}; see above")
    return dict(json.loads(done.stdout))


def table_of(figure: dict[str, Any]) -> Table:
    """Seconds of each work, and how they compare with AVX2's (with the first table's where there is none)."""
    rounds = figure["rounds"]
    names = list(rounds[0])
    reference = REFERENCE if REFERENCE in names else names[0]
    rows = []
    for work in rounds[0][reference]:
        row = [work]
        for name in names:
            ratio = statistics.median(seconds[name][work] / seconds[reference][work] for seconds in rounds)
            median = statistics.median(seconds[name][work] for seconds in rounds)
            row.append(f"{number(median)} s, {times(ratio)}")
        rows.append(row)
    title = f"{figure['set']}, {figure['metric']}: processor seconds, and the multiple of {reference}'s"
    return Table(title, ["work", *names], rows)


if __name__ == "__main__":
    try:
        main()
    except BenchmarkError as error:
        sys.exit(f"Error: {error}")

"""Measure when a search restricted to some items had better score them all than walk the trees.

A scan costs something for each item that passes; a walk costs something for each item that it passes by, and it passes
by n / passing of them for each that counts. The ratio of the two costs is the constant of the rule (kPassedBy in
native/core/walk.hpp), which is right where both cost the same at the border: a walk is given the largest budget with
which the rule still walks, and compared with a scan, which is what a budget of all that pass gets. CPU time of one
thread, a batch of queries a measurement, the two in turn; medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

import dask_annoy

METRICS = {"text256": "angular", "sift128": "euclidean"}
RULE = 4  # kPassedBy
SCANNED_ALWAYS = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of NAME.npy and NAME_queries.npy")
    parser.add_argument("--sets", nargs="+", default=list(METRICS), choices=list(METRICS))
    parser.add_argument("--trees", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    for name in arguments.sets:
        rows = np.load(arguments.data / f"{name}.npy").astype(np.float32)
        queries = np.load(arguments.data / f"{name}_queries.npy")[:50].astype(np.float32)
        index = dask_annoy.AnnoyIndex(rows.shape[1], METRICS[name])
        index.add_items(rows)
        index.build(arguments.trees)
        measure(name, index, queries, arguments.repeats)


def measure(name: str, index: Any, queries: np.ndarray, repeats: int) -> None:
    n = len(index)
    rng = np.random.default_rng(0)

    def seconds(search_k: int, mask: np.ndarray | None) -> float:
        started = time.process_time()
        index.get_nns_by_vectors(queries, 10, search_k, n_jobs=1, include=mask)
        return (time.process_time() - started) / len(queries)

    def medians(*asked: tuple[int, np.ndarray | None]) -> list[float]:
        taken = [[seconds(*one) for one in asked] for _ in range(repeats)]
        return [statistics.median(column) for column in zip(*taken, strict=True)]

    few = np.zeros(n, bool)
    few[rng.choice(n, SCANNED_ALWAYS, replace=False)] = True
    scan, plain = medians((1, few), (-1, None))
    print(
        f"{name}: {SCANNED_ALWAYS} items scanned {1e6 * scan:,.0f} us,"
        f" a search with the default budget {1e6 * plain:,.0f} us"
    )
    for share in (0.02, 0.05, 0.1, 0.15, 0.3, 0.6):
        mask = rng.random(n) < share
        passing = int(mask.sum())
        budget = int(min(RULE * passing * passing / n, passing) * 0.98)  # just on the walk's side
        scan, walk = medians((passing, mask), (budget, mask))
        print(
            f"{name}: {share:4.0%} pass: scan {1e6 * scan:7,.0f} us; walk with a budget of {budget:6,}"
            f" {1e6 * walk:7,.0f} us, {walk / scan:.2f} of the scan",
            flush=True,
        )


if __name__ == "__main__":
    main()

"""Where the planner of searches is right, and what it costs where it is not.

For several numbers of items, queries in a batch and search budgets, each method that can be had is measured (CPU time
of one thread a query, medians of interleaved runs) beside the planner's estimate of it. The constants of
native/core/planner.cpp follow from the measured columns; only the ratios between methods matter for a choice. At the
end stand the calls in which the planner took a method that was not the fastest of those it may take, and how much
longer it took.

With a plain Annoy file (``plain``) the planner may only take walks or leaves, which have the same answers; with cells
the exact scan or the cells.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

import dask_annoy

METRICS = {"text256": "angular", "sift128": "euclidean", "orb256": "hamming"}
PLAIN = ("trees", "leaves")
CELLS = ("exact", "cells")
AT_LEAST = 0.01  # seconds a measurement


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of NAME.npy and NAME_queries.npy")
    parser.add_argument("--sets", nargs="+", default=list(METRICS), choices=list(METRICS))
    parser.add_argument("--items", nargs="+", type=int, default=[300, 1000, 3000, 10_000, 50_000, 200_000])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 16, 256, 2048])
    parser.add_argument("--budgets", nargs="+", type=int, default=[300, 1000, 5000])
    parser.add_argument("--trees", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write what was measured to this file")
    arguments = parser.parse_args()
    calls: list[dict[str, Any]] = []
    for name in arguments.sets:
        rows = np.load(arguments.data / f"{name}.npy", mmap_mode="r")
        queries = np.load(arguments.data / f"{name}_queries.npy")
        for n_items in [n for n in arguments.items if n <= len(rows)]:
            index = built(METRICS[name], rows[:n_items], arguments.trees)
            for batch in arguments.batches:
                for budget in [b for b in arguments.budgets if b < n_items]:
                    for methods in (PLAIN, CELLS):
                        call = {"set": name, "n_items": n_items, "batch": batch, "search_k": budget}
                        calls.append(call | measured(index, queries, batch, budget, methods, arguments.repeats))
                        print(line(calls[-1]), flush=True)
    report(calls)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(calls, indent=1))


def built(metric: str, rows: np.ndarray, n_trees: int) -> Any:
    packed = metric == "hamming"
    index = dask_annoy.AnnoyIndex(rows.shape[1] * (8 if packed else 1), metric)
    index.add_items(np.asarray(rows) if packed else np.asarray(rows, np.float32), packed=packed)
    index.build(n_trees)
    index.build_cells()
    return index


def measured(
    index: Any, queries: np.ndarray, batch: int, budget: int, methods: tuple[str, ...], repeats: int
) -> dict[str, Any]:
    """The microseconds a query of each method, measured and estimated, and which one would be taken."""
    packed = index.metric == "hamming"
    rows = queries if packed else queries.astype(np.float32)
    rounds = len(rows) // batch
    taken: dict[str, list[float]] = {method: [] for method in methods}
    place = 0
    for _ in range(repeats):
        for method in methods:
            done, started = 0, time.process_time()
            while not done or time.process_time() - started < AT_LEAST:
                begin = batch * (place % rounds)  # others each time: their rows are not in the cache
                index.get_nns_by_vectors(
                    rows[begin : begin + batch], 10, budget, n_jobs=1, packed=packed, method=method
                )
                place, done = place + 1, done + batch
            taken[method].append(1e6 * (time.process_time() - started) / done)
    plan = index.explain_search(batch, 10, budget, n_jobs=1)
    estimated = {method: 1e6 * plan.seconds[method] / batch for method in methods}
    # Without cells it would take the cheaper of its two.
    chosen = plan.method if "cells" in methods else min(methods, key=estimated.__getitem__)
    return {
        "measured": {method: statistics.median(values) for method, values in taken.items()},
        "estimated": estimated,
        "chosen": chosen,
    }


def line(call: dict[str, Any]) -> str:
    costs = "; ".join(
        f"{method} {call['measured'][method]:9.1f} us, estimated {call['estimated'][method]:9.1f}"
        for method in call["measured"]
    )
    return (
        f"{call['set']} {call['n_items']:7,} items, {call['batch']:5,} queries, search_k {call['search_k']:5,}: {costs}"
        f"; takes {call['chosen']}"
    )


def report(calls: list[dict[str, Any]]) -> None:
    """Print where the choice was not the fastest."""
    losses = [call["measured"][call["chosen"]] / min(call["measured"].values()) for call in calls]
    print(f"\n{len(calls)} calls; of the fastest method's time the planner's took")
    print(f"  {statistics.mean(losses):.3f} times in the mean, {max(losses):.2f} at most")
    for loss, call in sorted(zip(losses, calls, strict=True), key=lambda pair: -pair[0]):
        if loss > 1.1:
            print(f"  {loss:.2f} times: {line(call)}")


if __name__ == "__main__":
    main()

"""Compare the recall that an index prints with the recall it has, and its build with annoy's.

Builds each data set into shards on this machine's threads, asks all of its queries with the tuned search budget, and
compares with exact answers. The peer builds one forest of as many trees over all rows, on as many threads.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from annoy import AnnoyIndex as PeerIndex

import dask_annoy

METRICS = {"text256": "angular", "sift128": "euclidean", "orb256": "hamming"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of NAME.npy and NAME_queries.npy")
    parser.add_argument("--sets", nargs="+", default=list(METRICS), choices=list(METRICS))
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--target-recall", type=float, default=0.9)
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    arguments = parser.parse_args()
    figures = [measure(arguments.data, name, arguments.shards, arguments.target_recall) for name in arguments.sets]
    for row in figures:
        print(
            f"{row['set']:8} target {row['target']:.2f}  printed {row['printed']:.4f}  measured {row['measured']:.4f}  "
            f"{row['queries_per_second']:,.0f} queries/s  build {row['build_seconds']:.1f} s, "
            f"annoy {row['annoy_seconds']:.1f} s: {row['annoy_seconds'] / row['build_seconds']:.1f} times"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2))


def measure(data: Path, name: str, n_shards: int, target: float) -> dict[str, Any]:
    metric = METRICS[name]
    rows = np.load(data / f"{name}.npy")
    queries = np.load(data / f"{name}_queries.npy")
    form: dict[str, Any] = {"packed": True, "width": 8 * rows.shape[1]} if metric == "hamming" else {}
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        index = dask_annoy.build_index(
            data / f"{name}.npy",
            folder,
            metric=metric,
            shard_rows=-(-len(rows) // n_shards),
            target_recall=target,
            client=False,
            **form,
        )
        build_seconds = time.perf_counter() - started
        index.query(queries[:100])  # opens the shards
        started = time.perf_counter()
        answers = index.query(queries)
        query_seconds = time.perf_counter() - started
    truth = dask_annoy.exact_neighbors(rows, queries, metric=metric, client=False, **form)
    return {
        "set": name,
        "target": target,
        "printed": index.info()["tuning"]["recall"],
        "measured": dask_annoy.recall(answers.ids, truth.ids),
        "search_k": index.info()["tuning"]["search_k"],
        "queries_per_second": len(queries) / query_seconds,
        "build_seconds": build_seconds,
        "annoy_seconds": annoy_seconds(rows, metric, index.info()["n_trees"]),
    }


def annoy_seconds(rows: np.ndarray, metric: str, n_trees: int) -> float:
    vectors = np.unpackbits(rows, axis=1) if metric == "hamming" else rows.astype(np.float32)
    peer = PeerIndex(vectors.shape[1], metric)
    started = time.perf_counter()
    for number, vector in enumerate(vectors):
        peer.add_item(number, vector)
    peer.build(n_trees, n_jobs=len(os.sched_getaffinity(0)))
    return time.perf_counter() - started


if __name__ == "__main__":
    main()

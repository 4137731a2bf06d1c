"""Compare one query on one thread with annoy's, both on the same file and with the same search budget.

annoy builds each file; both load it. The budgets are those with which exactly 0.80 and 0.90 of the true neighbours
are met. Blocks of queries go to the two in turn, so that both see the same load of the machine; what is compared is the
thread's CPU time, and the ratio is the median over the blocks. Answers must be equal up to ties within rounding.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from annoy import AnnoyIndex as PeerIndex

import dask_annoy

METRICS = {"text256": "angular", "sift128": "euclidean", "orb256": "hamming"}
NEIGHBORS = 10
QUERIES_OF_BLOCK = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of NAME.npy and NAME_queries.npy")
    parser.add_argument("--sets", nargs="+", default=["text256", "sift128"], choices=list(METRICS))
    parser.add_argument("--trees", type=int, default=50)
    parser.add_argument("--recalls", type=float, nargs="+", default=[0.80, 0.90])
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--files", type=Path, help="keep annoy's files here, and use those that are there")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.files or Path(scratch)
        figures = [
            row
            for name in arguments.sets
            for row in measure(arguments.data, name, arguments.trees, arguments.recalls, arguments.queries, folder)
        ]
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2))


def measure(
    data: Path, name: str, n_trees: int, recalls: list[float], n_queries: int, folder: Path
) -> list[dict[str, Any]]:
    metric = METRICS[name]
    rows, queries = as_floats(np.load(data / f"{name}.npy")), as_floats(np.load(data / f"{name}_queries.npy"))
    queries = queries[:n_queries]
    path = folder / f"{name}.{n_trees}.ann"
    if not path.exists():
        build_with_peer(path, rows, metric, n_trees)
    peer = PeerIndex(rows.shape[1], metric)
    peer.load(str(path))
    ours = dask_annoy.AnnoyIndex(rows.shape[1], metric)
    ours.load(path)
    truth = dask_annoy.exact_neighbors(rows, queries, k=NEIGHBORS, metric=metric, client=False).ids
    needed = np.sort(ours.budgets_to_find(queries, truth), axis=None)
    figures = []
    for recall in recalls:
        budget = int(needed[int(np.ceil(recall * needed.size)) - 1])
        row = {"set": name, "trees": n_trees, "search_k": budget, **compare(peer, ours, queries, truth, budget)}
        figures.append(row)
        print(
            f"{name:8} {n_trees} trees, search_k {budget:6}: recall {row['recall']:.4f}, annoy's"
            f" {row['annoy_recall']:.4f}; {row['queries_per_second']:,.0f} queries/s,"
            f" annoy {row['annoy_queries_per_second']:,.0f}: {row['ratio']:.2f} times;"
            f" {row['different_answers']} of {len(queries)} answers differ",
            flush=True,
        )
    return figures


def as_floats(vectors: np.ndarray) -> np.ndarray:
    """Vectors as annoy takes them; packed bits one a column."""
    packed = vectors.dtype == np.uint8 and vectors.shape[1] == 32
    return (np.unpackbits(vectors, axis=1) if packed else vectors).astype(np.float32)


def build_with_peer(path: Path, rows: np.ndarray, metric: str, n_trees: int) -> None:
    peer = PeerIndex(rows.shape[1], metric)
    for number, vector in enumerate(rows):
        peer.add_item(number, vector)
    peer.build(n_trees)
    peer.save(str(path))


def compare(peer: Any, ours: Any, queries: np.ndarray, truth: np.ndarray, budget: int) -> dict[str, Any]:
    asked = queries.tolist()  # what annoy takes fastest; the same for both
    answers: dict[str, list[list[int]]] = {"peer": [], "ours": []}
    seconds: dict[str, list[float]] = {"peer": [], "ours": []}
    for index in (peer, ours):  # the pages of the file, the first allocations
        ask(index, asked[:QUERIES_OF_BLOCK], budget)
    for begin in range(0, len(asked), QUERIES_OF_BLOCK):
        block = asked[begin : begin + QUERIES_OF_BLOCK]
        turns = [("peer", peer), ("ours", ours)]
        for name, index in turns if begin // QUERIES_OF_BLOCK % 2 == 0 else turns[::-1]:
            started = time.thread_time()
            found = ask(index, block, budget)
            seconds[name].append((time.thread_time() - started) / len(block))
            answers[name] += found
    return {
        "recall": recall_of(answers["ours"], truth),
        "annoy_recall": recall_of(answers["peer"], truth),
        "queries_per_second": 1 / statistics.median(seconds["ours"]),
        "annoy_queries_per_second": 1 / statistics.median(seconds["peer"]),
        "ratio": statistics.median(a / b for a, b in zip(seconds["peer"], seconds["ours"], strict=True)),
        "different_answers": sum(a != b for a, b in zip(answers["peer"], answers["ours"], strict=True)),
    }


def ask(index: Any, queries: list[list[float]], budget: int) -> list[list[int]]:
    return [index.get_nns_by_vector(query, NEIGHBORS, budget) for query in queries]


def recall_of(answers: list[list[int]], truth: np.ndarray) -> float:
    found = sum(len(set(answer) & set(row)) for answer, row in zip(answers, truth.tolist(), strict=True))
    return found / truth.size


if __name__ == "__main__":
    main()

"""The recall that is printed is the recall that is had, on real vectors."""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np
import pytest

from dask_annoy import QueryResult, build_index, exact_neighbors, recall


def normalised(rows: Any) -> Any:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


@pytest.mark.parametrize("data", ["digits", "text_vectors"])
@pytest.mark.parametrize("metric", ["angular", "euclidean", "manhattan", "dot", "hamming"])
@pytest.mark.parametrize("shard_rows", [400, "auto"])
def test_recall_is_what_was_asked_for_and_what_is_printed(
    data: str, metric: str, shard_rows: Any, request: pytest.FixtureRequest
) -> None:
    rows = request.getfixturevalue(data)
    if metric == "dot":
        rows = normalised(rows)
    if metric == "hamming":
        rows = rows > np.median(rows, axis=0)
    held_out = np.zeros(len(rows), bool)
    held_out[::4] = True
    base, queries = rows[~held_out], rows[held_out]
    index = build_index(
        base, f"memory://{uuid.uuid4().hex}", metric=metric, shard_rows=shard_rows, target_recall=0.9, client=False
    )
    tuning = index.manifest.tuning
    assert tuning is not None
    assert tuning.recall >= 0.9
    assert f"recall@10 {tuning.recall:.3f}" in repr(index)
    truth = exact_neighbors(base, queries, 10, metric=metric, client=False)
    found = recall(index.query(queries, k=10, method="cells"), truth)
    assert found >= 0.9 - 0.02
    # Never less than is printed. Rows unseen may do better, and bits do: budgets are for k of the items that are
    # equally near, and the others are as right.
    better = 0.1 if metric == "hamming" else 0.05
    assert tuning.recall - 0.02 <= found <= tuning.recall + better
    assert recall(index.query(queries, k=10), truth) >= found  # small shards are scanned


@pytest.mark.parametrize("client_kind", ["no client", "processes"])
def test_a_sampled_row_finds_its_neighbours_as_often_as_printed(
    digits: Any, client_kind: str, tmp_path: Any, request: pytest.FixtureRequest
) -> None:
    client = False if client_kind == "no client" else request.getfixturevalue("process_client")
    index = build_index(digits, tmp_path, metric="euclidean", shard_rows=500, client=client)
    tuning = index.manifest.tuning
    assert tuning is not None
    truth = exact_neighbors(digits, digits, 11, metric="euclidean", client=client).ids[:, 1:]
    for target, printed in [(None, tuning.recall), (0.95, 0.95), (0.99, 0.99)]:
        found = index.query(digits, k=11, target_recall=target, method="cells").ids
        # More rather than less: what is printed leaves room for queries that are no rows.
        assert printed - 0.02 <= recall(found[:, 1:], truth) <= printed + 0.04


def test_a_higher_target_takes_a_larger_budget(text_vectors: Any) -> None:
    index = build_index(text_vectors, f"memory://{uuid.uuid4().hex}", shard_rows=600, client=False)
    queries = text_vectors[::7]
    truth = exact_neighbors(text_vectors, queries, 10, client=False).ids

    def found(**asked: Any) -> float:
        return recall(index.query(queries, method="cells", **asked).ids, truth)  # so small shards would be scanned

    recalls = [found(target_recall=level) for level in (0.6, 0.9, 0.97, 1.0)]
    assert recalls == sorted(recalls)
    assert recalls[0] < recalls[-1]
    assert found() == recalls[1]
    assert index.info()["tuning"]["target_recall"] == 0.9


def test_a_build_for_a_higher_recall_has_a_larger_default(text_vectors: Any) -> None:
    low, high = (
        build_index(text_vectors, f"memory://{uuid.uuid4().hex}", target_recall=target, client=False).manifest.tuning
        for target in (0.7, 0.97)
    )
    assert low is not None
    assert high is not None
    assert low.search_k < high.search_k
    assert low.curves == high.curves
    assert (low.recall >= 0.7, high.recall >= 0.97) == (True, True)


def test_of_results_an_answer_as_near_as_the_farthest_true_neighbour_is_right() -> None:
    truth = QueryResult(np.array([[1, 2, 3], [4, 5, -1]]), np.array([[1.0, 2.0, 2.0], [3.0, 4.0, np.inf]]))
    others = QueryResult(np.array([[1, 8, 9], [4, 7, 6]]), np.array([[1.0, 2.0, 2.0], [3.0, 5.0, 6.0]]))
    assert recall(others, truth) == pytest.approx(4 / 5)
    assert recall(others.ids, truth.ids) == pytest.approx(2 / 5)
    twice = QueryResult(np.array([[1, 1, -1], [4, 4, 4]]), np.array([[1.0, 1.0, np.inf], [3.0, 3.0, 3.0]]))
    assert recall(twice, truth) == pytest.approx(2 / 5)
    products = QueryResult(truth.ids, -np.asarray(truth.distances))
    assert recall(QueryResult(others.ids, -np.asarray(others.distances)), products) == pytest.approx(4 / 5)
    assert recall(products, products) == 1.0


def test_recall_counts_what_is_there_to_be_found() -> None:
    true = np.array([[1, 2, -1], [3, 4, 5]])
    assert recall([[2, 1, -1], [3, 9, 9]], true) == pytest.approx(3 / 5)
    assert recall([[9, 9, 9, 1], [9, 9, 9, 3]], true) == 0.0
    strings = np.array([["a", None]], object)
    assert recall(np.array([["b", "a"]], object), strings) == 1.0
    assert recall(np.empty((0, 3)), np.empty((0, 3))) == 1.0
    with pytest.raises(ValueError, match="shape"):
        recall(true, true[:1])

"""Files and answers against annoy 1.17.3: ours opened by it, its opened by us.

Its kernels add in another order (``-ffast-math``), so distances agree up to rounding; the ids of a rank may differ
only where the distances of that rank agree.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import annoy
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dask_annoy import AnnoyIndex

METRICS = ["angular", "euclidean", "manhattan", "hamming", "dot"]
FEW_ULP = 16 * float(np.finfo(np.float32).eps)

many = settings(
    max_examples=400,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


class Case(NamedTuple):
    metric: str
    width: int
    vectors: np.ndarray
    ids: np.ndarray
    queries: np.ndarray
    n_trees: int
    n: int
    search_k: int


@st.composite
def cases(draw: st.DrawFn) -> Case:
    metric = draw(st.sampled_from(METRICS))
    width = draw(st.integers(1, 200 if metric == "hamming" else 70))
    n_items = draw(st.one_of(st.integers(1, 12), st.integers(1, 400)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    vectors = rng.normal(size=(n_items, width)).astype(np.float32)
    queries = rng.normal(size=(4, width)).astype(np.float32)
    copies = draw(st.sampled_from(["none", "some", "all"]))
    if copies == "some":
        vectors[rng.integers(0, n_items, n_items // 2)] = vectors[0]
    elif copies == "all":
        vectors[:] = vectors[0]
    if metric == "hamming":
        vectors, queries = (vectors > 0).astype(np.float32), (queries > 0).astype(np.float32)
    ids = draw(st.integers(0, 3)) + draw(st.integers(1, 30)) * np.arange(n_items)
    return Case(
        metric,
        width,
        vectors,
        ids,
        queries,
        n_trees=draw(st.integers(1, 6)),
        n=draw(st.integers(1, 30)),
        search_k=draw(st.one_of(st.integers(0, 40), st.integers(0, 3000))),
    )


def filled(index: Any, case: Case) -> Any:
    for i, vector in zip(case.ids.tolist(), case.vectors, strict=True):
        index.add_item(i, vector)
    return index


def comparable(metric: str, distances: list[float]) -> np.ndarray:
    """Angular distances squared: the root of a difference near zero magnifies its rounding."""
    found = np.array(distances, np.float64)
    return found**2 if metric == "angular" else found


def tolerance(case: Case, query: np.ndarray) -> tuple[float, float]:
    """Relative and absolute."""
    if case.metric == "angular":
        return 0.0, 2 * FEW_ULP
    if case.metric == "dot":
        largest = float(np.linalg.norm(case.vectors, axis=1).max())
        return 0.0, FEW_ULP * largest * float(np.linalg.norm(query))
    return FEW_ULP, 0.0


def assert_same_answers(ours: AnnoyIndex, theirs: annoy.AnnoyIndex, case: Case) -> None:
    assert ours.get_n_items() == theirs.get_n_items() == case.ids[-1] + 1
    item = int(case.ids[len(case.ids) // 2])
    np.testing.assert_array_equal(ours.get_item_vector(item), theirs.get_item_vector(item))

    def assert_same(mine: tuple[list[int], list[float]], its: tuple[list[int], list[float]], query: Any) -> None:
        assert len(mine[0]) == len(its[0])
        relative, absolute = tolerance(case, query)
        np.testing.assert_allclose(
            comparable(case.metric, mine[1]), comparable(case.metric, its[1]), rtol=relative, atol=absolute
        )

    for query in case.queries:
        assert_same(
            ours.get_nns_by_vector(query, case.n, case.search_k, True),
            theirs.get_nns_by_vector(query, case.n, case.search_k, True),
            query,
        )
    assert_same(
        ours.get_nns_by_item(item, case.n, case.search_k, True),
        theirs.get_nns_by_item(item, case.n, case.search_k, True),
        case.vectors[len(case.ids) // 2],
    )
    other = int(case.ids[0])
    assert_same(
        ([other], [ours.get_distance(item, other)]),
        ([other], [theirs.get_distance(item, other)]),
        case.vectors[len(case.ids) // 2],
    )


@many
@given(case=cases())
def test_annoy_opens_our_files_and_answers_as_we_do(tmp_path: Path, case: Case) -> None:
    path = str(tmp_path / "ours.ann")
    ours = filled(AnnoyIndex(case.width, case.metric), case)
    ours.build(case.n_trees)
    theirs = annoy.AnnoyIndex(case.width, case.metric)
    for save in (True, False):
        if save:
            ours.save(path)
            theirs.load(path)
        assert_same_answers(ours, theirs, case)
    theirs.unload()


@many
@given(case=cases(), n_jobs=st.sampled_from([1, 1, 3]))
def test_we_open_annoys_files_and_answer_as_it_does(tmp_path: Path, case: Case, n_jobs: int) -> None:
    path = str(tmp_path / "theirs.ann")
    theirs = filled(annoy.AnnoyIndex(case.width, case.metric), case)
    theirs.set_seed(case.n)
    theirs.build(case.n_trees, n_jobs)
    theirs.save(path)
    ours = AnnoyIndex(case.width, case.metric)
    ours.load(path)
    assert ours.get_n_trees() == case.n_trees
    assert_same_answers(ours, theirs, case)
    theirs.unload()


@pytest.mark.parametrize("metric", METRICS)
def test_annoy_finds_as_many_trees_as_we_wrote(tmp_path: Path, metric: str) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(500, 10)).astype(np.float32)
    for n_trees in (1, 2, 7):
        ours = AnnoyIndex(10, metric)
        ours.add_items(vectors)
        ours.build(n_trees)
        ours.save(str(tmp_path / "x.ann"))
        theirs = annoy.AnnoyIndex(10, metric)
        theirs.load(str(tmp_path / "x.ann"))
        assert theirs.get_n_trees() == ours.get_n_trees() == n_trees
        theirs.unload()


@pytest.mark.parametrize("metric", METRICS)
def test_node_sizes_are_those_of_annoys_files(tmp_path: Path, metric: str) -> None:
    from dask_annoy._native import node_size

    for width in (1, 3, 64, 65, 130):
        theirs = annoy.AnnoyIndex(width, metric)
        theirs.add_item(0, [1.0] * width)
        theirs.build(1)
        theirs.save(str(tmp_path / "x.ann"))
        # One item, one tree and the copy of its root.
        assert (tmp_path / "x.ann").stat().st_size == 3 * node_size(metric, width)


@pytest.mark.parametrize("metric", ["angular", "euclidean", "manhattan", "hamming", "dot"])
def test_recall_is_no_worse_than_annoys(tmp_path: Path, metric: str) -> None:
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(40, 24))
    vectors = (centres[rng.integers(0, 40, 4000)] + 0.5 * rng.normal(size=(4000, 24))).astype(np.float32)
    if metric == "hamming":
        vectors = (vectors > 0).astype(np.float32)
    ours, theirs = AnnoyIndex(24, metric), annoy.AnnoyIndex(24, metric)
    ours.add_items(vectors)
    for i, vector in enumerate(vectors):
        theirs.add_item(i, vector)
    ours.build(8)
    theirs.build(8, 1)
    found = {"ours": 0, "theirs": 0}
    for query in range(0, 4000, 40):
        truth = ours.get_nns_by_item(query, 10, -2, include_distances=True)[1]
        for name, index in (("ours", ours), ("theirs", theirs)):
            # By distance, as hamming has many ties.
            distances = index.get_nns_by_item(query, 10, 400, include_distances=True)[1]
            worst = truth[-1] - 1e-3 if metric == "dot" else truth[-1] + 1e-3
            found[name] += sum(d >= worst if metric == "dot" else d <= worst for d in distances)
    assert found["ours"] >= 0.95 * found["theirs"]

"""The same file opened by annoy 1.17.3 and by us: the same query, the same answer.

Every answer of either program is held against a reference that admits another order only where it proves a tie within
the rounding error (``reference_search``); so each difference that remains is explained, or the test fails.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import annoy
import numpy as np
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from dask_annoy import AnnoyIndex
from dask_annoy._native import list_capacity

from .conftest import ANNOYS_METRICS
from .reference_search import OFFSETS, ForestFile

FEW_ULP = 16 * float(np.finfo(np.float32).eps)


class Case(NamedTuple):
    metric: str
    width: int
    vectors: np.ndarray
    ids: np.ndarray
    queries: np.ndarray
    n_trees: int
    n: int
    search_k: int

    @property
    def n_items(self) -> int:
        return int(self.ids.max()) + 1


def rows_of(rng: np.random.Generator, kind: str, n: int, width: int) -> np.ndarray:
    if kind == "small integers":
        return rng.integers(-2, 3, (n, width)).astype(np.float32)
    if kind == "large integers":
        return rng.integers(-1000, 1000, (n, width)).astype(np.float32)
    rows = rng.normal(size=(n, width))
    if kind == "far from zero":
        rows = rows * 0.01 + 5
    elif kind == "of many lengths":
        rows *= rng.gamma(1.0, size=(n, 1)) * 10.0 ** rng.integers(-3, 4, (n, 1))
    elif kind == "clustered":
        rows = rows[rng.integers(0, max(1, n // 10), n)] + 1e-3 * rows
    return rows.astype(np.float32)


KINDS = ["gaussian", "small integers", "large integers", "far from zero", "of many lengths", "clustered"]


@st.composite
def cases(draw: st.DrawFn, metric: str) -> Case:
    width = draw(st.one_of(st.integers(1, 8), st.integers(1, 300)))
    n_items = draw(st.one_of(st.integers(1, 12), st.integers(1, 400), st.just(1200)))
    n_items = min(n_items, 12 + 20_000 // width)  # annoy takes its vectors number by number
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    kind = draw(st.sampled_from(KINDS))
    vectors, queries = rows_of(rng, kind, n_items, width), rows_of(rng, kind, 3, width)
    copies = draw(st.sampled_from(["none", "none", "some", "all", "zeros"]))
    if copies == "some":
        vectors[rng.integers(0, n_items, n_items // 2)] = vectors[0]
    elif copies == "all":
        vectors[:] = vectors[0]
    elif copies == "zeros":
        vectors[rng.integers(0, n_items, n_items // 3 + 1)] = 0
    queries[0] = draw(st.sampled_from([queries[0], vectors[-1], np.zeros(width, np.float32)]))
    if metric == "hamming":
        vectors, queries = (vectors > 0).astype(np.float32), (queries > 0).astype(np.float32)
    holes = draw(st.sampled_from(["none", "regular", "random"]))
    ids = np.arange(n_items)
    if holes == "regular":
        ids = draw(st.integers(0, 3)) + draw(st.integers(1, 30)) * ids
    elif holes == "random":
        ids = rng.choice(3 * n_items, n_items, replace=False)
    return Case(
        metric,
        width,
        vectors,
        ids,
        queries,
        n_trees=draw(st.integers(1, 6)),
        n=draw(st.one_of(st.integers(0, 30), st.just(2000))),
        search_k=draw(st.one_of(st.sampled_from([-1, -2, 0, 1]), st.integers(0, 40), st.integers(0, 3000))),
    )


def filled(index: Any, case: Case) -> Any:
    for i, vector in zip(case.ids.tolist(), case.vectors, strict=True):
        index.add_item(i, vector)
    return index


def as_stored(metric: str, vector: np.ndarray) -> np.ndarray:
    """Floats, or for hamming words of bits, dimension 0 lowest."""
    if metric != "hamming":
        return np.asarray(vector, np.float32)
    padded = np.zeros(-(-len(vector) // 64) * 64, np.uint8)
    padded[: len(vector)] = np.asarray(vector) > 0.5
    return np.packbits(padded, bitorder="little").view(np.uint64)


def assert_close(case: Case, query: np.ndarray, mine: float, its: float) -> None:
    """Angular distances squared: the root of a difference near zero magnifies its rounding."""
    if case.metric == "angular":
        assert abs(mine**2 - its**2) <= 2 * FEW_ULP
    elif case.metric == "dot":
        largest = float(np.linalg.norm(case.vectors.astype(np.float64), axis=1).max())
        assert abs(mine - its) <= FEW_ULP * largest * float(np.linalg.norm(query.astype(np.float64)))
    else:
        assert abs(mine - its) <= FEW_ULP * abs(its)


class Opened(NamedTuple):
    name: str
    index: Any
    reference: ForestFile


def opened(name: str, index: Any, data: bytes, case: Case) -> Opened:
    return Opened(name, index, ForestFile(data, case.metric, case.width, index.get_n_trees()))


def assert_alike(ours: Opened, theirs: Opened, case: Case) -> None:
    """All that can be asked of both is answered alike."""
    assert ours.index.get_n_items() == theirs.index.get_n_items() == case.n_items
    some = [int(i) for i in (case.ids[0], case.ids[-1], case.ids[len(case.ids) // 2])]
    asked = {*some, case.n_items - 1, case.n_items // 2}
    for item in asked:
        assert ours.index.get_item_vector(item) == theirs.index.get_item_vector(item)
        vector = np.array(ours.index.get_item_vector(item), np.float32)
        assert_close(case, vector, ours.index.get_distance(item, some[0]), theirs.index.get_distance(item, some[0]))
    for query in case.queries:
        assert_same_answer(ours, theirs, case, query, lambda index, q=query: (index.get_nns_by_vector, q))
    for item in asked:  # a hole's vector is zero
        query = np.array(ours.index.get_item_vector(item), np.float32)
        assert_same_answer(ours, theirs, case, query, lambda index, i=item: (index.get_nns_by_item, i))


def assert_same_answer(ours: Opened, theirs: Opened, case: Case, query: np.ndarray, how: Any) -> None:
    answers = []
    for name, index, reference in (ours, theirs):
        method, asked = how(index)
        answer = method(asked, case.n, case.search_k, include_distances=True)
        assert method(asked, case.n, case.search_k) == answer[0]
        fault = reference.why_not(as_stored(case.metric, query), case.n, case.search_k, answer)
        assert fault is None, f"{name}: {fault}"
        answers.append(dict(zip(*answer, strict=True)))
    mine, its = answers
    for item in mine.keys() & its.keys():
        assert_close(case, query, mine[item], its[item])
    if ours.reference.roots == theirs.reference.roots:
        same = list(mine) == list(its)
        known = ours.reference.candidates(as_stored(case.metric, query), case.n, case.search_k).known
        event(("the same ids" if same else "a tie in another order") + ("" if known else ", a tie among margins"))


@pytest.mark.parametrize("metric", ANNOYS_METRICS)
@given(data=st.data())
def test_annoy_opens_our_files_and_answers_as_we_do(tmp_path: Path, metric: str, data: st.DataObject) -> None:
    case = data.draw(cases(metric))
    path = tmp_path / "ours.ann"
    ours = filled(AnnoyIndex(case.width, metric), case)
    ours.set_seed(case.n)
    ours.build(case.n_trees)
    before = [ours.get_nns_by_vector(query, case.n, case.search_k, True) for query in case.queries]
    ours.save(str(path))
    assert [ours.get_nns_by_vector(query, case.n, case.search_k, True) for query in case.queries] == before
    theirs = annoy.AnnoyIndex(case.width, metric)
    theirs.load(str(path))
    assert ours.get_n_trees() == case.n_trees
    if len(case.ids) > 2 and case.n_items > list_capacity(metric, case.width):  # else annoy takes copies for trees
        assert theirs.get_n_trees() == case.n_trees
    content = path.read_bytes()
    assert_alike(opened("we", ours, content, case), opened("annoy", theirs, content, case), case)
    theirs.unload()


@pytest.mark.parametrize("metric", ANNOYS_METRICS)
@given(data=st.data(), n_jobs=st.sampled_from([1, 1, 3]))
def test_we_open_annoys_files_and_answer_as_it_does(
    tmp_path: Path, metric: str, data: st.DataObject, n_jobs: int
) -> None:
    case = data.draw(cases(metric))
    path = tmp_path / "theirs.ann"
    theirs = filled(annoy.AnnoyIndex(case.width, metric), case)
    theirs.set_seed(case.n)
    theirs.build(case.n_trees, n_jobs)
    theirs.save(str(path))
    ours = AnnoyIndex(case.width, metric)
    ours.load(str(path))
    assert ours.get_n_trees() == case.n_trees
    content = path.read_bytes()
    # Annoy may count whole trees twice, and then walks them twice: each is held against the trees it has found.
    assert_alike(opened("we", ours, content, case), opened("annoy", theirs, content, case), case)
    theirs.unload()


def with_roots_side_by_side(data: bytes, metric: str, width: int, n_trees: int) -> bytes:
    """The forest as annoy's threads leave it when they end together: all roots' originals right before their copies.

    That is a matter of chance (about one file in 600 here), so the nodes of a file are put in that order.
    """
    reference = ForestFile(data, metric, width, n_trees)
    nodes = np.frombuffer(data, np.uint8).reshape(len(reference.descendants), -1)
    whole = np.flatnonzero(reference.descendants == reference.n_items)
    originals, copies = whole[:-n_trees], whole[-n_trees:]
    assert len(originals) == n_trees
    order = np.concatenate([np.setdiff1d(np.arange(len(nodes)), whole), originals, copies])
    place = np.empty(len(nodes), np.int32)
    place[order] = np.arange(len(nodes))
    moved = nodes.copy()
    offset = OFFSETS[metric][0]
    for split in np.flatnonzero(reference.descendants > reference.capacity):
        moved[split, offset : offset + 8] = place[reference.lists[split, :2]].view(np.uint8)
    return moved[order].tobytes()


@pytest.mark.parametrize("metric", ANNOYS_METRICS)
def test_roots_that_annoys_threads_finished_together_are_found_and_counted_once(tmp_path: Path, metric: str) -> None:
    rng = np.random.default_rng(11)
    vectors = rows_of(rng, "gaussian", 300, 6)
    if metric == "hamming":
        vectors = (vectors > 0).astype(np.float32)
    case = Case(metric, 6, vectors, np.arange(300), vectors[:3] * 2, n_trees=4, n=10, search_k=150)
    theirs = filled(annoy.AnnoyIndex(6, metric), case)
    theirs.build(4, 1)
    theirs.save(str(tmp_path / "x"))
    theirs.unload()
    content = with_roots_side_by_side((tmp_path / "x").read_bytes(), metric, 6, 4)
    (tmp_path / "x").write_bytes(content)
    theirs.load(str(tmp_path / "x"))
    ours = AnnoyIndex(6, metric)
    ours.load(str(tmp_path / "x"))
    assert ours.get_n_trees() == 4
    assert theirs.get_n_trees() > 4
    assert_alike(opened("we", ours, content, case), opened("annoy", theirs, content, case), case)
    theirs.unload()


@pytest.mark.parametrize("metric", ANNOYS_METRICS)
def test_answers_are_the_same_lists_but_for_rare_ties(tmp_path: Path, metric: str) -> None:
    """On gaussian vectors the reference admits one list nearly always, so that the tests above have teeth."""
    rng = np.random.default_rng(7)
    vectors = rows_of(rng, "gaussian", 600, 40)
    if metric == "hamming":
        vectors = (vectors > 0).astype(np.float32)
    theirs = annoy.AnnoyIndex(40, metric)
    for i, vector in enumerate(vectors):
        theirs.add_item(i, vector)
    theirs.build(5, 1)
    theirs.save(str(tmp_path / "x.ann"))
    ours = AnnoyIndex(40, metric)
    ours.load(str(tmp_path / "x.ann"))
    reference = ForestFile((tmp_path / "x.ann").read_bytes(), metric, 40, 5)
    same = known = 0
    for query in vectors[:100]:
        same += ours.get_nns_by_vector(query, 10, 200) == theirs.get_nns_by_vector(query, 10, 200)
        known += reference.candidates(as_stored(metric, query), 10, 200).known
    assert known >= 95
    assert same >= 99
    theirs.unload()


@pytest.mark.parametrize("metric", ANNOYS_METRICS)
def test_the_reference_tells_wrong_answers_from_right_ones(tmp_path: Path, metric: str) -> None:
    rng = np.random.default_rng(3)
    vectors = rows_of(rng, "gaussian", 200, 30)
    query = rows_of(rng, "gaussian", 1, 30)[0]
    if metric == "hamming":
        vectors, query = (vectors > 0).astype(np.float32), (query > 0).astype(np.float32)
    index = AnnoyIndex(30, metric)
    index.add_items(vectors)
    index.build(4)
    reference = ForestFile(index.to_bytes(), metric, 30, 4)
    stored = as_stored(metric, query)
    budget = 60
    ids, distances = index.get_nns_by_vector(query, 10, budget, True)
    assert reference.why_not(stored, 10, budget, (ids, distances)) is None

    def is_refused(ids: list[int], distances: list[float], n: int = 10, search_k: int = budget) -> bool:
        return reference.why_not(stored, n, search_k, (ids, distances)) is not None

    assert is_refused(ids[:-1], distances[:-1])
    assert is_refused(ids[1:], distances[1:], n=9)
    assert is_refused(ids[::-1], distances[::-1])
    assert is_refused([ids[1], ids[0], *ids[2:]], [distances[1], distances[0], *distances[2:]])
    assert is_refused([ids[0], *ids[:-1]], [distances[0], *distances[:-1]])
    assert is_refused(ids, [distances[0] + 0.01, *distances[1:]])
    everything = index.get_nns_by_vector(query, 200, -2, True)
    assert reference.why_not(stored, 200, -2, everything) is None
    assert is_refused(*everything, n=200)  # a budget that is not met
    few = index.get_nns_by_vector(query, 200, 1, True)
    assert is_refused(*few, n=200)  # a budget that was not used
    stranger = next(i for i in everything[0] if i not in index.get_nns_by_vector(query, 200, budget))
    assert is_refused([*ids, stranger], [*distances, dict(zip(*everything, strict=True))[stranger]], n=11)

"""Dot files of Annoy's development version: written here from the format's description, read by us.

There is no release to write them. The reference search below follows the description, too, in plain Python.
"""

from __future__ import annotations

import heapq
from pathlib import Path
from typing import Any

import annoy
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dask_annoy import AnnoyIndex
from dask_annoy._native import node_size
from dask_annoy.errors import CorruptIndexError

many = settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def node_type(width: int) -> np.dtype[Any]:
    return np.dtype(
        [
            ("n", "<i4"),
            ("children", "<i4", 2),
            ("dot_factor", "<f4"),
            ("norm", "<f4"),
            ("built", "u1"),
            ("pad", "u1", 3),
            ("v", "<f4", width),
        ]
    )


class Writer:
    """Grows trees as the development version does: planes with the extra dimension, lists of up to f + 5 items."""

    def __init__(self, vectors: np.ndarray, ids: np.ndarray, n_trees: int, seed: int) -> None:
        self.width = vectors.shape[1]
        self.capacity = self.width + 5
        self.rng = np.random.default_rng(seed)
        self.n_items = int(ids[-1]) + 1 if len(ids) else 0
        items = np.zeros(self.n_items, node_type(self.width))
        norms = np.linalg.norm(vectors, axis=1)
        largest = norms.max(initial=0)
        items["n"][ids] = 1
        items["v"][ids] = vectors
        items["dot_factor"] = largest
        items["dot_factor"][ids] = np.sqrt(np.maximum(largest**2 - norms**2, 0))
        items["norm"] = largest**2
        items["built"] = 1
        self.nodes = list(items)
        self.lifted = np.zeros((self.n_items, self.width + 1))
        self.lifted[:, :-1] = items["v"]
        self.lifted[:, -1] = items["dot_factor"]
        roots = [self.grow(ids.tolist(), True) for _ in range(n_trees)]
        self.nodes += [self.nodes[root].copy() for root in roots]
        self.roots = range(len(self.nodes) - n_trees, len(self.nodes))

    def append(self, n: int) -> np.void:
        node = np.zeros((), node_type(self.width))
        node["n"] = n
        self.nodes.append(node[()])
        return self.nodes[-1]

    def grow(self, ids: list[int], is_root: bool) -> int:
        if len(ids) == 1 and not is_root:
            return ids[0]
        descendants = self.n_items if is_root else len(ids)
        if len(ids) <= self.capacity and (not is_root or self.n_items <= self.capacity or len(ids) == 1):
            node = self.append(descendants)
            raw = np.array(node).reshape(1).view("<i4")
            raw[1 : 1 + len(ids)] = ids
            self.nodes[-1] = raw.view(node_type(self.width))[0]
            return len(self.nodes) - 1
        p, q = self.rng.choice(ids, 2, replace=False)
        normal = self.lifted[p] - self.lifted[q]
        normal /= np.linalg.norm(normal) or 1
        sides = self.lifted[ids] @ normal > 0
        if sides.all() or not sides.any():
            normal[:-1] = 0  # as there: the extra dimension is left as it was
            sides = np.arange(len(ids)) % 2 == 1
        children = [self.grow([i for i, s in zip(ids, sides, strict=True) if s == side], False) for side in (0, 1)]
        node = self.append(descendants)
        node["children"] = children
        node["v"] = normal[:-1]
        node["dot_factor"] = normal[-1]
        node["norm"], node["built"], node["pad"] = (
            self.rng.normal(),
            self.rng.integers(256),
            self.rng.integers(256, size=3),
        )
        self.nodes[-1] = node
        return len(self.nodes) - 1

    def bytes(self) -> bytes:
        return b"".join(node.tobytes() for node in self.nodes)

    def candidates(self, query: np.ndarray, budget: int) -> set[int]:
        """What a search meets: the margin is the product with the plane's normal, and nothing else."""
        queue = [(-np.inf, -root) for root in self.roots]
        heapq.heapify(queue)
        met: list[int] = []
        while len(met) < budget and queue:
            priority, negated = heapq.heappop(queue)
            node = self.nodes[-negated]
            if node["n"] == 1 and -negated < self.n_items:
                met.append(-negated)
            elif node["n"] <= self.capacity:
                met += np.array(node).reshape(1).view("<i4")[1 : 1 + node["n"]].tolist()
            else:
                margin = float(np.dot(node["v"].astype(np.float64), query))
                for side, signed in ((1, margin), (0, -margin)):
                    heapq.heappush(queue, (max(priority, -signed), -int(node["children"][side])))
        return {item for item in met if self.nodes[item]["n"] == 1}


def whole_numbers(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Their products are exact, so that distances do not depend on the order of additions."""
    return rng.integers(-8, 9, size=shape).astype(np.float32)


@st.composite
def writers(draw: st.DrawFn) -> tuple[Writer, np.ndarray]:
    width = draw(st.integers(1, 12))
    n = draw(st.one_of(st.integers(1, 2 * width + 14), st.integers(1, 300)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    vectors = whole_numbers(rng, (n, width))
    if draw(st.sampled_from([False, False, True])):
        vectors[:] = vectors[0]
    ids = draw(st.sampled_from([1, 1, 3])) * np.arange(n)
    return Writer(vectors, ids, draw(st.integers(1, 4)), draw(st.integers(0, 2**32))), vectors


def products(writer: Writer, query: np.ndarray, items: set[int]) -> list[tuple[float, int]]:
    return sorted((-float(np.dot(writer.nodes[item]["v"], query)), item) for item in items)


@many
@given(made=writers(), search_k=st.one_of(st.just(-1), st.integers(0, 60), st.integers(0, 2000)), n=st.integers(1, 20))
def test_answers_are_those_of_the_development_version(made: tuple[Writer, np.ndarray], search_k: int, n: int) -> None:
    writer, vectors = made
    index = AnnoyIndex.from_bytes(writer.width, "dot", writer.bytes())
    assert index.get_n_items() == writer.n_items
    assert index.get_n_trees() == len(writer.roots)
    rng = np.random.default_rng(n)
    for query in whole_numbers(rng, (3, writer.width)):
        # Fractions keep margins apart, so that no tie is settled by rounding.
        query = query + rng.random(writer.width).astype(np.float32)
        budget = n * len(writer.roots) if search_k == -1 else search_k
        expected = products(writer, query, writer.candidates(query.astype(np.float64), budget))[:n]
        found, distances = index.get_nns_by_vector(query, n, search_k, include_distances=True)
        assert len(found) == len(expected)
        np.testing.assert_allclose(distances, [-product for product, _ in expected], rtol=1e-4, atol=1e-3)
    last = writer.n_items - 1
    np.testing.assert_array_equal(index.get_item_vector(last), vectors[-1])
    assert index.get_distance(last, last) == float(vectors[-1] @ vectors[-1])
    np.testing.assert_array_equal(index.get_item_vectors(list(index)), vectors)


@many
@given(made=writers())
def test_a_saved_file_is_one_that_annoy_1_17_3_answers_the_same_from(
    made: tuple[Writer, np.ndarray], tmp_path: Path
) -> None:
    writer, _ = made
    path = tmp_path / "development.ann"
    path.write_bytes(writer.bytes())
    index = AnnoyIndex(writer.width, "dot")
    index.load(str(path))
    query = whole_numbers(np.random.default_rng(1), (1, writer.width))[0]
    everything = index.get_nns_by_vector(query, writer.n_items, 10**6, include_distances=True)
    data = index.to_bytes()
    saved = tmp_path / "saved.ann"
    index.save(str(saved))
    assert saved.read_bytes() == data
    assert len(data) % node_size("dot", writer.width) == 0
    assert index.get_n_trees() == len(writer.roots)
    assert index.get_nns_by_vector(query, writer.n_items, 10**6, include_distances=True) == everything
    theirs = annoy.AnnoyIndex(writer.width, "dot")
    theirs.load(str(saved))
    assert theirs.get_n_items() == writer.n_items
    assert theirs.get_nns_by_vector(query.tolist(), writer.n_items, 10**6, include_distances=True) == everything
    theirs.unload()


def test_a_file_of_the_release_is_not_taken_for_one_of_the_development_version(tmp_path: Path) -> None:
    both = 0
    for width in (1, 2, 3, 4, 6, 10):
        for n in range(1, 60):
            theirs = annoy.AnnoyIndex(width, "dot")
            for i, vector in enumerate(whole_numbers(np.random.default_rng(n), (n, width)).tolist()):
                theirs.add_item(i, vector)
            theirs.build(2, 1)
            path = tmp_path / "x.ann"
            theirs.save(str(path))
            query = [1.0] * width
            expected = theirs.get_nns_by_vector(query, n, 10**6)
            theirs.unload()
            index = AnnoyIndex(width, "dot")
            index.load(str(path))
            both += path.stat().st_size % (24 + 4 * width) == 0
            assert index.to_bytes() == path.read_bytes()
            assert index.get_nns_by_vector(query, n, 10**6) == expected
    assert both > 20  # of a size that both have


def test_an_item_without_the_mark_of_a_built_index_is_refused() -> None:
    writer = Writer(whole_numbers(np.random.default_rng(0), (50, 4)), np.arange(50), 2, 0)
    writer.nodes[30]["built"] = 0
    with pytest.raises(CorruptIndexError, match="node 30 is an item without the mark of a built index"):
        AnnoyIndex.from_bytes(4, "dot", writer.bytes())


def test_a_file_of_neither_size_is_refused_with_both() -> None:
    with pytest.raises(CorruptIndexError, match=r"multiple neither of 32, .* nor of 40"):
        AnnoyIndex.from_bytes(4, "dot", bytes(33))


@many
@given(made=writers(), data=st.data())
def test_whatever_words_are_changed_the_file_is_refused_or_answers_soundly(
    made: tuple[Writer, np.ndarray], data: st.DataObject
) -> None:
    writer, _ = made
    words = np.frombuffer(writer.bytes(), np.int32).copy().reshape(len(writer.nodes), -1)
    rows, columns = words.shape
    for _ in range(data.draw(st.integers(1, 4))):
        row = data.draw(st.integers(0, rows - 1))
        column = data.draw(st.one_of(st.integers(0, columns - 1), st.integers(0, 5)))
        words[row, column] = data.draw(
            st.one_of(st.sampled_from([-(2**31), -1, 0, 1, 2**31 - 1, 0x7FC00000, 0x7F800000]), st.integers(0, rows))
        )
    try:
        index = AnnoyIndex.from_bytes(writer.width, "dot", words.tobytes())
    except CorruptIndexError:
        return
    query = [1.0] * writer.width
    found, distances = index.get_nns_by_vector(query, 1000, 10**6, include_distances=True)
    assert all(item in index for item in found)
    assert not np.isnan(distances).any()
    again = AnnoyIndex.from_bytes(writer.width, "dot", index.to_bytes())
    assert again.get_nns_by_vector(query, 1000, 10**6, include_distances=True) == (found, distances)

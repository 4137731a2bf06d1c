"""Damaged files: each kind is refused by name of file and node, and what was loaded before stays."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import annoy
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dask_annoy import AnnoyIndex
from dask_annoy._native import list_capacity, node_size
from dask_annoy.errors import CorruptIndexError, DaskAnnoyError

METRICS = ["angular", "euclidean", "manhattan", "hamming", "dot"]
N_ITEMS = 200
CHILDREN_AT = {"angular": 1, "euclidean": 2, "manhattan": 2, "hamming": 1, "dot": 1}  # in words of 4 bytes


class Forest:
    """A file that annoy 1.17.3 wrote, as rows of int32, and where its nodes of each kind are."""

    def __init__(self, metric: str, folder: Path) -> None:
        self.metric = metric
        self.width = 70 if metric == "hamming" else 5
        self.path = folder / f"{metric}.ann"
        vectors = np.random.default_rng(0).normal(size=(N_ITEMS, self.width))
        theirs = annoy.AnnoyIndex(self.width, metric)
        for i, vector in enumerate(vectors.tolist()):
            theirs.add_item(i, vector)
        theirs.build(3, 1)
        theirs.save(str(self.path))
        theirs.unload()
        raw = np.fromfile(self.path, np.int32)
        self.words = raw.reshape(-1, node_size(metric, self.width) // 4)
        self.children_at = CHILDREN_AT[metric]
        capacity = list_capacity(metric, self.width)
        descendants = self.words[:, 0]
        tree = np.arange(len(descendants)) >= N_ITEMS
        self.lists = np.flatnonzero(tree & (descendants <= capacity))
        self.splits = np.flatnonzero(tree & (descendants > capacity) & (descendants < N_ITEMS))
        self.roots = np.arange(len(descendants) - 3, len(descendants))

    def write(self) -> None:
        self.words.tofile(self.path)

    def load(self) -> AnnoyIndex:
        index = AnnoyIndex(self.width, self.metric)
        index.load(str(self.path))
        return index


@pytest.fixture(params=METRICS)
def forest(request: pytest.FixtureRequest, tmp_path: Path) -> Forest:
    return Forest(request.param, tmp_path)


def set_child(child: int) -> Callable[[Forest], tuple[int, str]]:
    def damage(forest: Forest) -> tuple[int, str]:
        node = int(forest.splits[3])
        forest.words[node, forest.children_at + 1] = child
        return node, f"has the child {child} among {len(forest.words)} nodes"

    return damage


def set_listed(item: int) -> Callable[[Forest], tuple[int, str]]:
    def damage(forest: Forest) -> tuple[int, str]:
        node = int(forest.lists[5])
        forest.words[node, forest.children_at] = item
        return node, f"lists item {item} of {N_ITEMS}"

    return damage


def set_descendants(node_of: Callable[[Forest], int], n: int, reason: str) -> Callable[[Forest], tuple[int, str]]:
    def damage(forest: Forest) -> tuple[int, str]:
        node = node_of(forest)
        forest.words[node, 0] = n
        return node, reason

    return damage


def two_parents(forest: Forest) -> tuple[int, str]:
    first, last = int(forest.splits[0]), int(forest.splits[-1])
    child = int(forest.lists[0])
    forest.words[first, forest.children_at] = child
    forest.words[last, forest.children_at] = child
    return child, "has two parents"


def own_child(forest: Forest) -> tuple[int, str]:
    node = int(forest.splits[2])
    forest.words[node, forest.children_at] = node
    return node, "has two parents"


def root_as_child(forest: Forest) -> tuple[int, str]:
    forest.words[forest.splits[1], forest.children_at] = forest.roots[1]
    return int(forest.roots[1]), "is the child of another node"


def left_over(forest: Forest) -> tuple[int, str]:
    node = int(forest.splits[4])
    children = forest.words[node, forest.children_at : forest.children_at + 2]
    side = int(np.argmax(children))
    orphan = int(children[side])
    forest.words[node, forest.children_at + side] = 0
    return orphan, "belongs to no tree"


DAMAGES: dict[str, Callable[[Forest], tuple[int, str]]] = {
    "child beyond the end": set_child(10**6),
    "negative child": set_child(-1),
    "smallest child": set_child(-(2**31)),
    "item beyond the end": set_listed(N_ITEMS),
    "negative item": set_listed(-7),
    "negative descendants": set_descendants(lambda f: int(f.lists[2]), -1088797586, "has -1088797586 descendants"),
    "an item that is none": set_descendants(lambda _: 17, 5, f"of {N_ITEMS} items is not an item"),
    "two parents": two_parents,
    "its own child": own_child,
    "a root below a node": root_as_child,
    "a node without a parent": left_over,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_refused_by_name_of_file_and_node(forest: Forest, damage: str) -> None:
    before = forest.load()
    expected = before.get_nns_by_item(3, 10)
    node, reason = DAMAGES[damage](forest)
    copy = forest.path.with_name("damaged.ann")
    forest.words.tofile(copy)
    with pytest.raises(CorruptIndexError) as refusal:
        before.load(str(copy))
    message = str(refusal.value)
    assert f"'{copy}' is not a sound forest" in message
    assert f"node {node} {reason}" in message
    assert before.get_nns_by_item(3, 10) == expected


def test_a_split_on_a_bit_that_there_is_not_is_refused(tmp_path: Path) -> None:
    forest = Forest("hamming", tmp_path)
    node = int(forest.splits[0])
    forest.words[node, 4:6] = 128, 0
    forest.write()
    with pytest.raises(CorruptIndexError, match=f"node {node} splits on bit 128 of 128"):
        forest.load()


def test_a_cut_or_empty_file_is_refused_with_its_size(forest: Forest) -> None:
    whole = forest.path.read_bytes()
    forest.path.write_bytes(b"")
    with pytest.raises(CorruptIndexError, match=r"\.ann' is not a sound forest: it is empty"):
        forest.load()
    forest.path.write_bytes(whole[:-1])
    with pytest.raises(CorruptIndexError, match=f"its size of {len(whole) - 1} bytes is"):
        forest.load()
    forest.path.write_bytes(whole[: -3 * node_size(forest.metric, forest.width)])
    with pytest.raises(CorruptIndexError, match="node"):
        forest.load()
    forest.path.write_bytes(whole + bytes(node_size(forest.metric, forest.width)))
    with pytest.raises(CorruptIndexError, match="claims no items, but node 0 is not empty"):
        forest.load()


def test_the_error_is_what_callers_of_annoy_and_of_python_catch(forest: Forest) -> None:
    forest.path.write_bytes(forest.path.read_bytes()[:-5])
    builtin: list[type[Exception]] = [OSError, ValueError, DaskAnnoyError]
    for kind in builtin:
        with pytest.raises(kind):
            forest.load()


def test_a_second_load_after_a_refusal_works(forest: Forest) -> None:
    whole = forest.path.read_bytes()
    index = AnnoyIndex(forest.width, forest.metric)
    forest.path.write_bytes(whole[:-4])
    with pytest.raises(CorruptIndexError):
        index.load(str(forest.path))
    index.add_item(0, [1.0] * forest.width)  # still empty, and still to be filled
    forest.path.write_bytes(whole)
    index.load(str(forest.path))
    assert index.get_n_items() == N_ITEMS


def test_a_huge_file_of_zeros_is_an_index_without_items(tmp_path: Path) -> None:
    path = tmp_path / "zeros"
    with path.open("wb") as file:
        file.truncate(1000 * node_size("angular", 3))
    index = AnnoyIndex(3, "angular")
    index.load(str(path))
    assert index.get_n_items() == 0
    assert index.get_nns_by_vector([1, 2, 3], 5) == []


def test_a_tree_as_deep_as_it_has_splits_is_loaded_and_searched_on_a_small_stack(tmp_path: Path) -> None:
    n = 300_000
    nodes = np.zeros((2 * n - 1, 5), np.int32)  # euclidean, width 1: descendants, offset, two children, the component
    offsets, components = nodes[:, 1].view(np.float32), nodes[:, 4].view(np.float32)
    nodes[:n, 0] = 1
    components[:n] = np.arange(n)
    nodes[n:, 0] = 1000  # enough for splits; only the root has all items
    nodes[-1, 0] = n
    nodes[n:, 2] = np.arange(1, n)  # an item to the left
    nodes[n, 3] = 0
    nodes[n + 1 :, 3] = np.arange(n, 2 * n - 2)  # to the right the next split
    components[n:] = -1.0
    offsets[n:] = np.arange(1, n) - 0.5
    path = tmp_path / "chain.ann"
    nodes.tofile(path)
    index = AnnoyIndex(1, "euclidean")

    def use() -> None:
        index.load(str(path))
        assert index.get_nns_by_vector([5.2], 3, -2) == [5, 6, 4]
        assert index.get_nns_by_vector([5.2], 3, n) == [5, 6, 4]
        assert 0 < index.budgets_to_find([[5.2]], [[0]])[0, 0] <= n
        copy = AnnoyIndex(1, "euclidean")
        copy.load_bytes(index.to_bytes())
        copy.save(str(tmp_path / "copy.ann"))

    before = threading.stack_size(256 * 1024)
    try:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(use).result(120)
    finally:
        threading.stack_size(before)


@pytest.mark.parametrize("metric", METRICS)
@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_whatever_words_are_changed_the_file_is_refused_or_answers_soundly(
    metric: str, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    forest = _sound(metric, tmp_path_factory)
    words = forest.words.copy()
    rows, columns = words.shape
    edges = [
        -(2**31),
        -1,
        0,
        1,
        2,
        N_ITEMS - 1,
        N_ITEMS,
        N_ITEMS + 1,
        rows - 1,
        rows,
        2**31 - 1,
        0x7FC00000,
        0x7F800000,
    ]
    for _ in range(data.draw(st.integers(1, 4))):
        row = data.draw(st.one_of(st.integers(0, rows - 1), st.integers(N_ITEMS, rows - 1)))
        column = data.draw(st.one_of(st.integers(0, columns - 1), st.integers(0, 4)))
        words[row, column] = data.draw(st.one_of(st.sampled_from(edges), st.integers(0, rows)))
    try:
        index = AnnoyIndex.from_bytes(forest.width, metric, words.tobytes())
    except CorruptIndexError:
        return
    found: Any
    for search_k in (-1, 10, 10**6):
        found, distances = index.get_nns_by_item(7, 30, search_k, include_distances=True)
        assert len(set(found)) == len(found)
        assert all(item in index for item in found)
        assert not np.isnan(distances).any()
        assert list(distances) == sorted(distances, reverse=metric == "dot")


_forests: dict[str, Forest] = {}


def _sound(metric: str, folders: pytest.TempPathFactory) -> Forest:
    if metric not in _forests:
        _forests[metric] = Forest(metric, folders.mktemp("sound"))
    return _forests[metric]

"""A closed index is closed for good; an unloaded one can be filled again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dask_annoy import AnnoyIndex

VECTORS = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)

USES: dict[str, Callable[[AnnoyIndex], object]] = {
    "add_item": lambda index: index.add_item(0, VECTORS[0]),
    "add_items": lambda index: index.add_items(VECTORS),
    "build": lambda index: index.build(1),
    "build_cells": lambda index: index.build_cells(),
    "unbuild": lambda index: index.unbuild(),
    "save": lambda index: index.save("never-written"),
    "load": lambda index: index.load("never-read"),
    "load_bytes": lambda index: index.load_bytes(b"never read"),
    "unload": lambda index: index.unload(),
    "on_disk_build": lambda index: index.on_disk_build("never-written"),
    "get_nns_by_item": lambda index: index.get_nns_by_item(0, 1),
    "get_nns_by_vector": lambda index: index.get_nns_by_vector(VECTORS[0], 1),
    "get_nns_by_items": lambda index: index.get_nns_by_items([0], 1),
    "get_nns_by_vectors": lambda index: index.get_nns_by_vectors(VECTORS, 1),
    "get_nns_within_by_item": lambda index: index.get_nns_within_by_item(0, 1.0),
    "get_nns_within_by_vector": lambda index: index.get_nns_within_by_vector(VECTORS[0], 1.0),
    "budgets_to_find": lambda index: index.budgets_to_find(VECTORS, np.zeros((60, 1), np.int64)),
    "explain_search": lambda index: index.explain_search(1, 1),
    "to_bytes": lambda index: index.to_bytes(),
    "get_item_vector": lambda index: index.get_item_vector(0),
    "get_item_vectors": lambda index: index.get_item_vectors(),
    "get_distance": lambda index: index.get_distance(0, 1),
    "get_n_items": lambda index: index.get_n_items(),
    "get_n_trees": lambda index: index.get_n_trees(),
    "get_n_cells": lambda index: index.get_n_cells(),
    "set_seed": lambda index: index.set_seed(1),
    "verbose": lambda index: index.verbose(False),
    "__len__": len,
    "__contains__": lambda index: 0 in index,
    "__iter__": list,
    "__enter__": lambda index: index.__enter__(),
}
USABLE = {"close", "closed", "f", "metric", "from_bytes"}


def index_in(state: str, folder: Path) -> AnnoyIndex:
    index = AnnoyIndex(4, "euclidean")
    if state != "empty":
        index.add_items(VECTORS)
    if state in ("built", "loaded"):
        index.build(3)
    if state == "loaded":
        index.save(str(folder / "forest.ann"))
    return index


def test_every_method_is_tried_on_a_closed_index() -> None:
    assert {name for name in dir(AnnoyIndex) if not name.startswith("_")} - USABLE == {
        name for name in USES if not name.startswith("_")
    }


@pytest.mark.parametrize("state", ["empty", "filled", "built", "loaded"])
@pytest.mark.parametrize("use", USES)
def test_a_closed_index_says_so_whatever_is_asked(
    state: str, use: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    index = index_in(state, tmp_path)
    index.close()
    with pytest.raises(RuntimeError, match="the index is closed"):
        USES[use](index)
    assert not (tmp_path / "never-written").exists()


@pytest.mark.parametrize("state", ["empty", "filled", "built", "loaded"])
def test_closing_again_does_nothing_and_the_index_still_says_what_it_was(state: str, tmp_path: Path) -> None:
    index = index_in(state, tmp_path)
    assert index.closed is False
    for _ in range(3):
        assert index.close() is None  # type: ignore[func-returns-value]
        assert index.closed is True
    assert (index.f, index.metric) == (4, "euclidean")
    assert repr(index) == "AnnoyIndex(f=4, metric='euclidean', closed)"


def test_a_with_statement_closes_at_its_end_also_after_an_error(tmp_path: Path) -> None:
    index = index_in("loaded", tmp_path)
    with index as same:
        assert same is index
        assert len(index) == 60
    assert index.closed
    index = index_in("filled", tmp_path)
    with pytest.raises(ZeroDivisionError), index:
        raise ZeroDivisionError
    assert index.closed
    with index_in("built", tmp_path) as index:
        index.close()  # and once more at the end


@pytest.mark.parametrize("state", ["empty", "filled", "built", "loaded"])
def test_an_unloaded_index_can_be_filled_again(state: str, tmp_path: Path) -> None:
    index = index_in(state, tmp_path)
    assert index.unload() is True
    assert len(index) == 0
    index.add_items(VECTORS)
    index.build(3)
    assert index.get_nns_by_vector(VECTORS[5], 1, 1000) == [5]


def test_a_closed_file_can_be_removed_and_its_memory_is_let_go(tmp_path: Path) -> None:
    index = index_in("loaded", tmp_path)
    path = str(tmp_path / "forest.ann")

    def is_mapped() -> bool:
        return path in Path("/proc/self/maps").read_text()

    if not Path("/proc/self/maps").exists():
        pytest.skip("needs Linux's /proc")
    assert is_mapped()
    index.close()
    assert not is_mapped()

"""`Index` searches by cells where that pays, scores every item where there are few, and answers as Annoy if told to."""

from __future__ import annotations

import pickle
from pathlib import Path

import annoy
import numpy as np
import pytest
from numpy.typing import NDArray

from dask_annoy import AnnoyIndex, Index
from dask_annoy._native import cells_pay

WIDTH = 16


def rows(n: int, seed: int = 0) -> NDArray[np.float32]:
    centres = np.random.default_rng(9).normal(size=(40, WIDTH))
    rng = np.random.default_rng(seed)
    return (centres[rng.integers(0, 40, n)] + 0.5 * rng.normal(size=(n, WIDTH))).astype(np.float32)


@pytest.fixture(scope="module")
def many() -> NDArray[np.float32]:
    return rows(6000)


def test_a_build_makes_cells_and_searches_go_by_them(many: NDArray[np.float32]) -> None:
    index = Index(WIDTH, "euclidean")
    index.add_items(many)
    assert index.build(5).get_n_cells() > 10
    assert index.explain_search(1, 10).method == "cells"
    plain = AnnoyIndex(WIDTH, "euclidean")
    plain.add_items(many)
    plain.build(5)
    plain.build_cells()
    queries = rows(20, 1)
    np.testing.assert_array_equal(index.get_nns_by_vectors(queries, 5), plain.get_nns_by_vectors(queries, 5))
    assert index.to_bytes() == plain.to_bytes()


@pytest.mark.parametrize("how", ["the parameter", "the call", "a limit on memory"])
def test_no_cells_are_made_if_they_are_not_wanted(many: NDArray[np.float32], how: str) -> None:
    index = Index(WIDTH, cells=False if how == "the parameter" else "auto")
    index.add_items(many)
    index.build(
        5, cells=False if how == "the call" else None, memory_limit=2**40 if how == "a limit on memory" else None
    )
    assert index.get_n_cells() == 0


def test_without_cells_it_answers_as_annoy(many: NDArray[np.float32], tmp_path: Path) -> None:
    Index(WIDTH, "euclidean", cells=False).fit(many, n_trees=5).save(tmp_path / "x.ann")
    assert not (tmp_path / "x.ann.cells").exists()
    theirs = annoy.AnnoyIndex(WIDTH, "euclidean")
    theirs.load(str(tmp_path / "x.ann"))
    ours = Index(WIDTH, "euclidean", cells=False).load(tmp_path / "x.ann")
    for query in rows(20, 1):
        assert ours.get_nns_by_vector(query, 10) == theirs.get_nns_by_vector(query.tolist(), 10)


def test_few_items_get_no_cells_and_exact_answers(tmp_path: Path) -> None:
    vectors = rows(700)
    index = Index(WIDTH, "euclidean").fit(vectors, n_trees=1)
    assert index.get_n_cells() == 0
    assert not cells_pay(700, WIDTH, "euclidean")
    assert cells_pay(100_000, WIDTH, "euclidean")
    queries = rows(30, 1)
    true = np.argsort(((queries[:, None] - vectors) ** 2).sum(axis=2), axis=1)[:, :5]
    np.testing.assert_array_equal(index.get_nns_by_vectors(queries, 5, 1), true)
    assert [index.get_nns_by_vector(query, 5, 1) for query in queries] == true.tolist()
    index.save(tmp_path / "x.ann")
    assert [path.name for path in tmp_path.iterdir()] == ["x.ann"]
    again = pickle.loads(pickle.dumps(index))
    np.testing.assert_array_equal(again.get_nns_by_vectors(queries, 5, 1), true)
    index.cells = False
    assert index.explain_search(1, 5, 1).method == "trees"


def test_loading_takes_the_cells_beside_a_file_and_makes_those_that_are_missing(
    many: NDArray[np.float32], tmp_path: Path
) -> None:
    index = Index(WIDTH).fit(many, n_trees=5)
    queries, path = rows(20, 1), tmp_path / "x.ann"
    index.save(path)
    cells = (tmp_path / "x.ann.cells").read_bytes()
    expected = index.get_nns_by_vectors(queries, 5)
    np.testing.assert_array_equal(Index(WIDTH).load(path).get_nns_by_vectors(queries, 5), expected)
    assert Index(WIDTH).load(path, cells=False).get_n_cells() == 0
    (tmp_path / "x.ann.cells").unlink()
    again = Index(WIDTH).load(path)
    assert again._cells_to_bytes() == cells
    with path.open("rb") as file:
        assert Index(WIDTH).load(file).get_n_cells() == index.get_n_cells()
    assert Index.from_bytes(WIDTH, "angular", path.read_bytes()).get_n_cells() == index.get_n_cells()


def test_cells_of_another_forest_are_made_anew(many: NDArray[np.float32], tmp_path: Path) -> None:
    path = tmp_path / "x.ann"
    Index(WIDTH).fit(many, n_trees=5).save(path)
    theirs = annoy.AnnoyIndex(WIDTH, "angular")  # knows nothing of cells, and leaves the others' beside its file
    for item, vector in enumerate(many[:5000]):
        theirs.add_item(item, vector.tolist())
    theirs.build(3)
    theirs.save(str(path))
    index = Index(WIDTH).load(path)
    assert (index.get_n_items(), index.get_n_trees()) == (5000, 3)
    assert index.get_n_cells() > 10


def test_its_size_counts_cells(many: NDArray[np.float32]) -> None:
    index = Index(WIDTH).fit(many, n_trees=5)
    cells = len(index._cells_to_bytes())
    assert cells > 6000 * WIDTH
    assert index.memory_usage() == len(index.to_bytes()) + cells
    assert index.__sizeof__() >= len(index.to_bytes()) + cells


@pytest.mark.parametrize("cells", [True, 1, 0, None, "yes"])
def test_other_values_of_cells_are_refused(cells: object) -> None:
    with pytest.raises(ValueError, match="cells must be 'auto' or False"):
        Index(cells=cells)  # type: ignore[arg-type]


def test_the_parameter_goes_with_copies_pickles_and_descriptions() -> None:
    index = Index(WIDTH, cells=False).fit(rows(300), n_trees=2)
    for other in (
        index.clone(),
        pickle.loads(pickle.dumps(index)),
        index.rebuild(),
        Index.from_metadata(index.to_metadata()),
    ):
        assert other.cells is False
    assert pickle.loads(pickle.dumps(index)).explain_search(1, 5).method == "trees"

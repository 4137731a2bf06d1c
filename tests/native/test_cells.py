"""Cells make searches fast, change nothing in the forest's file, and come and go with it."""

from __future__ import annotations

import copy
import io
import pickle
from pathlib import Path

import annoy
import numpy as np
import pytest
from numpy.typing import NDArray

from dask_annoy import AnnoyIndex, Index
from dask_annoy._native import available_kernels, estimate_cells, use_kernels
from dask_annoy.errors import CorruptIndexError

METRICS = ("angular", "euclidean", "manhattan", "dot", "hamming")
F = 24
Vectors = NDArray[np.float32]


def clustered(n: int, seed: int, metric: str = "angular") -> Vectors:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(60, F))
    rows = centres[rng.integers(0, 60, n)] + 0.6 * rng.normal(size=(n, F))
    if metric == "hamming":
        rows = rows > 0
    if metric == "dot":
        rows = rows * rng.gamma(4, 0.25, size=(n, 1))
    return rows.astype(np.float32)


def built(metric: str, n: int = 4000, n_trees: int = 5) -> AnnoyIndex:
    index = AnnoyIndex(F, metric)
    index.set_seed(1)
    index.add_items(clustered(n, 1, metric))
    index.build(n_trees)
    return index


def recall(index: AnnoyIndex, queries: Vectors, search_k: int) -> float:
    """The share of found neighbours that are as near as the tenth true one."""
    _, found = index.get_nns_by_vectors(queries, 10, search_k, include_distances=True)
    _, true = index.get_nns_by_vectors(queries, 10, index.get_n_items(), include_distances=True)
    worst = true[:, -1:]
    return float(np.mean(found >= worst - 1e-5 if index.metric == "dot" else found <= worst + 1e-5))


@pytest.mark.parametrize("metric", METRICS)
def test_cells_find_as_much_as_the_forest_with_the_same_budget(metric: str) -> None:
    index, queries = built(metric), clustered(200, 2, metric)
    by_forest = recall(index, queries, 300)
    assert index.build_cells() is True
    by_cells = recall(index, queries, 300)
    assert by_cells >= min(by_forest, 0.99)
    assert by_cells > 0.9


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("codes", ["auto", None])
def test_many_queries_get_the_answers_of_each_alone(metric: str, codes: None) -> None:
    index, queries = built(metric), clustered(50, 2, metric)
    index.build_cells(codes=codes)
    ids, distances = index.get_nns_by_vectors(queries, 10, 500, include_distances=True, method="cells")
    for query, expected_ids, expected_distances in zip(queries, ids, distances, strict=True):
        found, at = index.get_nns_by_vector(query, 10, 500, include_distances=True, method="cells")
        assert (found, at) == (expected_ids.tolist(), expected_distances.tolist())
    for item in (0, 17, 3999):
        alone = index.get_nns_by_item(item, 10, 500, method="cells")
        assert alone == index.get_nns_by_items([item], 10, 500, method="cells")[0].tolist()


@pytest.mark.parametrize("metric", METRICS)
def test_a_filter_holds_and_few_that_pass_are_found_exactly(metric: str) -> None:
    index, queries = built(metric), clustered(30, 2, metric)
    index.build_cells()
    passing = np.arange(4000) % 3 == 0
    found = index.get_nns_by_vectors(queries, 10, 1000, include=passing)
    assert passing[found].all()
    few = np.arange(0, 4000, 400)
    assert (np.sort(index.get_nns_by_vectors(queries, 10, 50, include=few), axis=1) == few).all()


def test_the_forests_file_is_that_of_an_index_without_cells(tmp_path: Path) -> None:
    index = built("angular")
    plain = index.to_bytes()
    index.build_cells()
    assert index.to_bytes() == plain
    index.save(tmp_path / "x.ann")
    assert (tmp_path / "x.ann").read_bytes() == plain
    theirs = annoy.AnnoyIndex(F, "angular")
    theirs.load(str(tmp_path / "x.ann"))
    ours = AnnoyIndex(F, "angular")
    ours.load(tmp_path / "x.ann")
    query = clustered(1, 3)[0]
    assert ours.get_n_cells() == 0
    assert ours.get_nns_by_vector(query, 10, 500) == theirs.get_nns_by_vector(query.tolist(), 10, 500)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("codes", ["auto", None])
def test_saved_cells_are_used_when_asked_for(metric: str, codes: None, tmp_path: Path) -> None:
    index, queries = built(metric), clustered(50, 2, metric)
    index.build_cells(codes=codes)
    expected = index.get_nns_by_vectors(queries, 10, 300)
    index.save(tmp_path / "x.ann")
    assert (index.get_nns_by_vectors(queries, 10, 300) == expected).all()
    for fn in (tmp_path / "x.ann", f"file://{tmp_path}/x.ann"):
        again = AnnoyIndex(F, metric)
        again.load(fn, cells=True)
        assert again.get_n_cells() == index.get_n_cells() > 0
        assert (again.get_nns_by_vectors(queries, 10, 300) == expected).all()


def test_missing_cells_are_made_anew_on_loading(tmp_path: Path) -> None:
    index, queries = built("euclidean"), clustered(50, 2)
    index.build_cells()
    expected = index.get_nns_by_vectors(queries, 10, 300)
    index.save(tmp_path / "x.ann")
    (tmp_path / "x.ann.cells").unlink()
    again = AnnoyIndex(F, "euclidean")
    again.load(tmp_path / "x.ann", cells=True)
    assert (again.get_nns_by_vectors(queries, 10, 300) == expected).all()
    with (tmp_path / "x.ann").open("rb") as file:
        from_file = AnnoyIndex(F, "euclidean")
        from_file.load(file, cells=True)
    assert (from_file.get_nns_by_vectors(queries, 10, 300) == expected).all()


def test_cells_of_another_forest_are_removed_by_save_and_refused_by_load(tmp_path: Path) -> None:
    first, second = built("angular"), built("angular", n=3000)
    first.build_cells()
    first.save(tmp_path / "x.ann")
    cells = (tmp_path / "x.ann.cells").read_bytes()
    second.save(tmp_path / "x.ann")
    assert not (tmp_path / "x.ann.cells").exists()
    (tmp_path / "x.ann.cells").write_bytes(cells)
    index = AnnoyIndex(F, "angular")
    index.load(tmp_path / "x.ann")
    with pytest.raises(CorruptIndexError, match=r"another forest.*delete it"):
        AnnoyIndex(F, "angular").load(tmp_path / "x.ann", cells=True)
    AnnoyIndex(F, "angular").on_disk_build(tmp_path / "x.ann")
    assert not (tmp_path / "x.ann.cells").exists()


def test_cells_of_the_same_forest_stay_when_it_is_saved_again(tmp_path: Path) -> None:
    index = built("angular")
    index.build_cells()
    index.save(tmp_path / "x.ann")
    plain = AnnoyIndex(F, "angular")
    plain.load(tmp_path / "x.ann")
    plain.save(tmp_path / "x.ann")
    assert (tmp_path / "x.ann.cells").exists()


def test_damaged_cells_are_refused_and_what_was_loaded_stays(tmp_path: Path) -> None:
    index = built("dot")
    index.build_cells()
    index.save(tmp_path / "x.ann")
    damaged = bytearray((tmp_path / "x.ann.cells").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / "x.ann.cells").write_bytes(damaged)
    former = built("dot", n=100)
    for fn in (tmp_path / "x.ann", f"simplecache::file://{tmp_path}/x.ann"):
        with pytest.raises(CorruptIndexError, match="checksum"):
            former.load(fn, cells=True)
        assert former.get_n_items() == 100


def test_cells_go_to_other_storage_and_come_back(tmp_path: Path) -> None:
    index, queries = built("manhattan"), clustered(20, 2)
    index.build_cells()
    expected = index.get_nns_by_vectors(queries, 10, 300)
    index.save("memory://cells/x.ann")
    again = AnnoyIndex(F, "manhattan")
    again.load("memory://cells/x.ann", cells=True)
    assert (again.get_nns_by_vectors(queries, 10, 300) == expected).all()
    built("manhattan").save("memory://cells/x.ann")
    without = AnnoyIndex(F, "manhattan")
    without.load("memory://cells/x.ann")
    assert without.get_n_cells() == 0
    file = io.BytesIO()
    index.save(file)
    assert file.getvalue() == index.to_bytes()


def test_pickles_and_copies_keep_the_cells(tmp_path: Path) -> None:
    index, queries = built("hamming"), clustered(20, 2, "hamming")
    index.build_cells()
    expected = index.get_nns_by_vectors(queries, 10, 300)
    for other in (pickle.loads(pickle.dumps(index)), copy.deepcopy(index)):
        assert (other.get_nns_by_vectors(queries, 10, 300) == expected).all()
    index.save(tmp_path / "x.ann")
    mapped = pickle.loads(pickle.dumps(index))
    assert mapped.get_n_cells() == index.get_n_cells()
    assert (mapped.get_nns_by_vectors(queries, 10, 300) == expected).all()


@pytest.mark.parametrize("metric", METRICS)
def test_cells_are_the_same_bytes_for_any_threads_and_kernels(metric: str, tmp_path: Path) -> None:
    def saved(n_jobs: int) -> bytes:
        index = built(metric, n=1500)
        index.build_cells(n_jobs=n_jobs)
        index.save(tmp_path / "x.ann")
        return (tmp_path / "x.ann.cells").read_bytes()

    expected = saved(1)
    assert saved(3) == expected
    try:
        for name in available_kernels():
            use_kernels(name)
            assert saved(2) == expected, name
    finally:
        use_kernels("")


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("n", [300, 4000, 20_000])
def test_the_size_of_the_file_is_known_before(metric: str, n: int, tmp_path: Path) -> None:
    index = built(metric, n=n, n_trees=1)
    index.build_cells()
    index.save(tmp_path / "x.ann")
    assert estimate_cells(n, F, metric) == pytest.approx((tmp_path / "x.ann.cells").stat().st_size, rel=0.25)


def test_unbuild_and_unload_forget_the_cells() -> None:
    index = built("angular")
    index.build_cells()
    index.unbuild()
    assert index.get_n_cells() == 0
    index.build(2)
    index.build_cells()
    index.unload()
    assert index.get_n_cells() == 0


def test_cells_need_a_forest_and_sensible_arguments() -> None:
    index = AnnoyIndex(F, "angular")
    with pytest.raises(RuntimeError, match="build"):
        index.build_cells()
    index = built("angular", n=100)
    for wrong in (0, -3, "many", 1.5, None):
        with pytest.raises(ValueError, match="n_cells"):
            index.build_cells(wrong)  # type: ignore[arg-type]
    for wrong in (2, "few", 16):
        with pytest.raises(ValueError, match="codes"):
            index.build_cells(codes=wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="batch_size"):
        index.build_cells(batch_size=0)
    with pytest.raises(ValueError, match="n_jobs"):
        index.build_cells(n_jobs=0)


def test_an_index_of_no_width_chains_and_bundles_its_cells(tmp_path: Path) -> None:
    rows = clustered(2000, 1)
    index = Index(metric="euclidean", seed=1).fit(rows, n_trees=5).build_cells()
    assert index.get_n_cells() > 10
    expected = index.kneighbors(rows[:20], 5, return_distance=False)
    index.save_bundle(tmp_path / "bundle")
    again = Index.load_bundle(tmp_path / "bundle")
    assert again.get_n_cells() == index.get_n_cells()
    assert (np.asarray(again.kneighbors(rows[:20], 5, return_distance=False)) == np.asarray(expected)).all()
    (tmp_path / "bundle" / "index.ann.cells").write_bytes(b"other")
    with pytest.raises(CorruptIndexError):
        Index.load_bundle(tmp_path / "bundle")


@pytest.mark.parametrize("compress_mode", [None, "zlib", "gzip"])
def test_an_index_of_no_width_pickles_its_cells(compress_mode: None) -> None:
    rows = clustered(1000, 1)
    index = Index(metric="euclidean", seed=1, compress_mode=compress_mode).fit(rows, n_trees=3).build_cells()
    again = pickle.loads(pickle.dumps(index))
    assert again.get_n_cells() == index.get_n_cells() > 0
    assert (again.kneighbors(rows[:9], 5)[1] == index.kneighbors(rows[:9], 5)[1]).all()


def test_degenerate_items_have_cells_that_answer() -> None:
    for rows in (np.zeros((300, F)), np.ones((300, F)), np.eye(F), np.ones((1, F)), np.zeros((0, F))):
        for metric in METRICS:
            index = AnnoyIndex(F, metric)
            index.add_items(rows.astype(np.float32))
            index.build(2)
            index.build_cells()
            found = index.get_nns_by_vector(np.ones(F), 3, 5)
            assert len(found) == min(3, len(rows))

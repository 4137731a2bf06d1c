"""`Index` learns its width and metric late, and its methods chain."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import annoy
import numpy as np
import pytest
from numpy.typing import NDArray

from dask_annoy import AnnoyIndex, Index
from dask_annoy.annoy.metrics import METRIC_ALIASES, canonical_metric

Vectors = NDArray[np.float32]


def test_an_index_is_an_annoy_index_of_no_width_at_first() -> None:
    index = Index()
    assert isinstance(index, AnnoyIndex)
    assert (index.f, index.metric, len(index), list(index), 0 in index) == (0, "angular", 0, [], False)
    assert (index.get_n_items(), index.get_n_trees(), index.is_built, index.is_empty) == (0, 0, False, True)
    assert not hasattr(index, "n_features_in_")
    with pytest.raises(RuntimeError, match="no width yet"):
        index.get_nns_by_vector([1.0], 1)
    for method in (index.build, index.to_bytes, lambda: index.load("x"), lambda: index[0]):
        with pytest.raises(RuntimeError, match="width"):
            method()


@pytest.mark.parametrize("f", [None, 0])
def test_the_first_vector_tells_the_width(f: int | None, vectors: Vectors) -> None:
    index = Index(f, "euclidean").add_item(3, vectors[0])
    assert (index.f, index.n_features_in_, index.n_features, index.n_features_) == (12, 12, 12, 12)
    with pytest.raises(IndexError, match="expected 12, got 11"):
        index.add_item(4, vectors[0, :11])
    other = Index(f)
    assert other.add_items(vectors).tolist() == list(range(500))
    assert other.f == 12


def test_a_first_vector_that_is_refused_settles_nothing() -> None:
    index = Index()
    with pytest.raises(ValueError, match="NaN"):
        index.add_item(0, [1, float("nan")])
    with pytest.raises(ValueError, match="NaN"):
        index.add_items([[1, float("nan")]])
    assert index.f == 0
    assert index.add_item(0, [1, 2, 3]).f == 3


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("cosine", "angular"),
        ("L2", "euclidean"),
        ("lstsq", "euclidean"),
        ("l1", "manhattan"),
        ("cityblock", "manhattan"),
        ("taxicab", "manhattan"),
        ("@", "dot"),
        (".", "dot"),
        ("dotproduct", "dot"),
        ("inner", "dot"),
        ("innerproduct", "dot"),
        ("hamming", "hamming"),
    ],
)
def test_a_metric_has_the_names_of_the_literature(alias: str, name: str, vectors: Vectors, answers: Any) -> None:
    index = Index(metric=alias, cells=False).fit(vectors, n_trees=3)
    plain = AnnoyIndex(12, name)
    plain.add_items(vectors)
    plain.build(3)
    assert index.metric == index.get_params()["metric"] == name
    assert answers(index, vectors) == answers(plain, vectors)


def test_every_alias_leads_to_a_metric_of_the_native_index() -> None:
    for alias in METRIC_ALIASES:
        assert AnnoyIndex(2, canonical_metric(alias)).metric == METRIC_ALIASES[alias]
    with pytest.raises(ValueError, match="No such metric: 'euclid'; known are 'angular', 'euclidean', "):
        Index(metric="euclid")
    number: Any = 3
    with pytest.raises(TypeError, match="string"):
        Index(metric=number)


def test_another_metric_empties_the_index_and_an_alias_of_the_same_does_not(vectors: Vectors) -> None:
    index = Index(metric="l2").fit(vectors, np.arange(500))
    index.metric = "euclidean"
    assert index.set_params(metric="lstsq").is_built
    index.metric = "dot"
    assert (index.metric, index.f, len(index), index.y, index.is_built) == ("dot", 0, 0, None, False)
    index.fit(vectors, n_trees=2)
    assert index.get_nns_by_vector(vectors[0], 3, include_distances=True)[1][0] == pytest.approx(
        float((vectors @ vectors[0]).max()), rel=1e-5
    )
    assert index.set_params(f=7).f == 7
    assert index.is_empty


def test_methods_that_return_true_in_annoy_return_the_index_which_is_as_true(vectors: Vectors, tmp_path: Path) -> None:
    index = Index(3)
    assert bool(index)
    assert len(index) == 0
    assert index.build(10) is index  # an empty forest is one, too
    assert index.unbuild() is index.unload() is index.set_seed(3) is index.verbose(True) is index
    assert index.set_verbose(2) is index.set_params(n_neighbors=2) is index.unload() is index
    path = tmp_path / "x.ann"
    assert index.on_disk_build(str(path)) is index
    assert index.add_item(0, [1, 2, 3]) is index.build(2) is index.save(path) is index.load(path) is index
    assert Index().fit(vectors).build
    if not index.save(str(path)):
        raise AssertionError


def test_code_for_annoy_runs_unchanged(vectors: Vectors, tmp_path: Path) -> None:
    def run(cls: Any, path: str) -> tuple[Any, ...]:
        index = cls(12, "euclidean")
        index.set_seed(42)
        index.verbose(False)
        for i, vector in enumerate(vectors):
            index.add_item(i, vector)
        assert index.build(10, n_jobs=1)
        assert index.save(path)
        again = cls(12, "euclidean")
        assert again.load(path)
        found = again.get_nns_by_item(0, 500, search_k=100_000, include_distances=True)
        return found[0], [round(d, 4) for d in found[1]], again.get_item_vector(7), again.get_n_items()

    assert run(Index, str(tmp_path / "ours")) == run(annoy.AnnoyIndex, str(tmp_path / "theirs"))


@pytest.mark.parametrize("metric", ["angular", "euclidean", "manhattan", "hamming", "dot"])
def test_saved_files_are_plain_files_that_annoy_loads(metric: str, vectors: Vectors, tmp_path: Path) -> None:
    index = Index(metric=metric).fit(vectors, n_trees=4).save(tmp_path / "x.ann")
    theirs = annoy.AnnoyIndex(12, metric)
    assert theirs.load(str(tmp_path / "x.ann"))
    for query in vectors[:10].tolist():
        assert theirs.get_nns_by_vector(query, 5, 5000) == index.get_nns_by_vector(query, 5, 5000)


def test_hamming_counts_what_is_larger_than_a_half() -> None:
    index = Index(metric="hamming").add_item(0, [0.5, np.nextafter(np.float32(0.5), 1), 1, 0])
    assert index.get_item_vector(0) == [0, 1, 1, 0]
    theirs = annoy.AnnoyIndex(4, "hamming")
    theirs.add_item(0, [0.5, float(np.nextafter(np.float32(0.5), 1)), 1, 0])
    assert theirs.get_item_vector(0) == [0, 1, 1, 0]


def test_parameters_are_checked_before_anything_changes(vectors: Vectors) -> None:
    index = Index(n_neighbors=3).fit(vectors)
    before = index.get_params()
    wrong: list[dict[str, Any]] = [
        {"metric": "no"},
        {"n_neighbors": 0},
        {"n_neighbors": 2.5},
        {"seed": 2**63},
        {"seed": "1"},
        {"f": -1},
        {"pickle_mode": "both"},
        {"compress_mode": "lz4"},
        {"n_trees": 3},
    ]
    for change in wrong:
        with pytest.raises((ValueError, TypeError), match=next(iter(change)) if "metric" not in change else "metric"):
            index.set_params(n_neighbors=change.pop("n_neighbors", 9), **change)
    assert index.get_params() == before
    assert index.is_built


def test_attributes_are_the_parameters(tmp_path: Path) -> None:
    index = Index(on_disk_path=tmp_path / "x", prefault=True, seed=0, verbose=9)
    assert (index.on_disk_path, index.prefault, index.seed, index.random_state) == (str(tmp_path / "x"), True, 0, 0)
    assert index.get_params()["verbose"] == 2
    index.random_state = 5
    index.n_neighbors = 7
    index.prefault = None
    index.on_disk_path = None
    index.pickle_mode, index.compress_mode = "byte", "zlib"
    assert index.set_verbose(-5).get_params() == {
        "f": None,
        "metric": None,
        "n_neighbors": 7,
        "on_disk_path": None,
        "prefault": None,
        "seed": 5,
        "verbose": -2,
        "pickle_mode": "byte",
        "compress_mode": "zlib",
        "cells": "auto",
    }
    assert index.n_features_out_ == 7


def test_the_seed_holds_for_all_builds_to_come(vectors: Vectors) -> None:
    def forest(index: Index) -> bytes:
        return index.fit(vectors, n_trees=3).to_bytes()

    seeded = forest(Index(seed=1))
    assert seeded == forest(Index().set_seed(1)) == forest(Index(seed=1).unload())
    assert seeded != forest(Index(seed=0)) != forest(Index())
    assert forest(Index(seed=2).set_seed()) == forest(Index())
    plain = AnnoyIndex(12, "angular")
    plain.set_seed(1)
    plain.add_items(vectors)
    plain.build(3)
    assert plain.to_bytes() == seeded


def test_the_file_to_build_in_is_created_by_the_first_item(vectors: Vectors, tmp_path: Path) -> None:
    path = tmp_path / "x.ann"
    path.write_bytes(b"kept until then")
    index = Index(on_disk_path=path)
    assert path.read_bytes() == b"kept until then"
    index.add_item(0, vectors[0])
    assert index.add_items(vectors[1:]).tolist() == list(range(1, 500))
    index.build(3)
    assert path.read_bytes() == index.to_bytes() == Index().fit(vectors, n_trees=3).to_bytes()
    with pytest.raises(RuntimeError, match="loaded index"):
        Index(12).load(path).on_disk_build(tmp_path / "y")
    later = Index().on_disk_build(tmp_path / "z").add_item(0, vectors[0])
    assert (tmp_path / "z").exists()
    with pytest.raises(RuntimeError, match="before the first item"):
        later.on_disk_build(tmp_path / "y")


def test_a_file_that_the_index_is_given_to_load_is_not_built_over(vectors: Vectors, tmp_path: Path) -> None:
    path = tmp_path / "x.ann"
    Index().fit(vectors).save(path)
    content = path.read_bytes()
    index = Index(12, on_disk_path=path).load(path)
    assert index.query_by_vector(vectors[3], 1).tolist() == [3]  # type: ignore[union-attr]
    with pytest.raises(RuntimeError, match="loaded"):
        index.add_item(0, vectors[0])
    assert path.read_bytes() == content


def test_errors_of_files_are_raised_as_annoy_raises_them(vectors: Vectors, tmp_path: Path) -> None:
    for index in (Index(), Index(12).add_item(0, vectors[0])):
        with pytest.raises(OSError, match="hasn't been built"):
            index.save(tmp_path / "x")
    index = Index().fit(vectors)
    with pytest.raises(OSError, match="folder"):
        index.save(tmp_path / "no folder" / "x")
    with pytest.raises(FileNotFoundError):
        index.load(tmp_path / "x")
    assert index.is_built
    assert list(tmp_path.iterdir()) == []


def test_the_file_descriptor_0_is_one_as_any_other(tmp_path: Path) -> None:
    code = f"""
import os
import numpy as np
from dask_annoy import Index
path = {str(tmp_path / "x.ann")!r}
os.close(0)
index = Index(on_disk_path=path).fit(np.eye(8), n_trees=2)
assert open(path, "rb").read() == index.to_bytes()
assert Index(8).load(path).transform(np.eye(8), n_neighbors=1).ravel().tolist() == list(range(8))
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_items_are_got_by_number_and_by_slice(vectors: Vectors) -> None:
    index = Index()
    index.add_items(vectors[:3], [0, 1, 4])
    np.testing.assert_array_equal(index[4], vectors[2])
    np.testing.assert_array_equal(index[1:5], [vectors[1], np.zeros(12), np.zeros(12), vectors[2]])
    np.testing.assert_array_equal(index[::-4], index[[4, 0][0] : None : -4])
    for number in (5, -1, 2**40):
        with pytest.raises(IndexError):
            index[number]
    assert (list(index), 4 in index, 3 in index) == ([0, 1, 4], True, False)


def test_what_it_says_of_itself_is_true(vectors: Vectors) -> None:
    index = Index(metric="l1", seed=3)
    assert index.info() == {
        "f": 0,
        "metric": "manhattan",
        "n_neighbors": 5,
        "on_disk_path": None,
        "prefault": None,
        "seed": 3,
        "verbose": None,
        "n_items": 0,
        "n_trees": 0,
    }
    assert index.memory_usage() is None
    assert index.info(include_memory=True)["memory_usage_byte"] is None
    index.fit(vectors, n_trees=3)
    about = index.info()
    assert (about["f"], about["n_items"], about["n_trees"]) == (12, 500, 3)
    assert about["memory_usage_byte"] == index.memory_usage() == len(index.to_bytes())
    assert about["memory_usage_mib"] == len(index.to_bytes()) / 2**20
    assert "n_items" not in index.info(include_n_items=False, include_n_trees=False)
    assert repr(index) == "Index(f=12, metric='manhattan', n_neighbors=5, seed=3, n_items=500, n_trees=3)"
    assert "memory_usage_byte" in index.repr_info(include_memory=True)
    assert "manhattan" in index._repr_html_()
    assert "angular" in Index()._repr_html_()


@pytest.mark.parametrize("f", [None, 4], ids=["no width yet", "with items"])
def test_a_closed_index_raises_and_does_not_come_back(f: int | None) -> None:
    index = Index(f, "euclidean")
    if f is not None:
        index.fit(np.eye(4), n_trees=2)
    with index:
        pass
    assert index.closed
    for use in (
        index.get_n_items,
        lambda: len(index),
        lambda: list(index),
        lambda: 0 in index,
        lambda: index.is_built,
        lambda: index.kneighbors(np.eye(4)),
        lambda: index.fit(np.eye(4)),
        lambda: index.add_item(0, [1, 2, 3, 4]),
        lambda: index.set_params(f=7),
        lambda: index.load("never-read"),
        index.unload,
        index.__enter__,
    ):
        with pytest.raises(RuntimeError, match="closed"):
            use()
    index.close()
    assert "closed" in index._repr_html_()
    assert "closed" in repr(index)

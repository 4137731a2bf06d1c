"""AnnoyIndex: building, saving, loading, building on disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dask_annoy import AnnoyIndex
from dask_annoy._native import node_size
from dask_annoy.errors import CorruptIndexError

from .conftest import METRICS, built, filled, vectors_of

# --- building


def test_building_gives_the_number_of_trees_asked_for() -> None:
    index = filled()
    assert index.get_n_trees() == 0
    assert index.build(7) is True
    assert index.get_n_trees() == 7
    assert index.unbuild() is True
    assert index.get_n_trees() == 0
    assert index.unbuild() is True
    assert index.build(-1) is True
    assert index.get_n_trees() > 1


@pytest.mark.parametrize("n_trees", [0, -2, -10])
def test_a_number_of_trees_that_makes_no_sense_is_refused(n_trees: int) -> None:
    index = filled()
    with pytest.raises(ValueError, match=f"n_trees.*{n_trees}"):
        index.build(n_trees)
    assert index.build(1)


@pytest.mark.parametrize("n_jobs", [0, -2, -5])
def test_a_number_of_threads_that_makes_no_sense_is_refused(n_jobs: int) -> None:
    index = filled()
    with pytest.raises(ValueError, match=f"n_jobs.*{n_jobs}"):
        index.build(1, n_jobs)
    index.build(1)
    X = vectors_of(1)
    for call in (
        lambda: index.get_nns_by_vectors(X, 1, n_jobs=n_jobs),
        lambda: index.get_nns_by_items([0], 1, n_jobs=n_jobs),
        lambda: index.budgets_to_find(X, np.zeros((1, 1), np.int64), n_jobs=n_jobs),
    ):
        with pytest.raises(ValueError, match="n_jobs"):
            call()


def test_a_built_index_takes_no_items_and_no_second_build() -> None:
    index = built()
    for call in (lambda: index.build(1), lambda: index.add_item(0, [0] * 4), lambda: index.add_items(vectors_of(1))):
        with pytest.raises(RuntimeError, match="built"):
            call()
    index.unbuild()
    index.add_items(vectors_of(1))
    assert index.get_n_items() == 51


def test_an_index_without_items_can_be_built_saved_loaded_and_asked(tmp_path: Path) -> None:
    for metric in METRICS:
        index = AnnoyIndex(3, metric)
        assert index.get_nns_by_vector([1, 2, 3], 5) == []
        index.build(2)
        index.save(str(tmp_path / "empty"))
        assert index.get_n_items() == 0
        assert index.get_n_trees() == 2
        assert index.get_nns_by_vector([1, 2, 3], 5, include_distances=True) == ([], [])
        assert index.get_nns_by_vectors([[1, 2, 3]], 2).tolist() == [[-1, -1]]


# --- files


def test_a_saved_index_is_loaded_read_only(tmp_path: Path) -> None:
    path = str(tmp_path / "x")
    index = built()
    expected = index.get_nns_by_item(0, 5, include_distances=True)
    assert index.save(path) is True
    loaded = AnnoyIndex(4, "euclidean")
    assert loaded.load(path) is True
    for each in (index, loaded):
        assert each.get_nns_by_item(0, 5, include_distances=True) == expected
        assert each.get_n_trees() == 3
        for call in (
            lambda each=each: each.add_item(0, [0] * 4),
            lambda each=each: each.build(1),
            lambda each=each: each.unbuild(),
            lambda each=each: each.on_disk_build(path),
        ):
            with pytest.raises(RuntimeError, match="loaded index"):
                call()
    assert loaded.unload() is True
    assert loaded.get_n_items() == 0
    loaded.add_item(0, [0] * 4)


def test_saving_an_index_that_is_not_built_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="hasn't been built"):
        filled().save(str(tmp_path / "x"))
    assert list(tmp_path.iterdir()) == []


def test_missing_files_and_folders_are_the_os_errors_that_fit(tmp_path: Path) -> None:
    index = built()
    with pytest.raises(FileNotFoundError):
        index.load(str(tmp_path / "missing"))
    with pytest.raises(IsADirectoryError):
        index.load(str(tmp_path))
    with pytest.raises(FileNotFoundError):
        index.save(str(tmp_path / "missing" / "x"))
    with pytest.raises(FileNotFoundError):
        AnnoyIndex(4, "dot").on_disk_build(str(tmp_path / "missing" / "x"))
    assert index.get_n_items() == 50


@pytest.mark.parametrize("name", [None, 5, b"bytes"])
def test_what_is_no_files_name_is_refused_as_in_annoy(name: Any) -> None:
    index = built()
    for call in (index.save, index.load, AnnoyIndex(4, "dot").on_disk_build):
        with pytest.raises(TypeError):
            call(name)


def test_file_names_may_hold_any_bytes_but_null(tmp_path: Path) -> None:
    index = built()
    name = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe \xc3\xa9")
    index.save(name)
    assert Path(name).exists()
    index.load(name)
    with pytest.raises(ValueError, match="null"):
        index.load(name + "\0.ann")


@pytest.mark.parametrize("metric", METRICS)
def test_a_damaged_file_is_refused_by_name_and_the_index_stays(tmp_path: Path, metric: str) -> None:
    index = built(200, metric, 12)
    index.save(str(tmp_path / "sound"))
    data = (tmp_path / "sound").read_bytes()
    size = node_size(metric, 12)
    for name, damaged in {
        "empty": b"",
        "cut within a node": data[:-1],
        "cut within the items": data[: 100 * size],
        "cut within the trees": data[: 210 * size],
        "zeros at the end": data + bytes(size),
        "negative": data[:-size] + b"\xff" * 4 + data[-size + 4 :],
    }.items():
        (tmp_path / "damaged").write_bytes(damaged)
        with pytest.raises(CorruptIndexError, match="damaged") as raised:
            index.load(str(tmp_path / "damaged"))
        assert isinstance(raised.value, OSError), name
        assert isinstance(raised.value, ValueError), name
    assert index.get_n_items() == 200
    assert index.get_nns_by_item(5, 1, 10**6) == [5]


def test_building_on_disk_gives_the_saved_file_in_place(tmp_path: Path) -> None:
    index = AnnoyIndex(4, "euclidean")
    assert index.on_disk_build(str(tmp_path / "disk")) is True
    index.add_items(vectors_of(50))
    index.build(3)
    built().save(str(tmp_path / "memory"))
    assert (tmp_path / "disk").read_bytes() == (tmp_path / "memory").read_bytes()
    index.save(str(tmp_path / "other"))
    assert (tmp_path / "other").read_bytes() == (tmp_path / "memory").read_bytes()
    with pytest.raises(RuntimeError, match="before the first item"):
        filled().on_disk_build(str(tmp_path / "late"))
    assert not (tmp_path / "late").exists()


def test_saving_leaves_no_other_file_behind(tmp_path: Path) -> None:
    for _ in range(2):
        built().save(str(tmp_path / "x"))
    assert [p.name for p in tmp_path.iterdir()] == ["x"]

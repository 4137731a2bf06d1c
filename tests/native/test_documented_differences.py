"""The table "What behaves differently" of docs/coming-from-annoy.md, row by row.

Where it is safe annoy 1.17.3 shows its side; where it would crash, hang or leak only ours is shown.
"""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import annoy
import numpy as np
import pytest

from dask_annoy import AnnoyIndex
from dask_annoy.errors import CorruptIndexError

from .conftest import ANNOYS_METRICS, built, filled, vectors_of


def theirs(n: int = 50, metric: str = "euclidean", width: int = 4) -> Any:
    index = annoy.AnnoyIndex(width, metric)
    for i, vector in enumerate(vectors_of(n, width)):
        index.add_item(i, vector)
    return index


# --- building


def test_trees_do_not_depend_on_threads_and_are_others_than_annoys() -> None:
    ours = {n_jobs: filled(500) for n_jobs in (1, 2, 3, -1)}
    for n_jobs, index in ours.items():
        index.build(4, n_jobs)
    assert len({index.to_bytes() for index in ours.values()}) == 1


def test_annoys_trees_depend_on_threads(tmp_path: Path) -> None:
    contents = set()
    for n_jobs in (1, 2):
        index = theirs(500)
        index.build(4, n_jobs)
        index.save(str(tmp_path / "x"))
        contents.add((tmp_path / "x").read_bytes())
        index.unload()
    assert len(contents) == 2


def test_annoys_build_of_no_trees_is_silent_and_ours_is_a_value_error() -> None:
    index = theirs()
    assert index.build(0, 1) is True
    assert index.get_n_trees() == 0
    for n_trees in (0, -2, -10):
        with pytest.raises(ValueError, match="n_trees"):
            filled().build(n_trees)


@pytest.mark.parametrize("n_jobs", [0, -2, -5])
def test_numbers_of_threads_that_make_annoy_abort_are_value_errors(n_jobs: int) -> None:
    with pytest.raises(ValueError, match="n_jobs"):
        filled().build(1, n_jobs)


def test_an_empty_index_gets_a_tree_where_annoy_gets_none_and_cannot_be_saved(tmp_path: Path) -> None:
    index = theirs(0)
    index.build(-1, 1)
    assert index.get_n_trees() == 0
    with pytest.raises(OSError, match="zero"):
        index.save(str(tmp_path / "theirs"))
    ours = AnnoyIndex(4, "euclidean")
    ours.build(-1)
    assert ours.get_n_trees() == 1
    assert ours.save(str(tmp_path / "ours")) is True


def test_items_after_build_are_lost_in_annoy_and_refused_here() -> None:
    index = theirs()
    index.build(3, 1)
    index.add_item(50, [9, 9, 9, 9])
    assert index.get_nns_by_vector([9, 9, 9, 9], 1) != [50]
    ours = built()
    with pytest.raises(RuntimeError, match="unbuild"):
        ours.add_item(50, [9, 9, 9, 9])
    ours.unbuild()
    ours.add_item(50, [9, 9, 9, 9])
    ours.build(3)
    assert ours.get_nns_by_vector([9, 9, 9, 9], 1) == [50]


def test_holes_after_unbuild_show_old_nodes_in_annoy_and_zeros_here() -> None:
    vectors = []
    for index in (annoy.AnnoyIndex(2, "euclidean"), AnnoyIndex(2, "euclidean")):
        for i in range(40):
            index.add_item(i, [i, i])
        index.build(3, 1)
        index.unbuild()
        index.add_item(45, [7, 7])
        vectors.append([index.get_item_vector(i) for i in range(40, 45)])
    assert vectors[0] != [[0.0, 0.0]] * 5
    assert vectors[1] == [[0.0, 0.0]] * 5


def test_an_unloaded_index_is_built_again_without_unbuild() -> None:
    index = theirs()
    index.build(1, 1)
    index.unload()
    index.add_item(0, [1, 2, 3, 4])
    with pytest.raises(Exception, match="built index"):
        index.build(1, 1)
    ours = built()
    ours.unload()
    ours.add_item(0, [1, 2, 3, 4])
    assert ours.build(1) is True


def test_building_on_disk_after_the_first_item_is_refused_and_loses_nothing(tmp_path: Path) -> None:
    ours = filled()
    with pytest.raises(RuntimeError, match="before the first item"):
        ours.on_disk_build(str(tmp_path / "late"))
    assert not (tmp_path / "late").exists()
    assert ours.get_item_vector(3) == vectors_of(50)[3].tolist()


# --- arguments


@pytest.mark.parametrize("metric", ANNOYS_METRICS)
def test_nan_and_infinity_are_refused_by_row_and_column(metric: str) -> None:
    for bad in (float("nan"), float("inf"), 1e39):
        annoy.AnnoyIndex(2, metric).add_item(0, [1, bad])
        with pytest.raises(ValueError, match="row 0, column 1"):
            AnnoyIndex(2, metric).add_item(0, [1, bad])


def test_negative_numbers_of_neighbours_are_refused() -> None:
    index = theirs(5)
    index.build(1, 1)
    assert len(index.get_nns_by_item(0, -1)) == 5
    with pytest.raises(ValueError, match="negative"):
        built().get_nns_by_item(0, -1)


def test_widths_below_one_are_refused() -> None:
    assert annoy.AnnoyIndex(0, "angular").f == 0
    for f in (0, -1):
        with pytest.raises(ValueError, match="positive"):
            AnnoyIndex(f, "angular")


def test_the_width_cannot_be_set() -> None:
    annoy.AnnoyIndex(3, "angular").f = 4
    with pytest.raises(AttributeError):
        AnnoyIndex(3, "angular").f = 4  # type: ignore[misc]


def test_metric_none_is_the_metric_left_out() -> None:
    with pytest.raises(TypeError):
        annoy.AnnoyIndex(3, None)
    with pytest.warns(FutureWarning):
        assert AnnoyIndex(3, None).metric == "angular"


def test_numbers_beyond_32_bits_are_no_items_and_large_budgets() -> None:
    index = theirs()
    index.build(1, 1)
    ours = built()
    for far in (2**31, 2**40):
        with pytest.raises(OverflowError):
            index.get_item_vector(far)
        with pytest.raises(IndexError):
            ours.get_item_vector(far)
        with pytest.raises(OverflowError):
            index.get_nns_by_item(0, 3, far)
        assert len(ours.get_nns_by_item(0, far, far)) == 50
        ours.set_seed(far)
    with pytest.raises(OverflowError):
        index.get_item_vector(2**70)
    with pytest.raises(IndexError, match=str(2**70)):
        ours.get_item_vector(2**70)
    with pytest.raises(TypeError):
        ours.get_nns_by_item(0, 2**70)


def test_flags_may_be_anything_with_a_truth_value() -> None:
    index = theirs()
    index.build(1, 1)
    ours = built()
    for flag in (None, 1.5, Decimal(1), []):
        with pytest.raises(TypeError):
            index.get_nns_by_item(0, 1, -1, flag)
    assert isinstance(ours.get_nns_by_item(0, 1, -1, None), list)
    assert isinstance(ours.get_nns_by_item(0, 1, -1, 1.5), tuple)


def test_the_default_budget_does_not_overflow(tmp_path: Path) -> None:
    index = theirs(200)
    index.build(3, 1)
    n = 2**31 - 1  # times three trees, in 32 bits, is a number below zero or a small one
    assert sorted(built(200).get_nns_by_item(0, n)) == list(range(200))
    n = 2**32 // 3 + 1
    assert len(index.get_nns_by_item(0, n)) < 200
    assert sorted(built(200).get_nns_by_item(0, n)) == list(range(200))


@pytest.mark.parametrize(
    "call",
    [
        lambda index: index.build(1),
        lambda index: (index.unload(), index.load("x"), index.unbuild()),
        lambda index: (index.unload(), index.load("x"), index.add_item(0, [1, 2, 3, 4])),
        lambda index: (index.unload(), index.load("x"), index.on_disk_build("y")),
    ],
    ids=["build twice", "unbuild loaded", "add to loaded", "on disk when loaded"],
)
def test_a_call_in_the_wrong_state_is_a_runtime_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[[Any], Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    built().save("x")
    with pytest.raises(RuntimeError):
        call(built())


# --- files


def test_a_file_of_another_metric_or_width_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "x")
    built(200, "euclidean", 4).save(path)
    index = annoy.AnnoyIndex(4, "manhattan")
    assert index.load(path) is True
    index.unload()
    index = annoy.AnnoyIndex(5, "angular")
    assert index.load(path) is True
    index.unload()
    for width, metric in ((5, "angular"), (4, "hamming"), (1, "manhattan")):
        ours = built(7, metric, width)
        with pytest.raises(CorruptIndexError) as raised:
            ours.load(path)
        assert isinstance(raised.value, OSError)
        assert isinstance(raised.value, ValueError)
        assert ours.get_n_items() == 7


@pytest.mark.parametrize("name", ["missing", "missing \udcff"])
def test_a_missing_file_is_a_file_not_found_error_that_names_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError) as raised:
        AnnoyIndex(4, "dot").load(str(tmp_path / name))
    assert name in str(raised.value)


def test_names_that_are_no_unicode_are_names(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    index = theirs()
    index.build(1, 1)
    with pytest.raises(UnicodeEncodeError):
        index.save(path)
    assert built().save(path) is True
    Path(path).write_bytes(b"cut")
    with pytest.raises(CorruptIndexError, match="\udcff"):
        AnnoyIndex(4, "euclidean").load(path)


def test_who_reads_a_file_that_is_saved_over_keeps_the_old_one(tmp_path: Path) -> None:
    path = str(tmp_path / "x")
    built(50).save(path)
    reader = AnnoyIndex(4, "euclidean")
    reader.load(path)
    expected = reader.get_nns_by_item(0, 10, -1, True)
    built(9).save(path)
    assert reader.get_nns_by_item(0, 10, -1, True) == expected
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_saving_elsewhere_after_building_on_disk_writes_a_file(tmp_path: Path) -> None:
    for name, index in (("theirs", annoy.AnnoyIndex(4, "dot")), ("ours", AnnoyIndex(4, "dot"))):
        index.on_disk_build(str(tmp_path / f"disk of {name}"))
        for i, vector in enumerate(vectors_of(30)):
            index.add_item(i, vector)
        index.build(2, 1)
        assert index.save(str(tmp_path / name)) is True
    assert not (tmp_path / "theirs").exists()
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "disk of ours").read_bytes()


def test_an_index_saved_after_building_on_disk_is_read_only_as_any_saved_one(tmp_path: Path) -> None:
    indexes = (annoy.AnnoyIndex(4, "dot"), AnnoyIndex(4, "dot"))
    for name, index in zip(("theirs", "ours"), indexes, strict=True):
        index.on_disk_build(str(tmp_path / name))
        index.add_item(0, [1, 2, 3, 4])
        index.build(2, 1)
        index.save(str(tmp_path / name))
    assert indexes[0].unbuild() is True
    with pytest.raises(RuntimeError, match="loaded"):
        indexes[1].unbuild()


def test_files_built_on_disk_have_the_mode_that_the_umask_gives(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        for name, index in (("theirs", annoy.AnnoyIndex(4, "dot")), ("ours", AnnoyIndex(4, "dot"))):
            index.on_disk_build(str(tmp_path / name))
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "theirs").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == 0o644


def test_a_refused_file_leaves_what_was_loaded(tmp_path: Path) -> None:
    path = str(tmp_path / "x")
    built().save(path)
    ours = AnnoyIndex(4, "euclidean")
    ours.load(path)
    (tmp_path / "bad").write_bytes(b"bad")
    for bad in ("bad", "missing"):
        with pytest.raises(OSError, match=bad):
            ours.load(str(tmp_path / bad))
    assert ours.get_nns_by_item(3, 1) == [3]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_loading_again_lets_the_old_mapping_go(tmp_path: Path) -> None:
    path = str(tmp_path / "mapped.ann")
    built().save(path)
    ours = AnnoyIndex(4, "euclidean")
    for _ in range(5):
        ours.load(path)
    assert Path("/proc/self/maps").read_text().count(path) == 1


@pytest.mark.parametrize(("n_items", "annoy_counts"), [(1, 9), (3, 7)])
def test_trees_are_counted_right_for_few_items(tmp_path: Path, n_items: int, annoy_counts: int) -> None:
    path = str(tmp_path / "x")
    index = theirs(n_items, "euclidean")
    index.build(4, 1)
    index.save(path)
    assert index.get_n_trees() in (annoy_counts, annoy_counts - 1)
    ours = AnnoyIndex(4, "euclidean")
    ours.load(path)
    assert ours.get_n_trees() == 4
    index.unload()


# --- answers


def test_distances_that_look_equal_are_ordered_by_item(tmp_path: Path) -> None:
    """Annoy orders by the square: two that differ may have one root."""
    path = str(tmp_path / "x")
    index = theirs(3000, "euclidean", 3)
    index.build(2, 1)
    index.save(path)
    ours = AnnoyIndex(3, "euclidean")
    ours.load(path)
    out_of_order = []
    for library in (index, ours):
        count = 0
        for query in vectors_of(50, 3, seed=2):
            ids, distances = library.get_nns_by_vector(query, 3000, -2, True)
            ties = np.diff(distances) == 0
            count += int((np.diff(ids)[ties] < 0).sum())
        out_of_order.append(count)
    assert out_of_order[0] > 0
    assert out_of_order[1] == 0
    index.unload()


def test_planes_of_dot_are_chosen_with_the_extra_dimension() -> None:
    """Annoy's recall collapses where all factors are positive."""
    rng = np.random.default_rng(0)
    vectors = (rng.random((2000, 16)) * rng.random((2000, 1))).astype(np.float32)
    found = []
    for library in (annoy.AnnoyIndex, AnnoyIndex):
        index = library(16, "dot")
        for i, vector in enumerate(vectors):
            index.add_item(i, vector)
        index.build(10, 1)
        hits = 0
        for query in vectors[:50]:
            truth = set(np.argsort(-(vectors @ query))[:10].tolist())
            hits += len(truth & set(index.get_nns_by_vector(query, 10, 300)))
        found.append(hits)
    assert found[1] > found[0]


# --- the rest


def test_nothing_is_printed(tmp_path: Path) -> None:
    script = """
import importlib, sys
index = importlib.import_module(sys.argv[1]).AnnoyIndex(2, "angular")
index.verbose(True)
index.add_item(0, [1, 2])
index.build(1, 1)
try:
    index.build(1, 1)
except Exception:
    pass
"""
    printed = {
        library: subprocess.run([sys.executable, "-c", script, library], capture_output=True, check=True, timeout=100)
        for library in ("annoy", "dask_annoy")
    }
    assert b"built index" in printed["annoy"].stderr
    assert printed["dask_annoy"].stderr == printed["dask_annoy"].stdout == b""


def test_an_index_without_items_is_false() -> None:
    assert bool(theirs(0)) is True
    assert bool(AnnoyIndex(2, "dot")) is False
    assert bool(built()) is True


def test_seeds_have_64_bits() -> None:
    with pytest.raises(OverflowError):
        theirs().set_seed(2**31)
    contents = set()
    for seed in (1, 1 + 2**32, 2**63 - 1):
        index = filled(300)
        index.set_seed(seed)
        index.build(2)
        contents.add(index.to_bytes())
    assert len(contents) == 3

"""AnnoyIndex, method by method: Annoy's names, arguments, defaults, results and exceptions, and what we add."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import annoy
import numpy as np
import pytest

import dask_annoy
from dask_annoy import Annoy, AnnoyIndex
from dask_annoy._native import list_capacity, node_size
from dask_annoy.errors import CorruptIndexError

METRICS = ["angular", "euclidean", "manhattan", "hamming", "dot"]
ANNOYS_METHODS = {
    "add_item": ["i", "vector"],
    "build": ["n_trees", "n_jobs"],
    "get_distance": ["i", "j"],
    "get_item_vector": ["i"],
    "get_n_items": [],
    "get_n_trees": [],
    "get_nns_by_item": ["i", "n", "search_k", "include_distances"],
    "get_nns_by_vector": ["vector", "n", "search_k", "include_distances"],
    "load": ["fn", "prefault"],
    "on_disk_build": ["fn"],
    "save": ["fn", "prefault"],
    "set_seed": ["seed"],
    "unbuild": [],
    "unload": [],
    "verbose": ["v"],
}


def vectors_of(n: int, width: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)


def filled(n: int = 50, metric: str = "euclidean", width: int = 4) -> AnnoyIndex:
    index = AnnoyIndex(width, metric)
    index.add_items(vectors_of(n, width))
    return index


def built(n: int = 50, metric: str = "euclidean", width: int = 4, n_trees: int = 3) -> AnnoyIndex:
    index = filled(n, metric, width)
    index.build(n_trees)
    return index


# --- names and arguments


def test_every_public_method_of_annoy_is_there() -> None:
    public = {name for name in dir(annoy.AnnoyIndex) if not name.startswith("_")}
    assert public - {"f"} == set(ANNOYS_METHODS)
    assert public <= set(dir(AnnoyIndex))


@pytest.mark.parametrize(("name", "arguments"), ANNOYS_METHODS.items())
def test_arguments_have_annoys_names_and_order(name: str, arguments: list[str]) -> None:
    method = getattr(AnnoyIndex, name)
    if inspect.isfunction(method):
        by_name_only = inspect.Parameter.KEYWORD_ONLY
        parts = [p.name for p in inspect.signature(method).parameters.values() if p.kind is not by_name_only]
    else:
        signature = re.match(rf"{name}\((.*)\) -> ", method.__doc__)
        assert signature is not None
        positional = signature[1].split(", *,")[0]  # what we add is taken by name only
        parts = [part.split(":")[0].strip() for part in positional.split(",")]
    assert [part for part in parts if part not in ("self", "/")] == arguments


def test_every_method_says_what_it_does() -> None:
    for name, method in inspect.getmembers(AnnoyIndex, callable):
        if not name.startswith("_"):
            assert len((method.__doc__ or "").strip().splitlines()) > 1, name


def test_arguments_are_taken_by_name_where_annoy_takes_them(tmp_path: Path) -> None:
    index = AnnoyIndex(f=2, metric="angular")
    assert index.add_item(i=0, vector=[1, 0]) is None
    assert index.build(n_trees=2, n_jobs=1) is True
    assert index.get_nns_by_item(i=0, n=1, search_k=-1, include_distances=False) == [0]
    assert index.get_nns_by_vector(vector=[1, 0], n=1, search_k=-1, include_distances=True) == ([0], [0.0])
    assert index.save(fn=str(tmp_path / "x"), prefault=False) is True
    assert index.load(fn=str(tmp_path / "x"), prefault=True) is True


def test_annoy_is_another_name_of_the_index() -> None:
    assert Annoy is AnnoyIndex
    assert "Annoy" in dask_annoy.__all__


# --- construction


def test_the_metric_is_angular_with_a_warning_if_not_given() -> None:
    with pytest.warns(FutureWarning, match="metric"):
        index = AnnoyIndex(3)
    assert (index.f, index.metric) == (3, "angular")


@pytest.mark.parametrize("metric", METRICS)
def test_the_width_and_metric_are_kept_and_cannot_be_changed(metric: str) -> None:
    index = AnnoyIndex(7, metric)
    assert (index.f, index.metric) == (7, metric)
    for name in ("f", "metric"):
        with pytest.raises(AttributeError):
            setattr(index, name, 8)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((3, "cosine"), ValueError),
        ((3, ""), ValueError),
        ((3, 5), TypeError),
        ((3, b"angular"), TypeError),
        ((0, "angular"), ValueError),
        ((-1, "angular"), ValueError),
        ((2**40, "angular"), ValueError),
        ((2**70, "angular"), TypeError),
        (("3", "angular"), TypeError),
        ((3.0, "angular"), TypeError),
        ((), TypeError),
    ],
)
def test_widths_and_metrics_that_make_no_sense_are_refused(arguments: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        AnnoyIndex(*arguments)


# --- adding one item


@pytest.mark.parametrize(
    "convert",
    [
        list,
        tuple,
        np.array,
        lambda v: np.array(v, np.float64),
        lambda v: np.array(v, ">f4"),
        lambda v: np.array(v, int),
    ],
)
def test_any_sequence_of_numbers_is_a_vector(convert: Callable[[list[int]], Any]) -> None:
    index = AnnoyIndex(3, "euclidean")
    index.add_item(0, convert([1, 2, 3]))
    assert index.get_item_vector(0) == [1.0, 2.0, 3.0]


def test_what_has_a_length_and_items_is_a_vector_as_in_annoy() -> None:
    class Sequence:
        def __len__(self) -> int:
            return 3

        def __getitem__(self, i: int) -> float:
            return float(i)

    index = AnnoyIndex(3, "euclidean")
    index.add_item(0, Sequence())
    assert index.get_item_vector(0) == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("vector", [[1, 2], [1, 2, 3, 4], [], np.ones(2), np.ones((3, 1)), np.ones((3, 3))])
def test_a_vector_of_another_length_is_an_index_error(vector: Any) -> None:
    index = AnnoyIndex(3, "angular")
    with pytest.raises(IndexError):
        index.add_item(0, vector)
    with pytest.raises(IndexError):
        index.get_nns_by_vector(vector, 1)
    assert index.get_n_items() == 0


@pytest.mark.parametrize(
    "vector", [None, 5, np.float32(5), np.array(5.0), {1, 2, 3}, ["a", "b", "c"], [1, None, 2], "abc"]
)
def test_what_is_no_sequence_of_numbers_is_a_type_error(vector: Any) -> None:
    index = AnnoyIndex(3, "angular")
    with pytest.raises(TypeError):
        index.add_item(0, vector)
    with pytest.raises(TypeError):
        index.get_nns_by_vector(vector, 1)


def test_an_array_of_strings_is_refused_as_numpy_does() -> None:
    with pytest.raises(ValueError, match="could not convert"):
        AnnoyIndex(2, "angular").add_item(0, np.array(["a", "b"]))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e39])
@pytest.mark.parametrize("metric", METRICS)
def test_vectors_must_be_finite(metric: str, bad: float) -> None:
    index = AnnoyIndex(3, metric)
    for call in (
        lambda: index.add_item(0, [1.0, bad, 1.0]),
        lambda: index.get_nns_by_vector([1.0, bad, 1.0], 1),
    ):
        with pytest.raises(ValueError, match="column 1"):
            call()
    with np.errstate(over="ignore"):
        for batch in (index.add_items, lambda X: index.get_nns_by_vectors(X, 1)):
            with pytest.raises(ValueError, match="row 1, column 1"):
                batch(np.array([[1, 1, 1], [1, bad, 1]]))
    assert index.get_n_items() == 0


def test_a_list_that_shrinks_while_it_is_read_is_refused() -> None:
    vector: list[Any] = []

    class Shrinking:
        def __float__(self) -> float:
            vector.clear()
            return 1.0

    vector.extend([Shrinking(), 2.0, 3.0])
    with pytest.raises(IndexError):
        AnnoyIndex(3, "angular").add_item(0, vector)


def test_an_exception_in_an_element_is_the_one_that_is_raised() -> None:
    class Failing:
        def __float__(self) -> float:
            raise LookupError("no number today")

    with pytest.raises(LookupError, match="today"):
        AnnoyIndex(1, "angular").add_item(0, [Failing()])


@pytest.mark.parametrize(
    ("i", "error"), [(-1, IndexError), (2**31 - 1, IndexError), (1.5, TypeError), ("1", TypeError)]
)
def test_item_numbers_that_annoy_could_not_store_are_refused(i: Any, error: type[Exception]) -> None:
    index = AnnoyIndex(2, "angular")
    with pytest.raises(error):
        index.add_item(i, [1, 2])
    assert index.get_n_items() == 0


def test_an_item_added_again_replaces_the_first() -> None:
    index = AnnoyIndex(2, "euclidean")
    index.add_item(0, [1, 2])
    index.add_item(0, [3, 4])
    assert index.get_n_items() == 1
    assert index.get_item_vector(0) == [3.0, 4.0]


def test_holes_count_as_items_have_zeros_and_are_never_found() -> None:
    index = AnnoyIndex(2, "euclidean")
    index.add_item(5, [1, 1])
    index.add_item(2, [2, 2])
    assert index.get_n_items() == 6
    assert index.get_item_vector(3) == [0.0, 0.0]
    index.build(3)
    assert index.get_nns_by_vector([0, 0], 10) == [5, 2]
    assert index.get_nns_by_item(0, 10) == [5, 2]


# --- adding many


def test_many_items_go_after_the_last_unless_numbers_are_given() -> None:
    index = AnnoyIndex(4, "euclidean")
    X = vectors_of(6)
    numbers = index.add_items(X[:2])
    assert numbers.dtype == np.int64
    np.testing.assert_array_equal(numbers, [0, 1])
    np.testing.assert_array_equal(index.add_items(X[2:4], [9, 5]), [9, 5])
    np.testing.assert_array_equal(index.add_items(X[4:]), [10, 11])
    for i, row in zip([0, 1, 9, 5, 10, 11], X, strict=True):
        np.testing.assert_array_equal(index.get_item_vector(i), row)


@pytest.mark.parametrize(
    "arrange",
    [
        np.asfortranarray,
        lambda X: np.repeat(X, 2, axis=0)[::2],
        lambda X: np.repeat(X, 3, axis=1)[:, ::3],
        lambda X: X[::-1][::-1],
        lambda X: X.astype(np.float64),
        lambda X: X.astype(">f4"),
        lambda X: X.astype(np.float16).astype(np.float32),
        lambda X: X.tolist(),
        lambda X: np.frombuffer(b"x" + X.tobytes(), np.uint8)[1:].view(np.float32).reshape(X.shape),
        lambda X: np.broadcast_to(X, X.shape),
    ],
    ids=[
        "fortran",
        "rows",
        "columns",
        "reversed",
        "float64",
        "big-endian",
        "float16",
        "lists",
        "unaligned",
        "read-only",
    ],
)
def test_arrays_of_any_memory_order_and_type_are_read(arrange: Callable[[np.ndarray], Any]) -> None:
    X = vectors_of(20).astype(np.float16).astype(np.float32)
    index, plain = AnnoyIndex(4, "angular"), AnnoyIndex(4, "angular")
    index.add_items(arrange(X))
    plain.add_items(X)
    assert [index.get_item_vector(i) for i in range(20)] == X.tolist()
    index.build(2)
    plain.build(2)
    for mine, expected in zip(
        index.get_nns_by_vectors(arrange(X), 5, -1, True), plain.get_nns_by_vectors(X, 5, -1, True), strict=True
    ):
        np.testing.assert_array_equal(mine, expected)


@pytest.mark.parametrize("X", [np.ones(4), np.ones((2, 3)), np.ones((2, 4, 1)), np.array(1.0), [], [1, 2, 3, 4]])
def test_arrays_of_another_shape_are_refused(X: Any) -> None:
    index = built()
    fresh = AnnoyIndex(4, "euclidean")
    for call in (
        lambda: fresh.add_items(X),
        lambda: index.get_nns_by_vectors(X, 1),
        lambda: index.budgets_to_find(X, np.zeros((1, 1), np.int64)),
    ):
        with pytest.raises(ValueError, match=r"shape \(n, 4\)"):
            call()


def test_ragged_lists_are_refused_as_numpy_does() -> None:
    with pytest.raises(ValueError, match="inhomogeneous"):
        AnnoyIndex(2, "angular").add_items([[1, 2], [3]])


def test_arrays_without_rows_are_no_work() -> None:
    index = built()
    ids, distances = index.get_nns_by_vectors(np.empty((0, 4)), 3, -1, True)
    assert ids.shape == distances.shape == (0, 3)
    assert index.get_nns_by_items([], 3).shape == (0, 3)
    assert index.budgets_to_find(np.empty((0, 4)), np.empty((0, 2), np.int64)).shape == (0, 2)
    for metric in METRICS:
        empty = AnnoyIndex(4, metric)
        assert empty.add_items(np.empty((0, 4))).shape == (0,)
        assert empty.add_items(np.empty((0, 4)), []).shape == (0,)
        assert empty.get_n_items() == 0


@pytest.mark.parametrize(
    ("ids", "error"),
    [
        ([0], ValueError),
        ([0, 1, 2], ValueError),
        ([[0, 1]], ValueError),
        (3, ValueError),
        ([0.0, 1.0], TypeError),
        ([True, False], TypeError),
        (["a", "b"], TypeError),
        ([-1, 0], IndexError),
        ([0, 2**31 - 1], IndexError),
    ],
)
def test_item_numbers_that_do_not_fit_the_rows_are_refused_before_anything_changes(
    ids: Any, error: type[Exception]
) -> None:
    index = AnnoyIndex(4, "angular")
    with pytest.raises(error):
        index.add_items(vectors_of(2), ids)
    assert index.get_n_items() == 0


@pytest.mark.parametrize("kind", ["i1", "u1", "i4", ">i8", "u8"])
def test_item_numbers_may_be_any_integers(kind: str) -> None:
    index = AnnoyIndex(4, "angular")
    index.add_items(vectors_of(3), np.array([4, 0, 2], kind))
    index.build(1)
    assert index.get_nns_by_items(np.array([4, 2], kind), 1)[:, 0].tolist() == [4, 2]


# --- bits


@pytest.mark.parametrize("width", [1, 7, 8, 9, 63, 64, 65, 130])
def test_packed_bits_are_numpys_packbits(width: int) -> None:
    bits = np.random.default_rng(width).integers(0, 2, (40, width))
    packed = np.packbits(bits.astype(bool), axis=1)
    plain, by_packed = AnnoyIndex(width, "hamming"), AnnoyIndex(width, "hamming")
    plain.add_items(bits)
    by_packed.add_items(packed, packed=True)
    for i in range(40):
        assert by_packed.get_item_vector(i) == plain.get_item_vector(i) == bits[i].tolist()
    plain.build(3)
    by_packed.build(3)
    for a, b in zip(
        plain.get_nns_by_vectors(bits, 5, -1, True),
        by_packed.get_nns_by_vectors(packed, 5, -1, True, packed=True),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


def test_a_component_above_one_half_is_a_set_bit() -> None:
    index = AnnoyIndex(4, "hamming")
    index.add_item(0, [0.5, 0.51, -3, 9])
    assert index.get_item_vector(0) == [0.0, 1.0, 0.0, 1.0]


def test_packed_bits_that_do_not_fit_are_refused() -> None:
    index = AnnoyIndex(12, "hamming")
    for shape in ((1, 1), (1, 3), (2,), (1, 2, 1)):
        with pytest.raises(ValueError, match=r"shape \(n, 2\)"):
            index.add_items(np.zeros(shape, np.uint8), packed=True)
    with pytest.raises(ValueError, match="row 1 has bits set beyond its 12"):
        index.add_items(np.array([[255, 0b11110000], [0, 1]], np.uint8), packed=True)
    with pytest.raises(TypeError, match="uint8"):
        index.add_items(np.zeros((1, 2), np.int8), packed=True)
    with pytest.raises(TypeError, match="uint8"):
        index.add_items([[1, 2]], packed=True)
    with pytest.raises(ValueError, match="hamming"):
        AnnoyIndex(12, "angular").add_items(np.zeros((1, 2), np.uint8), packed=True)
    with pytest.raises(TypeError):
        index.add_items(np.zeros((1, 2), np.uint8), None, True)  # type: ignore[misc]
    assert index.get_n_items() == 0


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


# --- asking


def test_answers_are_lists_of_python_numbers_nearest_first() -> None:
    index = built()
    ids, distances = index.get_nns_by_item(3, 5, include_distances=True)
    assert ids[0] == 3
    assert distances == sorted(distances)
    assert {type(i) for i in ids} == {int}
    assert {type(d) for d in distances} == {float}
    assert index.get_nns_by_item(3, 5) == ids == index.get_nns_by_vector(index.get_item_vector(3), 5)


def test_dot_answers_come_largest_first() -> None:
    distances = built(metric="dot").get_nns_by_item(3, 20, 10**6, include_distances=True)[1]
    assert distances == sorted(distances, reverse=True)


@pytest.mark.parametrize("i", [-1, 50, 2**40])
def test_numbers_that_are_no_items_are_index_errors(i: int) -> None:
    for index in (filled(), built()):
        for call in (
            lambda index=index: index.get_nns_by_item(i, 1),
            lambda index=index: index.get_nns_by_items([0, i], 1),
            lambda index=index: index.get_item_vector(i),
            lambda index=index: index.get_distance(0, i),
            lambda index=index: index.get_distance(i, 0),
        ):
            with pytest.raises(IndexError):
                call()


def test_an_index_without_trees_answers_with_nothing() -> None:
    index = filled()
    assert index.get_nns_by_item(0, 3) == []
    assert index.get_nns_by_item(0, 3, include_distances=True) == ([], [])
    assert index.get_nns_by_vector([0] * 4, 3) == []
    ids, distances = index.get_nns_by_items([0], 2, -1, True)
    assert ids.tolist() == [[-1, -1]]
    assert distances.tolist() == [[np.inf, np.inf]]
    assert index.get_distance(1, 1) == 0.0
    with pytest.raises(RuntimeError, match="build"):
        index.budgets_to_find(vectors_of(1), np.zeros((1, 1), np.int64))


@pytest.mark.parametrize("metric", METRICS)
def test_batches_answer_as_single_calls_do_padded(metric: str) -> None:
    index = built(30, metric, 6)
    X = vectors_of(17, 6, seed=1)
    missing = -np.inf if metric == "dot" else np.inf
    for n in (0, 1, 10, 40):
        ids, distances = index.get_nns_by_vectors(X, n, 10**6, True)
        assert ids.shape == distances.shape == (17, n)
        assert (ids.dtype, distances.dtype) == (np.int64, np.float32)
        np.testing.assert_array_equal(ids, index.get_nns_by_vectors(X, n, 10**6))
        for row in range(17):
            expected = index.get_nns_by_vector(X[row], n, 10**6, True)
            found = len(expected[0])
            assert ids[row].tolist() == expected[0] + [-1] * (n - found)
            np.testing.assert_array_equal(distances[row], expected[1] + [missing] * (n - found))
    by_items = index.get_nns_by_items([3, 7, 3], 4, -1, True)
    for row, item in enumerate([3, 7, 3]):
        assert (by_items[0][row].tolist(), by_items[1][row].tolist()) == index.get_nns_by_item(item, 4, -1, True)


def test_batches_are_the_same_for_any_number_of_threads() -> None:
    index = built(500)
    X = vectors_of(100, seed=1)
    expected = index.get_nns_by_vectors(X, 5, n_jobs=1)
    for n_jobs in (-1, 2, 7, 1000):
        np.testing.assert_array_equal(index.get_nns_by_vectors(X, 5, n_jobs=n_jobs), expected)


@pytest.mark.parametrize("n", [-1, -100])
def test_a_negative_number_of_neighbours_is_refused(n: int) -> None:
    index = built()
    for call in (
        lambda: index.get_nns_by_item(0, n),
        lambda: index.get_nns_by_vector([0] * 4, n),
        lambda: index.get_nns_by_items([0], n),
        lambda: index.get_nns_by_vectors(vectors_of(1), n),
    ):
        with pytest.raises(ValueError, match="n must not be negative"):
            call()


def test_more_neighbours_than_any_machine_holds_are_all_items_or_a_memory_error() -> None:
    index = built()
    assert sorted(index.get_nns_by_item(0, 2**62)) == list(range(50))
    with pytest.raises((MemoryError, ValueError)):
        index.get_nns_by_items([0], 2**62)


@pytest.mark.parametrize("ids", [[0.5], ["a"], [[0]], 0, None])
def test_items_to_ask_for_must_be_a_list_of_integers(ids: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        built().get_nns_by_items(ids, 1)


@pytest.mark.parametrize(
    ("metric", "a", "b", "expected"),
    [
        ("angular", [1, 0], [0, 2], 2**0.5),
        ("angular", [1, 0], [-1, 0], 2.0),
        ("angular", [0, 0], [1, 0], 2**0.5),
        ("euclidean", [1, 2], [4, 6], 5.0),
        ("manhattan", [1, 2], [4, 6], 7.0),
        ("hamming", [1, 0], [0, 0], 1.0),
        ("dot", [1, 2], [4, 6], 16.0),
    ],
)
def test_distances_are_annoys(metric: str, a: list[float], b: list[float], expected: float) -> None:
    index = AnnoyIndex(2, metric)
    index.add_item(0, a)
    index.add_item(1, b)
    assert index.get_distance(0, 1) == index.get_distance(1, 0) == pytest.approx(expected, rel=1e-6)
    index.build(1)
    ids, distances = index.get_nns_by_item(0, 2, -2, include_distances=True)
    assert dict(zip(ids, distances, strict=True))[1] == index.get_distance(0, 1)


def test_what_looks_equally_far_is_ordered_by_number() -> None:
    """Squares that differ may have one root: the order must be of what users see."""
    index = built(3000, "euclidean", 3)
    ids, distances = index.get_nns_by_vectors(vectors_of(50, 3, seed=2), 3000, 10**7, True)
    ties = np.diff(distances, axis=1) == 0
    assert ties.any()
    assert (np.diff(ids, axis=1)[ties] > 0).all()


@pytest.mark.parametrize("metric", METRICS)
def test_budgets_to_find_are_the_least_that_find(metric: str) -> None:
    index = built(200, metric, 6)
    X = vectors_of(10, 6, seed=3)
    targets = index.get_nns_by_vectors(X, 4, -2)
    targets[:, 3] = -1
    budgets = index.budgets_to_find(X, targets)
    assert (budgets.dtype, budgets.shape) == (np.int64, (10, 4))
    assert (budgets[:, 3] == -1).all()
    for row in range(10):
        for target, budget in zip(targets[row, :3].tolist(), budgets[row, :3].tolist(), strict=True):
            assert target in index.get_nns_by_vector(X[row], 200, budget)
            assert target not in index.get_nns_by_vector(X[row], 200, budget - 1)


@pytest.mark.parametrize("targets", [np.zeros(1, np.int64), np.zeros((2, 1), np.int64), np.int64(0)])
def test_targets_of_another_shape_are_refused(targets: Any) -> None:
    with pytest.raises(ValueError, match=r"shape \(1, k\)"):
        built().budgets_to_find(vectors_of(1), targets)


# --- the rest


def test_verbose_and_set_seed_are_accepted() -> None:
    index = AnnoyIndex(2, "angular")
    assert index.verbose(True) is True
    assert index.set_seed(5) is None
    assert index.set_seed(-5) is None
    for method, argument in (("verbose", "v"), ("set_seed", "seed"), ("get_item_vector", "i")):
        with pytest.raises(TypeError):
            getattr(index, method)(**{argument: 1})


def test_the_index_can_be_subclassed() -> None:
    class Named(AnnoyIndex):
        def __init__(self, name: str, f: int) -> None:
            super().__init__(f, "euclidean")
            self.name = name

        def get_n_items(self) -> int:
            return 100 + super().get_n_items()

    index = Named("mine", 2)
    index.add_item(0, [1, 2])
    index.build(1)
    assert index.get_n_items() == 101
    assert index.name == "mine"
    assert index.get_nns_by_vector([1, 2], 1) == [0]


def test_a_subclass_that_forgets_to_construct_is_told_so() -> None:
    class Forgetful(AnnoyIndex):
        def __init__(self) -> None:
            pass

    with pytest.raises(TypeError, match="__init__"):
        Forgetful()


@pytest.mark.parametrize("metric", METRICS)
def test_list_capacities_follow_from_the_node_size(metric: str) -> None:
    children = 8 if metric in ("euclidean", "manhattan") else 4
    for width in (1, 5, 64, 100):
        assert list_capacity(metric, width) == (node_size(metric, width) - children) // 4

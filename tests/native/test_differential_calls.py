"""One call on annoy 1.17.3 and on ours: the same result of the same type, or an exception of the same kind.

What differs on purpose is not here but in test_documented_differences.
"""

from __future__ import annotations

from array import array
from collections import UserList, deque
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import annoy
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dask_annoy

from .conftest import ANNOYS_METRICS

LIBRARIES = (annoy.AnnoyIndex, dask_annoy.AnnoyIndex)


class Floating:
    def __float__(self) -> float:
        return 2.5


class Counting:
    def __index__(self) -> int:
        return 1


class Sized:
    """Has a length and items, and nothing else of a sequence."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, i: int) -> float:
        return (0.5, 1.5, 2.5)[i]


class Failing:
    def __float__(self) -> float:
        raise LookupError("no number today")


def outcome(call: Callable[[], Any]) -> tuple[str, Any]:
    try:
        return "returned", call()
    except Exception as error:
        return "raised", type(error)


def shape_of(value: Any) -> Any:
    """The type of a result, down to its elements."""
    if isinstance(value, tuple):
        return (tuple, *(shape_of(part) for part in value))
    if isinstance(value, list):
        return list, {type(part) for part in value}
    return type(value)


def five(library: Any, metric: str = "euclidean", *, built: bool = True) -> Any:
    index = library(3, metric)
    for i in range(5):
        index.add_item(i, [i, 1, i % 2])
    if built:
        index.build(2, 1)
    return index


def assert_same_outcome(call: Callable[[Any], Any], make: Callable[[Any], Any] = five) -> None:
    theirs, ours = (outcome(lambda library=library: call(make(library))) for library in LIBRARIES)
    assert ours[0] == theirs[0], f"annoy {theirs}, we {ours}"
    if theirs[0] == "raised":
        assert issubclass(ours[1], theirs[1])
    else:
        assert ours[1] == theirs[1]
        assert shape_of(ours[1]) == shape_of(theirs[1])


VECTORS = {
    "list of int": [1, 2, 3],
    "list of float": [0.1, -2.5, 1e-30],
    "list of bool": [True, False, True],
    "tuple": (1, 2, 3),
    "range": range(3),
    "bytes": b"abc",
    "bytearray": bytearray(b"abc"),
    "memoryview": memoryview(b"abc"),
    "array": array("d", [1, 2, 3]),
    "deque": deque([1, 2, 3]),
    "user list": UserList([1, 2, 3]),
    "dict by position": {0: 1.0, 1: 2.0, 2: 3.0},
    "dict by name": {"a": 1.0, "b": 2.0, "c": 3.0},
    "sized": Sized(),
    "decimals and fractions": [Decimal("1.5"), Fraction(1, 3), 2],
    "objects with __float__": [Floating(), Floating(), 1],
    "objects with __index__": [Counting(), 1, 2],
    "an element that fails": [1, Failing(), 2],
    "numpy scalars": [np.float64(0.1), np.int8(-3), np.float16(0.5)],
    "doubles": np.array([0.1, 0.2, 0.3]),
    "halves": np.array([0.1, 0.2, 0.3], np.float16),
    "long doubles": np.array([0.1, 0.2, 0.3], np.longdouble),
    "big-endian": np.array([0.1, 0.2, 0.3], ">f4"),
    "bools": np.array([True, False, True]),
    "unsigned": np.array([1, 2, 2**64 - 1], np.uint64),
    "strided": np.arange(12.0)[::4],
    "reversed": np.arange(3.0)[::-1],
    "masked": np.ma.array([1.0, 2.0, 3.0]),
    "objects": np.array([1, Decimal(2), Floating()], object),
    "objects with None": np.array([1, None, 2], object),
    "column": np.ones((3, 1)),
    "matrix": np.ones((3, 3)),
    "no dimension": np.array(5.0),
    "dates": np.array([1, 2, 3], "M8[s]"),
    "durations": np.array([1, 2, 3], "m8[s]"),
    "texts": np.array(["1", "2", "3"]),
    "byte texts": np.array([b"1", b"2", b"3"]),
    "records": np.zeros(3, [("x", "f4")]),
    "list of lists": [[1], [2], [3]],
    "list of text": ["1", "2", "3"],
    "text": "123",
    "None": None,
    "a number": 5,
    "set": {1, 2, 3},
    "complex": [1j, 2, 3],
    "None within": [1, None, 3],
    "huge int": [10**400, 1, 2],
    "short": [1, 2],
    "long": [1, 2, 3, 4],
    "empty": [],
    "short array": np.ones(2),
    "empty dict": {},
}


@pytest.mark.filterwarnings("ignore:Conversion of an array with ndim")
@pytest.mark.parametrize("vector", VECTORS.values(), ids=VECTORS.keys())
def test_what_annoy_takes_for_a_vector_is_one_and_nothing_else(vector: Any) -> None:
    def stored(index: Any) -> list[float]:
        assert index.add_item(0, vector) is None
        return index.get_item_vector(0)

    assert_same_outcome(stored, lambda library: library(3, "euclidean"))
    assert_same_outcome(lambda index: index.get_nns_by_vector(vector, 3))


def test_a_generator_is_no_vector() -> None:
    assert_same_outcome(lambda index: index.get_nns_by_vector((x for x in (1, 2, 3)), 3))


WHOLE_NUMBERS = [0, 4, True, Counting(), np.int64(2), np.uint8(3), np.array(1)]
NO_WHOLE_NUMBERS = [1.0, "1", None, 1j, b"1", [1], np.float32(1.7), np.float64(1.0), Decimal(1), Fraction(1, 1), 2**70]
NO_ITEMS = [-1, 5, -(2**31), 2**31 - 1]


@pytest.mark.parametrize("i", [*WHOLE_NUMBERS, *NO_ITEMS, *(x for x in NO_WHOLE_NUMBERS if x != 2**70)], ids=repr)
def test_item_numbers_are_whole_and_in_range(i: Any) -> None:
    assert_same_outcome(lambda index: index.get_item_vector(i))
    assert_same_outcome(lambda index: index.get_distance(i, 1))
    assert_same_outcome(lambda index: index.get_distance(1, i))
    assert_same_outcome(lambda index: index.get_nns_by_item(i, 3))
    if not isinstance(i, int) or i < 2**20:
        assert_same_outcome(lambda index: index.add_item(i, [1, 2, 3]), lambda library: library(3, "dot"))


@pytest.mark.parametrize(
    "number", [0, 1, 3, 100, True, np.int16(2), 1.0, "1", None, np.float32(1), Decimal(1)], ids=repr
)
def test_n_and_search_k_are_whole_numbers(number: Any) -> None:
    assert_same_outcome(lambda index: index.get_nns_by_item(0, number, -2))
    assert_same_outcome(lambda index: index.get_nns_by_vector([1, 1, 1], number, -2))
    assert_same_outcome(lambda index: len(index.get_nns_by_item(0, 5, number)) > 0)
    assert_same_outcome(lambda index: index.build(number, 1) if number else None, lambda x: five(x, built=False))


@pytest.mark.parametrize("flag", [False, True, 0, 1, 2, np.int64(1), "yes"], ids=repr)
def test_flags_are_taken_by_their_truth(flag: Any, tmp_path: Path) -> None:
    assert_same_outcome(lambda index: index.get_nns_by_item(0, 3, -2, flag))
    assert_same_outcome(lambda index: index.get_nns_by_vector([1, 1, 1], 3, -2, include_distances=flag))
    assert_same_outcome(lambda index: index.save(str(tmp_path / "x"), flag))
    assert_same_outcome(lambda index: index.verbose(flag))


CALLS: dict[str, Callable[[Any], Any]] = {
    "add_item without a vector": lambda index: index.add_item(0),
    "add_item with too much": lambda index: index.add_item(0, [1, 2, 3], 4),
    "build without a number": lambda index: index.build(),
    "get_n_items of something": lambda index: index.get_n_items(1),
    "get_n_trees": lambda index: index.get_n_trees(),
    "get_n_items": lambda index: index.get_n_items(),
    "get_nns_by_item without n": lambda index: index.get_nns_by_item(0),
    "get_nns_by_vector without n": lambda index: index.get_nns_by_vector([1, 1, 1]),
    "an unknown keyword": lambda index: index.get_nns_by_item(0, 1, depth=3),
    "keywords in another order": lambda index: index.get_nns_by_item(include_distances=True, n=2, i=1, search_k=-2),
    "an argument twice": lambda index: index.get_nns_by_item(0, 1, n=2),
    "get_item_vector by name": lambda index: index.get_item_vector(i=0),
    "get_distance by name": lambda index: index.get_distance(i=0, j=1),
    "set_seed by name": lambda index: index.set_seed(seed=1),
    "verbose by name": lambda index: index.verbose(v=True),
    "set_seed": lambda index: index.set_seed(3),
    "set_seed below zero": lambda index: index.set_seed(-3),
    "set_seed of a float": lambda index: index.set_seed(1.5),
    "f": lambda index: index.f,
    "no such attribute": lambda index: hasattr(index, "search"),
    "all by budget": lambda index: index.get_nns_by_item(2, 5, -2, True),
    "nothing by budget": lambda index: index.get_nns_by_item(2, 5, 0, True),
    "none wanted": lambda index: index.get_nns_by_item(2, 0, -1, True),
    "more than there are": lambda index: index.get_nns_by_item(2, 2**31 - 1, -2),
    "the largest budget": lambda index: index.get_nns_by_item(2, 5, 2**31 - 1),
    "the least budget": lambda index: index.get_nns_by_item(2, 5, -(2**31)),
    "build again": lambda index: index.build(1, 1),
    "unbuild": lambda index: (index.unbuild(), index.get_n_trees(), index.unbuild()),
    "unload": lambda index: (index.unload(), index.get_n_items(), index.get_n_trees(), index.unload()),
    "unload, ask": lambda index: (index.unload(), index.get_nns_by_item(0, 1)),
    "unload, ask by vector": lambda index: (index.unload(), index.get_nns_by_vector([1, 2, 3], 1, -1, True)),
    "unload, add": lambda index: (index.unload(), index.add_item(1, [1, 2, 3]), index.get_n_items()),
    "unbuild, ask": lambda index: (index.unbuild(), index.get_nns_by_item(0, 3), index.get_distance(0, 4)),
    "unbuild, add": lambda index: (index.unbuild(), index.add_item(5, [9, 9, 9]), index.build(1), index.get_n_items()),
    "replace an item": lambda index: (index.unbuild(), index.add_item(0, [9, 9, 9]), index.get_item_vector(0)),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_calls_end_alike(call: Callable[[Any], Any]) -> None:
    assert_same_outcome(call)


FILE_NAMES = {
    "missing": "missing",
    "in a missing folder": "missing/x",
    "with a null": "a\0b",
    "not ASCII": "ñ 日本 é",
    "with spaces": " x ",
}


@pytest.mark.parametrize("name", FILE_NAMES.values(), ids=FILE_NAMES.keys())
def test_file_names_are_taken_and_refused_alike(tmp_path: Path, name: str) -> None:
    path = str(tmp_path) + "/" + name
    assert_same_outcome(lambda index: index.load(path), lambda library: library(3, "angular"))
    assert_same_outcome(lambda index: (index.save(path), index.load(path), index.get_n_items()))
    assert_same_outcome(lambda index: index.on_disk_build(path), lambda library: library(3, "angular"))


@pytest.mark.parametrize("name", [None, 5, b"bytes", ["x"]], ids=repr)
def test_what_is_no_file_name_is_a_type_error(name: Any) -> None:
    assert_same_outcome(lambda index: index.load(name), lambda library: library(3, "angular"))
    assert_same_outcome(lambda index: index.save(name))
    assert_same_outcome(lambda index: index.on_disk_build(name), lambda library: library(3, "angular"))


def test_an_index_that_was_loaded_or_saved_cannot_change(tmp_path: Path) -> None:
    path = str(tmp_path / "x")
    for ready in (
        lambda index: index.save(path),
        lambda index: (index.save(path), index.unload(), index.load(path)),
    ):
        for change in (
            lambda index: index.add_item(0, [1, 2, 3]),
            lambda index: index.build(1),
            lambda index: index.unbuild(),
        ):
            assert_same_outcome(lambda index, ready=ready, change=change: (ready(index), change(index)))


def test_saving_without_trees_is_an_os_error_and_makes_no_file(tmp_path: Path) -> None:
    assert_same_outcome(lambda index: index.save(str(tmp_path / "x")), lambda library: five(library, built=False))
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_no_forests_are_os_errors(tmp_path: Path) -> None:
    for name, content in {"empty": b"", "odd": b"x" * 29}.items():
        (tmp_path / name).write_bytes(content)
        assert_same_outcome(
            lambda index, name=name: index.load(str(tmp_path / name)), lambda library: library(3, "angular")
        )


@pytest.mark.parametrize("f", [1, 3, np.int64(2), True, "3", 3.0, None, 2**70], ids=repr)
@pytest.mark.parametrize("metric", [*ANNOYS_METRICS, "cosine", "Angular", "", "angular ", 5, b"angular"], ids=repr)
def test_constructors_take_and_refuse_alike(f: Any, metric: Any) -> None:
    if f == 2**70:  # OverflowError there
        with pytest.raises(TypeError):
            dask_annoy.AnnoyIndex(f, "angular")
        return
    assert_same_outcome(lambda index: index.f, lambda library: library(f, metric))
    assert_same_outcome(lambda index: index.f, lambda library: library(metric=metric, f=f))


def test_the_metric_left_out_is_angular_with_the_same_warning() -> None:
    warnings = []
    for library in LIBRARIES:
        with pytest.warns(FutureWarning) as caught:
            index = library(3)
        warnings.append([str(warning.message) for warning in caught])
        index.add_item(0, [1, 0, 0])
        index.add_item(1, [-5, 0, 0])
        assert index.get_distance(0, 1) == 2.0
    assert warnings[0] == warnings[1]


def test_bits_are_components_above_one_half() -> None:
    def bits(index: Any) -> list[float]:
        index.add_item(0, [0.5, 0.50001, -3, 9, 1e-9, float(np.nextafter(0.5, 1))])
        return index.get_item_vector(0)

    assert_same_outcome(bits, lambda library: library(6, "hamming"))


@given(
    metric=st.sampled_from(ANNOYS_METRICS),
    values=st.lists(st.integers(-3, 3), min_size=24, max_size=24),
    n=st.integers(0, 10),
)
def test_ties_of_whole_numbers_are_in_the_same_order(metric: str, values: list[int], n: int) -> None:
    """Sums of small integers are exact, so that nothing is left to rounding (angular has a root, but equal vectors)."""
    answers = []
    for library in LIBRARIES:
        index = library(2, metric)
        for i, vector in enumerate(pairs(values)):
            index.add_item(i, vector)
        index.build(3, 1)
        answers.append([index.get_nns_by_item(i, n, -2, True) for i in range(12)])
    for theirs, ours in zip(*answers, strict=True):
        if metric != "angular":
            assert ours[0] == theirs[0]
        np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-6, atol=1e-3 if metric == "angular" else 0)


def pairs(values: list[int]) -> list[tuple[int, int]]:
    return list(zip(values[::2], values[1::2], strict=True))

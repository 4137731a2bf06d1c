"""AnnoyIndex: items one by one, in arrays, and as bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dask_annoy import AnnoyIndex

from .conftest import METRICS, built, vectors_of

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


@pytest.mark.parametrize("vector", [[1, 2], [1, 2, 3, 4], [], np.ones(2), np.ones((2, 3)), {}])
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


@pytest.mark.parametrize(
    "vector",
    [
        np.ones((3, 3)),
        np.array(["1", "2", "3"]),
        np.array([1, None, 2], object),
        np.array([1, 2, 3], "M8[s]"),
        np.zeros(3, [("x", "f4")]),
    ],
    ids=["matrix", "texts", "None within", "dates", "records"],
)
def test_an_array_of_what_is_no_number_is_a_type_error_as_in_annoy(vector: Any) -> None:
    index = AnnoyIndex(3, "angular")
    with pytest.raises(TypeError):
        index.add_item(0, vector)
    assert index.get_n_items() == 0


def test_a_mapping_from_positions_is_a_vector_as_in_annoy() -> None:
    index = AnnoyIndex(3, "euclidean")
    index.add_item(0, {2: 3.0, 0: 1.0, 1: 2.0})
    assert index.get_item_vector(0) == [1.0, 2.0, 3.0]
    with pytest.raises(KeyError):
        index.add_item(0, {"a": 1.0, "b": 2.0, "c": 3.0})


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


@pytest.mark.parametrize("number", [2**63, 2**63 + 4, 2**64 - 1])
def test_numbers_beyond_63_bits_are_named_and_never_wrapped_round(number: int) -> None:
    index = built()
    one, many = np.uint64(number), np.array([3, number], np.uint64)
    for call in (
        lambda: index.get_nns_by_item(one, 1),
        lambda: index.get_nns_within_by_item(one, 1.0),
        lambda: index.get_item_vector(one),
        lambda: index.get_distance(1, one),
        lambda: index.get_distance(number, 1),
        lambda: AnnoyIndex(4, "angular").add_item(one, [1, 2, 3, 4]),
        lambda: AnnoyIndex(4, "angular").add_items(vectors_of(2), many),
        lambda: index.get_nns_by_items(many, 1),
        lambda: index.get_nns_by_item(0, 1, include=many),
        lambda: index.get_nns_by_vectors(vectors_of(2), 1, exclude=many),
        lambda: index.get_item_vectors(many),
        lambda: index.budgets_to_find(vectors_of(1), many[None]),
    ):
        with pytest.raises(IndexError, match=str(number)):
            call()
    assert one not in index


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

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dask_annoy.errors import InvalidVectorsError
from dask_annoy.vectors import encode_rows

DTYPES = ["?", "i1", "u1", "<i4", ">i8", "<u8", "<f2", ">f4", "<f8"]


def encode(rows, metric="euclidean", width=None, packed=False):
    width = rows.shape[1] if width is None else width
    return encode_rows(rows, source="x.npy", first_row=1000, metric=metric, width=width, packed=packed)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ["C", "F"])
def test_numbers_become_float32(dtype, order):
    rows = np.array([[0, 1, 2], [3, 4, 100]]).astype(dtype, order=order)
    out = encode(rows)
    assert out.dtype == np.dtype("=f4")
    assert out.flags.c_contiguous
    np.testing.assert_array_equal(out, rows.astype(np.float32))


def test_float32_rows_are_not_copied():
    rows = np.zeros((3, 4), np.float32)
    assert np.shares_memory(encode(rows), rows)


@settings(max_examples=60, deadline=None)
@given(
    rows=hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2), elements=st.floats()),
)
def test_floats_are_rounded_or_the_first_bad_one_is_named(rows):
    with np.errstate(over="ignore"):
        rounded = rows.astype(np.float32)
    bad = np.argwhere(~np.isfinite(rounded))
    if len(bad) == 0:
        np.testing.assert_array_equal(encode(rows), rounded)
        return
    row, column = bad[0]
    with pytest.raises(InvalidVectorsError, match=rf"x\.npy: row {1000 + row:,}, column {column} is"):
        encode(rows)


@pytest.mark.parametrize(
    ("value", "words"),
    [(np.nan, "is nan"), (np.inf, "is inf"), (-np.inf, "is -inf"), (1e39, "is 1e.39, which does not fit float32")],
)
def test_a_value_without_a_distance_is_named_far_down_a_large_block(value, words):
    rows = np.zeros((50_000, 8))
    rows[43_210, 5] = value
    rows[43_211, 1] = np.nan
    with pytest.raises(InvalidVectorsError, match=f"row 44,210, column 5 {words}"):
        encode(rows)


def test_the_largest_float32_fits():
    rows = np.array([[np.finfo(np.float32).max, np.finfo(np.float32).min]], np.float64)
    np.testing.assert_array_equal(encode(rows), rows)


@pytest.mark.parametrize("metric", ["angular", "hamming"])
def test_another_width_is_refused(metric):
    with pytest.raises(InvalidVectorsError, match="expected 4 columns, found 3 columns in row 1,000"):
        encode(np.zeros((2, 3), np.float32), metric, width=4)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.sampled_from(DTYPES).flatmap(
        lambda dtype: hnp.arrays(
            dtype,
            hnp.array_shapes(min_dims=2, max_dims=2, max_side=20),
            elements=None if np.dtype(dtype).kind != "f" else {"allow_nan": False},
        )
    )
)
def test_hamming_bits_are_one_where_a_float32_is_above_a_half(rows):
    with np.errstate(over="ignore"):
        expected = np.packbits(rows.astype(np.float32) > 0.5, axis=1)
    out = encode(rows, "hamming")
    assert out.dtype == np.uint8
    np.testing.assert_array_equal(out, expected)


def test_hamming_compares_after_rounding_as_annoy_does():
    just_above = 0.5 + 2.0**-25
    rows = np.array([[0.5, np.nextafter(0.5, 1), just_above, np.nextafter(just_above, 1), 1, -1, 0, 0.4]])
    assert encode(rows, "hamming").tolist() == [[0b00011000]]


def test_nan_is_neither_0_nor_1():
    rows = np.zeros((3, 9), np.float32)
    rows[2, 8] = np.nan
    with pytest.raises(InvalidVectorsError, match="row 1,002, column 8 is nan"):
        encode(rows, "hamming")


def test_packed_bits_are_what_packing_gives():
    rng = np.random.default_rng(0)
    for width in (1, 7, 8, 9, 64, 65):
        bits = rng.random((20, width)) > 0.5
        packed = np.packbits(bits, axis=1)
        np.testing.assert_array_equal(encode(packed, "hamming", width, packed=True), encode(bits, "hamming"))


def test_bits_beyond_the_width_are_refused():
    rows = np.zeros((5, 2), np.uint8)
    rows[3, 1] = 0b00100000
    assert encode(rows, "hamming", 11, packed=True) is not None
    with pytest.raises(InvalidVectorsError, match="row 1,003 has bits set beyond the width of 10"):
        encode(rows, "hamming", 10, packed=True)


def test_packed_rows_must_be_bytes_of_the_right_number():
    with pytest.raises(InvalidVectorsError, match="expected 2 bytes of packed bits"):
        encode(np.zeros((2, 3), np.uint8), "hamming", 12, packed=True)
    with pytest.raises(InvalidVectorsError, match="must be uint8, these rows are int64"):
        encode(np.zeros((2, 2), np.int64), "hamming", 12, packed=True)


def test_packed_bits_are_for_hamming_only():
    with pytest.raises(InvalidVectorsError, match="for the metric 'hamming', not for 'angular'"):
        encode(np.zeros((2, 2), np.uint8), "angular", 2, packed=True)


@pytest.mark.parametrize("metric", ["angular", "hamming"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_no_rows_encode_to_no_rows(metric, dtype):
    assert encode(np.zeros((0, 9), dtype), metric).shape == (0, 2 if metric == "hamming" else 9)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("metric", ["angular", "hamming"])
def test_encoding_allocates_at_most_about_one_block(dtype, metric, peak_memory):
    rows = np.ones((20_000, 64), dtype)
    block = rows.size * 4 if metric == "angular" else rows.nbytes
    with peak_memory() as peak:
        encode(rows, metric)
        assert peak() < block * 1.15 + 200_000

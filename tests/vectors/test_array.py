from __future__ import annotations

import numpy as np
import pytest

from dask_annoy.errors import InvalidVectorsError
from dask_annoy.vectors import ArraySource


def test_blocks_are_views_that_cannot_be_written():
    table = np.zeros((10, 3))
    ((_, rows),) = ArraySource(table).blocks(max_bytes=10_000)
    assert np.shares_memory(rows, table)
    assert not rows.flags.writeable
    assert table.flags.writeable


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros(3), r"found \(3,\)"),
        (np.zeros((1, 2, 3)), "reshape"),
        (np.zeros((4, 0)), "without columns"),
        ([], r"found \(0,\)"),
        ([[1.0], [1.0, 2.0]], "no table of numbers"),
        (np.array([[None]]), "objects"),
        ([["a"]], "strings"),
        (np.array([["a"]], np.dtypes.StringDType()), "strings"),
        (np.zeros((2, 2), complex), "complex"),
        (np.zeros((2, 2), "M8[s]"), "dates"),
        (np.zeros((2, 2), np.longdouble), "too wide"),
        (np.ma.masked_equal([[1, 2], [3, 2], [0, 5]], 3), "row 1 has masked"),
    ],
)
def test_what_is_no_table_of_numbers_is_refused(array, words):
    with pytest.raises(InvalidVectorsError, match=words):
        ArraySource(array)


def test_the_identity_depends_on_values_type_and_shape_but_not_on_memory_order():
    table = np.arange(12, dtype=np.int32).reshape(3, 4)
    same = ArraySource(np.asfortranarray(table))
    assert same.identity() == ArraySource(table).identity()
    others = [table + 1, table.view(np.float32), table.reshape(4, 3), table[:2]]
    assert all(ArraySource(other).identity() != same.identity() for other in others)

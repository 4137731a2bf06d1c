from __future__ import annotations

import numpy as np
import pytest

from dask_annoy.errors import InvalidVectorsError
from dask_annoy.vectors import ArraySource, ConcatSource


def test_parts_must_agree():
    head = ArraySource(np.zeros((2, 3), "f4"), name="a")
    for other in (np.zeros((2, 4), "f4"), np.zeros((2, 3), "f8")):
        with pytest.raises(InvalidVectorsError, match=r"b has rows of .* but a has rows of 3 float32"):
            ConcatSource((head, ArraySource(other, name="b")))


def test_at_least_one_part_is_needed():
    with pytest.raises(InvalidVectorsError, match="at least one"):
        ConcatSource(())


def test_no_block_spans_two_parts():
    source = ConcatSource((ArraySource(np.zeros((2, 3))), ArraySource(np.ones((5, 3)))))
    assert [(first, len(rows)) for first, rows in source.blocks(1, max_bytes=10_000)] == [(1, 1), (2, 5)]

"""Vectors come out as they went in: arrays, dataframes, sparse matrices, one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from dask_annoy import Index

Vectors = NDArray[np.float32]


@pytest.fixture
def index(vectors: Vectors) -> Index:
    """Items at even numbers; not built."""
    index = Index(metric="l2")
    index.add_items(vectors, np.arange(500) * 2)
    return index


@given(
    arrays(np.float32, st.tuples(st.integers(1, 20), st.integers(1, 5)), elements=st.floats(-1e6, 1e6, width=32)),
    st.randoms(use_true_random=False),
)
def test_exports_give_back_what_was_added(rows: np.ndarray, random: Any) -> None:
    ids = np.array(sorted(random.sample(range(100), len(rows))))
    index = Index(metric="l2")
    index.add_items(rows, ids)
    for _ in range(2):
        vectors, numbers = index.to_numpy(return_ids=True)
        np.testing.assert_array_equal(vectors, rows)
        np.testing.assert_array_equal(numbers, ids)
        np.testing.assert_array_equal(index.to_scipy_csr().toarray(), rows)
        assert [number for number, _ in index.iter_item_vectors()] == ids.tolist()
        frame = index.to_pandas()
        np.testing.assert_array_equal(frame.to_numpy(), rows)
        assert frame.index.tolist() == ids.tolist()
        index.build(2)
        if index.get_n_trees():
            index.unbuild()
            index.build(1)
            index.unbuild()


@pytest.mark.parametrize("built", [False, True])
def test_a_part_is_chosen_by_numbers_or_by_range(index: Index, vectors: Vectors, built: bool) -> None:
    if built:
        index.build(2)
    np.testing.assert_array_equal(index.to_numpy([8, 0, 8]), vectors[[4, 0, 4]])
    part, ids = index.to_numpy(start=3, stop=9, return_ids=True)
    assert ids.tolist() == [4, 6, 8]
    np.testing.assert_array_equal(part, vectors[2:5])
    assert index.to_numpy(dtype=np.float64).dtype == np.float64
    assert index.to_numpy(dtype=np.float16, start=0, stop=1).dtype == np.float16
    assert index.to_numpy(start=2000).shape == (0, 12)
    with pytest.raises(IndexError):
        index.to_numpy([999])
    with pytest.raises(ValueError, match="integers"):
        index.to_numpy([0.5])


def test_vectors_are_iterated_over_in_blocks_without_keeping_the_index_from_changing(vectors: Vectors) -> None:
    index = Index()
    index.add_items(np.tile(vectors, (5, 1)))
    seen = 0
    for number, vector in index.iter_item_vectors():
        np.testing.assert_array_equal(vector, vectors[number % 500])
        if number == 1500:
            index.add_item(2500, vectors[0])
        seen += 1
    assert seen == 2500
    assert all(
        vector.dtype == np.float64 for vector in index.iter_item_vectors([3, 4], with_ids=False, dtype=np.float64)
    )


def test_numbers_go_where_a_dataframe_is_to_have_them(index: Index, vectors: Vectors) -> None:
    ids = list(index)
    assert index.to_pandas(id_name="item").index.name == "item"
    both = index.to_pandas(id_location="both")
    assert both.index.tolist() == both["id"].tolist() == ids
    column = index.to_pandas(id_location="column", id_name="n")
    assert (column["n"].tolist(), column.index.tolist()) == (ids, list(range(500)))
    none = index.to_pandas(id_location="none")
    assert list(none.columns) == [f"feature_{d}" for d in range(12)]
    assert list(index.to_pandas(columns=list("abcdefghijkl")).columns) == list("abcdefghijkl")
    with pytest.raises(ValueError, match="1 columns were named, but vectors have 12"):
        index.to_pandas(columns=["a"])
    where: Any = "row"
    with pytest.raises(ValueError, match="id_location"):
        index.to_pandas(id_location=where)


def test_a_dataframe_survives_the_way_through_an_index(index: Index) -> None:
    frame = index.to_pandas([0, 2, 4], columns=list("abcdefghijkl"))
    again = Index().fit(frame).to_pandas()
    np.testing.assert_array_equal(again.to_numpy(), frame.to_numpy())
    assert list(again.columns) == list(frame.columns)


def test_bits_come_out_as_zeros_and_ones(vectors: Vectors) -> None:
    index = Index(metric="hamming").fit(vectors)
    np.testing.assert_array_equal(index.to_numpy(), vectors > 0.5)
    assert index.to_scipy_csr().nnz == (vectors > 0.5).sum()


def test_an_index_of_no_width_exports_nothing() -> None:
    assert Index().to_numpy().shape == (0, 0)
    assert list(Index().iter_item_vectors()) == []
    with pytest.raises(RuntimeError, match="no width yet"):
        Index().to_numpy([3])

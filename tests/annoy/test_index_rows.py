"""Rows come as arrays, dataframes, sparse matrices and dictionaries, with values missing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dask_annoy import Index
from dask_annoy.errors import InvalidIdsError, InvalidVectorsError

FLOATS = st.floats(-100, 100, width=32)


@given(arrays(np.float32, st.tuples(st.integers(1, 8), st.integers(1, 5)), elements=FLOATS))
def test_all_kinds_of_rows_give_the_same_index(rows: np.ndarray) -> None:
    names = [f"x{d}" for d in range(rows.shape[1])]
    kinds: list[Any] = [
        rows,
        rows.astype(np.float64),
        rows.tolist(),
        pd.DataFrame(rows, columns=names),
        scipy.sparse.csr_matrix(rows),
        [dict(zip(names, row, strict=True)) for row in rows.tolist()],
        [dict(enumerate(row)) for row in rows.tolist()],
        rows.astype(object),
    ]
    for kind in kinds:
        np.testing.assert_array_equal(Index(metric="l2").fit(kind).to_numpy(), rows)


def test_missing_values_are_filled_in_or_named() -> None:
    nan = float("nan")
    kinds: list[Any] = [[[1, None], [None, 4]], [[1, nan], [nan, 4]], [{"a": 1}, {"b": 4, "a": None}], [{0: 1}, {1: 4}]]
    for kind in kinds:
        np.testing.assert_array_equal(Index(metric="l2").fit(kind, missing_value=-7).to_numpy(), [[1, -7], [-7, 4]])
    with pytest.raises(InvalidVectorsError, match="row 0, column 1 of X is None"):
        Index().fit(kinds[0])
    with pytest.raises(ValueError, match="row 0, column 1 is NaN"):
        Index().fit(kinds[1])
    with pytest.raises(InvalidVectorsError, match="row 0 of X has no value for 'b'"):
        Index().fit(kinds[2])
    with pytest.raises(ValueError, match="missing_value must be a finite number"):
        Index().fit(kinds[0], missing_value=nan)


def test_missing_values_are_filled_in_for_queries_too() -> None:
    index = Index(metric="l2").fit([{"a": 0, "b": 5}, {"a": 9, "b": 9}])
    query = [{"b": 5}]
    assert index.transform(query, n_neighbors=1, missing_value=0).tolist() == [[0]]
    assert index.kneighbors(query, 1, missing_value=0)[0].tolist() == [[0]]
    with pytest.raises(InvalidVectorsError, match="'a'"):
        index.kneighbors(query, 1)
    with pytest.raises(InvalidVectorsError, match="no feature 'c'"):
        index.kneighbors([{"a": 1, "b": 1, "c": 1}], 1)


def test_names_of_features_are_kept_and_asked_for() -> None:
    frame = pd.DataFrame({"z": [1.0, 2], "a": [3.0, 4]})
    index = Index().fit(frame)
    assert index.feature_names_in_.tolist() == ["z", "a"]
    np.testing.assert_array_equal(index.kneighbors([{"a": 3, "z": 1}], 1)[1], [[0]])
    with pytest.raises(InvalidVectorsError, match="the columns are 'a', 'z', but the index holds 'z', 'a'"):
        index.kneighbors(frame[["a", "z"]])
    assert Index().fit([{"q": 1, "b": 2}]).feature_names_in_.tolist() == ["b", "q"]
    assert Index().fit([[1, 2]], feature_names=["u", "v"]).feature_names_in_.tolist() == ["u", "v"]
    assert Index().fit([{"q": 1, "b": 2}], feature_names=["q", "b"]).to_numpy().tolist() == [[1, 2]]
    filled = Index()
    filled.add_items(frame)
    assert filled.feature_names_in_.tolist() == ["z", "a"]
    for names in (["a"], ["a", "a"], ["a", 1]):
        with pytest.raises(ValueError, match="2 different strings"):
            Index().fit([[1, 2]], feature_names=names)
    assert not hasattr(Index().fit([[1, 2]]), "feature_names_in_")
    assert not hasattr(index.fit([[1, 2]]), "feature_names_in_")  # it begins anew


def test_what_is_no_table_of_numbers_is_refused() -> None:
    wrong: list[Any] = [[1, 2], 3, np.zeros((2, 2, 2)), [["a", "b"]], [{"a": 1, 0: 2}], [[object(), 1]]]
    for rows in wrong:
        with pytest.raises(ValueError):
            Index().fit(rows)
    with pytest.raises(InvalidVectorsError, match=r"pass \[vector\]"):
        Index().fit([1, 2])
    with pytest.raises(ValueError, match=r"shape \(n, 2\)"):
        Index(2).fit([[1, 2, 3]])


def test_sparse_rows_are_made_dense_only_if_that_is_said() -> None:
    sparse = scipy.sparse.csr_array(np.eye(3))
    with pytest.raises(TypeError, match="accept_sparse='toarray'"):
        Index().add_items(sparse)
    assert Index().add_items(sparse, accept_sparse="toarray").tolist() == [0, 1, 2]


def test_added_items_get_the_numbers_that_were_asked_for() -> None:
    index = Index()
    assert index.add_items([[1, 1], [2, 2]], start_id=5).tolist() == [5, 6]
    assert index.add_items([[3, 3]]).tolist() == [7]
    assert index.add_items([[4, 4]], [1]).tolist() == [1]
    assert list(index) == [1, 5, 6, 7]
    with pytest.raises(InvalidIdsError, match="repeated"):
        index.add_items([[1, 1], [2, 2]], [3, 3])
    assert index.add_items([[1, 1], [2, 2]], [3, 3], check_unique_ids=False).tolist() == [3, 3]
    assert index.get_item_vector(3) == [2, 2]
    with pytest.raises(InvalidIdsError, match="integers"):
        index.add_items([[1, 1]], [0.5])
    with pytest.raises(ValueError, match="same thing twice"):
        index.add_items([[1, 1]], [0], start_id=0)
    with pytest.raises(ValueError, match="1 ids were given for 2 vectors"):
        index.add_items([[1, 1], [2, 2]], [8])


def test_packed_rows_need_a_width() -> None:
    bits = np.random.default_rng(0).integers(0, 2, (4, 10))
    index = Index(10, "hamming")
    index.add_items(np.packbits(bits, axis=1), packed=True)
    np.testing.assert_array_equal(index.to_numpy(), bits)
    with pytest.raises(ValueError, match="give f"):
        Index(metric="hamming").add_items(np.packbits(bits, axis=1), packed=True)

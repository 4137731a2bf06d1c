from __future__ import annotations

import json
import pickle

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dask_annoy.errors import InvalidIdsError
from dask_annoy.vectors import ArrayIds, ConcatIds, NpyIds, ParquetIds, RowNumberIds

ODD = ["", "a\0", "\0", "ü", "😀", " x ", "NaN", "1"]


def test_row_numbers_are_their_own_ids():
    ids = RowNumberIds(10)
    assert ids.read(3, 6).tolist() == [3, 4, 5]
    assert ids.read().dtype == np.int64


@pytest.mark.parametrize("dtype", ["i1", "u1", ">i4", "<u8", ">u8", "i8"])
def test_all_integers_that_fit_become_int64(dtype):
    ids = ArrayIds(np.array([5, 1, 100], dtype))
    assert (ids.id_type, ids.n_rows) == ("int64", 3)
    assert ids.read(1).tolist() == [1, 100]
    assert ids.read().dtype == np.dtype("=i8")


def test_an_id_that_does_not_fit_int64_is_named():
    for ids in (np.array([1, 2**63 - 1, 2**63], np.uint64), [1, 2, 2**63], [1, 2, -(2**63) - 1]):
        with pytest.raises(InvalidIdsError, match=r"row 2 is -?9223372036854775"):
            ArrayIds(ids)


@pytest.mark.parametrize(
    "make",
    [list, tuple, lambda v: np.array(v, object), lambda v: np.array(v, np.dtypes.StringDType()), pd.Series],
    ids=["list", "tuple", "objects", "StringDType", "pandas"],
)
def test_strings_come_back_exactly_as_given(make):
    ids = ArrayIds(make(ODD))
    assert ids.id_type == "string"
    assert ids.read().tolist() == ODD
    assert ids.read().dtype == object
    assert all(type(text) is str for text in ids.read())


def test_fixed_width_strings_and_numpy_strings_become_str():
    assert ArrayIds(np.array(["ab", ""])).read().tolist() == ["ab", ""]
    assert type(ArrayIds([np.str_("x")]).read()[0]) is str


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8")), min_size=1))
def test_any_text_with_utf8_is_an_id(texts):
    assert ArrayIds(texts).read().tolist() == texts


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        ([1, "a"], "row 1 is 'a', but row 0 is 1"),
        (["a", None], "row 1 is None"),
        ([1, 2, 3.0], "row 2 is 3.0"),
        ([1, True], "row 1 is True"),
        ([b"x"], "row 0 is b'x'"),
        ([[1], [2]], r"row 0 is \[1\]"),
        (np.array([1.5]), "float64; row 0 is"),
        (np.array([True]), "bool"),
        (np.array([[1]]), r"shape \(1, 1\)"),
        (pd.Series([1, None], dtype="Int64"), "float64|row 1 is"),
        (np.ma.masked_equal([1, 2], 2), "row 1 is masked"),
        (np.array(["a", None], np.dtypes.StringDType(na_object=None)), "row 1 is None"),
    ],
)
def test_the_first_position_that_is_no_id_is_named(ids, words):
    with pytest.raises(InvalidIdsError, match=words):
        ArrayIds(ids)


@pytest.mark.parametrize("make", [list, np.array, lambda v: np.array(v, object)])
def test_a_lone_surrogate_is_refused_since_it_has_no_utf8(make):
    with pytest.raises(InvalidIdsError, match=r"row 1 is 'x\\ud83d'"):
        ArrayIds(make(["ok", "x\ud83d", "\ude00"]))


def test_ranges_and_no_ids_are_ids():
    assert ArrayIds(range(5, 1, -2)).read().tolist() == [5, 3]
    assert ArrayIds([]).n_rows == 0


@pytest.mark.parametrize("ids", [[3, 1, 2], ["c", "a\0", "😀"]])
def test_the_identity_is_that_of_the_ids_and_not_of_their_container(ids):
    source = ArrayIds(ids)
    assert source.identity() == ArrayIds(np.array(ids, object)).identity()
    assert source.identity() != ArrayIds(ids[::-1]).identity()
    assert pickle.loads(pickle.dumps(source)).identity() == source.identity()
    assert json.loads(json.dumps(source.identity())) == source.identity()


def test_the_identity_tells_where_one_string_ends():
    assert ArrayIds(["ab", "c"]).identity() != ArrayIds(["a", "bc"]).identity()


@pytest.mark.parametrize(
    "array", [np.arange(50, dtype=">i4"), np.array([f"id{i}" for i in range(50)]), np.arange(50, dtype="u8")]
)
def test_ids_are_read_from_npy_files(tmp_path, array):
    np.save(tmp_path / "ids.npy", array)
    ids = pickle.loads(pickle.dumps(NpyIds(tmp_path / "ids.npy")))
    assert ids.n_rows == 50
    assert ids.read(10, 13).tolist() == array[10:13].tolist()
    assert ids.read(4, 4).tolist() == []
    assert ids.read().dtype == (object if array.dtype.kind == "U" else np.int64)


def test_an_npy_id_that_does_not_fit_is_named_by_its_row(tmp_path):
    np.save(tmp_path / "ids.npy", np.array([1, 2, 2**63], np.uint64))
    with pytest.raises(InvalidIdsError, match=r"ids\.npy: row 2 is 9223372036854775808"):
        NpyIds(tmp_path / "ids.npy").read(1)


@pytest.mark.parametrize("array", [np.zeros(3), np.zeros((2, 2), int), np.array([b"x"])])
def test_npy_files_of_something_else_are_refused(tmp_path, array):
    np.save(tmp_path / "ids.npy", array)
    with pytest.raises(InvalidIdsError, match="1-D array of integers or strings"):
        NpyIds(tmp_path / "ids.npy")


def test_a_cut_npy_file_of_ids_is_an_error_of_ids(tmp_path):
    path = tmp_path / "ids.npy"
    np.save(path, np.arange(9))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InvalidIdsError, match="is cut"):
        NpyIds(path)


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
)
def test_strings_of_parquet_come_back_exactly(tmp_path, kind):
    column = pa.array(ODD).cast(kind) if kind != pa.string_view() else pa.array(ODD, kind)
    pq.write_table(pa.table({"id": column}), tmp_path / "x.parquet", row_group_size=3)
    ids = pickle.loads(pickle.dumps(ParquetIds(tmp_path / "x.parquet", "id")))
    assert ids.read().tolist() == ODD
    assert ids.read(2, 5).tolist() == ODD[2:5]


def test_integers_of_parquet_are_read_over_files(tmp_path):
    for number in range(3):
        pq.write_table(pa.table({"id": pa.array([number, 10], pa.uint32())}), tmp_path / f"{number}.parquet")
    ids = ParquetIds(tmp_path, "id")
    assert ids.read(1, 5).tolist() == [10, 1, 10, 2]
    assert ids.read().dtype == np.int64


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (pa.array([1, None]), "row 3 of column 'id' is null"),
        (pa.array([1, 2**63], pa.uint64()), "row 3 is 9223372036854775808"),
    ],
)
def test_a_bad_id_of_parquet_is_named_by_its_row(tmp_path, column, words):
    pq.write_table(pa.table({"id": pa.array([1, 2], column.type)}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"id": column}), tmp_path / "b.parquet")
    with pytest.raises(InvalidIdsError, match=words):
        ParquetIds(tmp_path, "id").read()


def test_columns_of_something_else_are_refused(tmp_path):
    pq.write_table(pa.table({"f": [1.5]}), tmp_path / "x.parquet")
    with pytest.raises(InvalidIdsError, match="holds double; ids must be"):
        ParquetIds(tmp_path, "f")
    with pytest.raises(InvalidIdsError, match="no column 'id'; its columns are f"):
        ParquetIds(tmp_path, "id")


def test_ids_one_after_another(tmp_path):
    ids = ConcatIds((ArrayIds([7, 8]), RowNumberIds(3), ArrayIds([]), ArrayIds([9])))
    assert ids.read().tolist() == [7, 8, 0, 1, 2, 9]
    assert ids.read(1, 4).tolist() == [8, 0, 1]
    assert ids.identity() != ConcatIds((ArrayIds([7]), RowNumberIds(3))).identity()
    with pytest.raises(InvalidIdsError, match=r"string, but .* int64"):
        ConcatIds((ArrayIds([7]), ArrayIds(["a"])))


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (2, 1), (0, 11)])
def test_a_range_outside_the_ids_is_refused(start, stop):
    with pytest.raises(ValueError, match="there are 10"):
        RowNumberIds(10).read(start, stop)

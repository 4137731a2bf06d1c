from __future__ import annotations

import numpy as np
import pytest

from dask_annoy.errors import InvalidVectorsError
from dask_annoy.vectors import BinSource


def write(path, table, n_rows=None):
    header = np.array([len(table) if n_rows is None else n_rows, table.shape[1]], "<u4")
    path.write_bytes(header.tobytes() + table.tobytes())
    return path


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("x.fbin", "<f4"),
        ("x.u8bin", "u1"),
        ("x.i8bin", "i1"),
        ("x.ibin", "<i4"),
        ("base.1B.u8bin.crop_nb_10000000", "u1"),
    ],
)
def test_the_suffix_says_the_type(tmp_path, name, dtype):
    table = np.arange(12).reshape(3, 4).astype(dtype)
    source = BinSource(write(tmp_path / name, table))
    assert source.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(source.take(np.arange(3)), table)


def test_a_cut_file_is_refused_with_both_sizes(tmp_path):
    path = write(tmp_path / "x.fbin", np.zeros((3, 4), np.float32), n_rows=5)
    with pytest.raises(InvalidVectorsError, match=r"x\.fbin is cut: .* need 88 bytes, the file has 56"):
        BinSource(path)


def test_a_file_that_is_too_long_is_refused_with_both_sizes(tmp_path):
    path = write(tmp_path / "x.u8bin", np.zeros((3, 4), np.uint8), n_rows=2)
    with pytest.raises(InvalidVectorsError, match=r"too long.* need 16 bytes, the file has 20"):
        BinSource(path)


def test_a_file_without_a_whole_header_is_refused(tmp_path):
    (tmp_path / "x.fbin").write_bytes(b"1234567")
    with pytest.raises(InvalidVectorsError, match="has 7 bytes"):
        BinSource(tmp_path / "x.fbin")


def test_vectors_without_columns_are_refused(tmp_path):
    path = write(tmp_path / "x.fbin", np.zeros((3, 0), np.float32))
    with pytest.raises(InvalidVectorsError, match="without columns"):
        BinSource(path)


def test_another_suffix_is_refused(tmp_path):
    path = write(tmp_path / "x.bin", np.zeros((3, 2), np.float32))
    with pytest.raises(InvalidVectorsError, match=r"\.fbin, \.u8bin"):
        BinSource(path)

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.failure import BenchmarkError
from benchmarks.vector_files import read_hdf5, read_vectors


def write_binary(path: Path, rows: np.ndarray) -> None:
    path.write_bytes(np.array(rows.shape, "<u4").tobytes() + rows.tobytes())


@pytest.mark.parametrize(("suffix", "kind"), [(".fbin", np.float32), (".u8bin", np.uint8), (".i8bin", np.int8)])
def test_binary_files_give_their_rows(tmp_path: Path, suffix: str, kind: type) -> None:
    rows = np.arange(12).reshape(4, 3).astype(kind)
    write_binary(tmp_path / f"x{suffix}", rows)
    read = read_vectors(tmp_path / f"x{suffix}")
    assert read.dtype == kind
    np.testing.assert_array_equal(read, rows)


def test_npy_files_give_their_rows(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.eye(3, dtype=np.float16))
    np.testing.assert_array_equal(read_vectors(tmp_path / "x.npy"), np.eye(3))


@pytest.mark.parametrize("missing", [1, 20, 50])
def test_a_cut_binary_file_is_refused(tmp_path: Path, missing: int) -> None:
    path = tmp_path / "x.fbin"
    write_binary(path, np.ones((4, 3), np.float32))
    path.write_bytes(path.read_bytes()[:-missing])
    with pytest.raises(BenchmarkError, match=r"x\.fbin has \d+ bytes; its header says"):
        read_vectors(path)


def test_an_array_that_is_no_table_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones(3))
    with pytest.raises(BenchmarkError, match=r"shape \(3,\); expected two dimensions"):
        read_vectors(tmp_path / "x.npy")


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"ends in '\.csv'; vectors are read from \.npy"):
        read_vectors(tmp_path / "x.csv")


def hdf5(path: Path, items: np.ndarray, queries: np.ndarray, **attributes: str) -> Path:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file["train"], file["test"] = items, queries
        file.attrs.update(attributes)
    return path


@pytest.mark.parametrize(("distance", "metric"), [("angular", "angular"), ("euclidean", "euclidean"), ("ip", "dot")])
def test_hdf5_files_of_ann_benchmarks_give_items_queries_and_metric(tmp_path: Path, distance: str, metric: str) -> None:
    items, queries = np.eye(4, dtype=np.float32), np.ones((2, 4), np.float32)
    found = read_hdf5(hdf5(tmp_path / "x.hdf5", items, queries, distance=distance, type="dense"))
    assert found.metric == metric
    np.testing.assert_array_equal(found.items, items)
    np.testing.assert_array_equal(found.queries, queries)


def test_bits_of_hdf5_files_are_packed(tmp_path: Path) -> None:
    bits = np.random.default_rng(0).random((5, 16)) < 0.5
    found = read_hdf5(hdf5(tmp_path / "x.hdf5", bits, bits[:2], distance="hamming"))
    assert found.items.shape == (5, 2)
    np.testing.assert_array_equal(np.unpackbits(found.items, axis=1), bits)


def test_a_distance_that_is_not_measured_is_refused(tmp_path: Path) -> None:
    rows = np.ones((2, 4), np.float32)
    with pytest.raises(BenchmarkError, match="has the distance 'jaccard'; known are angular"):
        read_hdf5(hdf5(tmp_path / "x.hdf5", rows, rows, distance="jaccard"))


def test_sparse_rows_are_refused(tmp_path: Path) -> None:
    rows = np.ones((2, 4), np.float32)
    with pytest.raises(BenchmarkError, match="type 'sparse'; expected dense rows"):
        read_hdf5(hdf5(tmp_path / "x.hdf5", rows, rows, distance="angular", type="sparse"))

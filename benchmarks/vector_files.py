"""Vectors for measurements, from `.npy`, big-ann's `.fbin` family, and ann-benchmarks' HDF5."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.failure import BenchmarkError

BINARY_TYPES = {".fbin": np.float32, ".u8bin": np.uint8, ".i8bin": np.int8}
SUFFIXES = (".npy", *BINARY_TYPES)
HDF5_SUFFIXES = (".hdf5", ".h5")
HDF5_METRICS = {
    "angular": "angular",
    "cosine": "angular",
    "euclidean": "euclidean",
    "hamming": "hamming",
    "ip": "dot",
    "dot": "dot",
}


class Hdf5Set(NamedTuple):
    """A data set of ann-benchmarks: rows of floats, or for hamming of packed bits."""

    metric: str
    items: npt.NDArray[Any]
    queries: npt.NDArray[Any]


def read_vectors(path: Path) -> npt.NDArray[Any]:
    """The rows of a file, shape (n, width), in the file's own type; mapped, not read."""
    if path.suffix == ".npy":
        rows: npt.NDArray[Any] = np.load(path, mmap_mode="r")
    elif path.suffix in BINARY_TYPES:
        rows = _read_binary(path, np.dtype(BINARY_TYPES[path.suffix]))
    else:
        raise BenchmarkError(f"{path} ends in {path.suffix!r}; vectors are read from {', '.join(SUFFIXES)}")
    if rows.ndim != 2:
        raise BenchmarkError(f"{path} holds an array of shape {rows.shape}; expected two dimensions, a row a vector")
    return rows


def _read_binary(path: Path, kind: np.dtype[Any]) -> npt.NDArray[Any]:
    """Header of two uint32, rows and width, and the rows."""
    header = np.fromfile(path, "<u4", 2)
    n, width = (int(number) for number in header) if len(header) == 2 else (0, 0)
    expected = 8 + n * width * kind.itemsize
    if len(header) != 2 or path.stat().st_size != expected:
        raise BenchmarkError(
            f"{path} has {path.stat().st_size} bytes; its header says {n} rows of {width} {kind.name}, "
            f"which are {expected}: the file is cut, or of another type than its name says"
        )
    return np.memmap(path, kind.newbyteorder("<"), "r", offset=8, shape=(n, width))


def read_hdf5(path: Path) -> Hdf5Set:
    """What a file of ann-benchmarks asks for: `train` is the items, `test` the queries."""
    try:
        import h5py
    except ImportError as error:
        raise BenchmarkError(
            f"{path} is read with h5py, which is not installed: pip install 'dask-annoy[bench]'"
        ) from error
    with h5py.File(path) as file:
        distance = str(file.attrs.get("distance", "none"))
        if distance not in HDF5_METRICS:
            raise BenchmarkError(f"{path} has the distance {distance!r}; known are {', '.join(sorted(HDF5_METRICS))}")
        kind = str(file.attrs.get("type", "dense"))
        if kind != "dense" or not {"train", "test"} <= set(file):
            raise BenchmarkError(f"{path} holds {sorted(file)}, type {kind!r}; expected dense rows in train and test")
        metric = HDF5_METRICS[distance]
        items, queries = (np.asarray(file[name]) for name in ("train", "test"))
    if metric == "hamming":  # a value a bit
        items, queries = (np.packbits(rows != 0, axis=1) for rows in (items, queries))
    return Hdf5Set(metric, items, queries)

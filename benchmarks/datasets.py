"""Which data sets lie in a folder or file, and their preparation: cut or enlarged, with exact answers, in a cache.

Every process of a measurement maps the prepared arrays, so that all get the very same vectors.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import platformdirs

from benchmarks.failure import BenchmarkError
from benchmarks.truth import Truth, exact_truth
from benchmarks.vector_files import HDF5_SUFFIXES, SUFFIXES, read_hdf5, read_vectors

KNOWN_METRICS = {"text256": "angular", "sift128": "euclidean", "orb256": "hamming"}
METRICS = ("angular", "euclidean", "dot", "hamming")
NOISE = 0.1  # of a component's spread
FLIPPED = 0.02  # of bits
K = 10
FORMAT = 1  # counts up when what is prepared changes


@dataclass(frozen=True)
class Source:
    """A data set as found: one HDF5 file, or a file of items and one of queries."""

    name: str
    metric: str
    items: Path
    queries: Path | None


@dataclass(frozen=True)
class Prepared:
    """A folder of the cache with `items.npy`, `queries.npy` (float32; for hamming packed bits) and `truth.npz`."""

    name: str
    metric: str
    width: int
    n_items: int
    n_queries: int
    folder: Path

    def items(self) -> npt.NDArray[Any]:
        """In memory, as a user has them."""
        return np.asarray(np.load(self.folder / "items.npy"))

    def queries(self) -> npt.NDArray[Any]:
        """In memory."""
        return np.asarray(np.load(self.folder / "queries.npy"))

    def truth(self) -> Truth:
        """The exact answers."""
        return Truth.load(self.folder / "truth.npz")

    @property
    def raw_bytes(self) -> int:
        """Of the items alone."""
        return self.n_items * (self.width // 8 if self.metric == "hamming" else 4 * self.width)


def find_sets(places: Sequence[Path], names: Sequence[str] | None = None, metric: str | None = None) -> list[Source]:
    """The data sets in folders, or those that files name.

    A folder's sets are `NAME.npy` (or .fbin, .u8bin, .i8bin) with `NAME_queries` of the same ending, and HDF5 files.

    Parameters
    ----------
    names : sequence of str, optional
        Only these.
    metric : str, optional
        Instead of the set's own; needed for sets of no known name. The set's name then ends in it.
    """
    found = [source for place in places for source in _sets_at(place, metric)]
    if names is not None:
        missing = sorted(set(names) - {source.name for source in found})
        if missing:
            raise BenchmarkError(
                f"no data set named {', '.join(missing)} in {', '.join(map(str, places))}; "
                f"there are {', '.join(source.name for source in found) or 'none'}"
            )
        found = [source for source in found if source.name in names]
    if not found:
        raise BenchmarkError(
            f"no data set in {', '.join(map(str, places))}; "
            f"expected NAME{'|'.join(SUFFIXES)} with NAME_queries, or HDF5"
        )
    for source in found:
        if source.metric == "unknown":
            raise BenchmarkError(f"the metric of {source.items} is not known: say --metric {'|'.join(METRICS)}")
    return found


def _sets_at(place: Path, metric: str | None) -> list[Source]:
    if not place.exists():
        raise BenchmarkError(f"{place} does not exist; --data takes folders and files with vectors")
    found = []
    for path in sorted(place.iterdir()) if place.is_dir() else [place]:
        queries = path.with_name(f"{path.stem}_queries{path.suffix}")
        if path.suffix in HDF5_SUFFIXES:
            # ann-benchmarks ends its names in the metric
            found.append(Source(path.stem, metric or read_hdf5(path).metric, path, None))
        elif path.suffix in SUFFIXES and queries.exists():
            own = KNOWN_METRICS.get(path.stem, "unknown")
            name = path.stem if metric in (None, own) else f"{path.stem}-{metric}"
            found.append(Source(name, metric or own, path, queries))
        elif path == place:
            raise BenchmarkError(f"{path} has no queries: expected {queries.name} beside it")
    return found


def prepare(
    source: Source,
    *,
    n_items: int | None = None,
    at_most: int | None = None,
    n_queries: int | None = None,
    cache: Path | None = None,
) -> Prepared:
    """Bring a data set and its exact answers into the cache, or find them there.

    Parameters
    ----------
    n_items : int, optional
        Cut to the first rows; beyond what there is, the rows come again with small Gaussian noise (a tenth of each
        component's spread; for hamming two bits in a hundred are flipped).
    at_most : int, optional
        Cut to the first rows, if there are more.
    n_queries : int, optional
        Cut to the first.
    cache : Path, optional
        The user's cache folder by default.
    """
    root = cache or platformdirs.user_cache_path("dask-annoy") / "benchmarks"
    folder = root / f"{source.name}-{_key(source, n_items, at_most, n_queries)}"
    description = folder / "set.json"
    if description.exists():
        return Prepared(folder=folder, **json.loads(description.read_text()))
    items, queries = _rows(source)
    queries = queries[:n_queries]
    items = _resized(items[:at_most], n_items, source.metric)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "items.npy", items)
    np.save(folder / "queries.npy", queries)
    exact_truth(items, queries, source.metric, K).save(folder / "truth.npz")
    width = items.shape[1] * (8 if source.metric == "hamming" else 1)
    prepared = Prepared(source.name, source.metric, width, len(items), len(queries), folder)
    fields = {name: value for name, value in asdict(prepared).items() if name != "folder"}
    description.write_text(json.dumps(fields))  # last: with it the folder is complete
    return prepared


def _rows(source: Source) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    if source.queries is None:
        own, items, queries = read_hdf5(source.items)
        if (own == "hamming") != (source.metric == "hamming"):
            raise BenchmarkError(f"{source.name} holds vectors for {own}, which cannot be compared by {source.metric}")
    else:
        items, queries = read_vectors(source.items), read_vectors(source.queries)
    if items.shape[1] != queries.shape[1]:
        raise BenchmarkError(
            f"{source.name}: items have {items.shape[1]} columns, queries {queries.shape[1]}; expected as many"
        )
    if source.metric == "hamming":
        if items.dtype != np.uint8:
            raise BenchmarkError(f"{source.name}: hamming takes packed bits, uint8; the items are {items.dtype}")
        return np.ascontiguousarray(items), np.ascontiguousarray(queries)
    return np.ascontiguousarray(items, np.float32), np.ascontiguousarray(queries, np.float32)


def _resized(items: npt.NDArray[Any], n: int | None, metric: str) -> npt.NDArray[Any]:
    if n is None or n <= len(items):
        return items[:n]
    rng = np.random.default_rng(0)
    repeated = items[np.arange(n) % len(items)]
    added = repeated[len(items) :]  # a view
    if metric == "hamming":
        added ^= np.packbits(rng.random((len(added), 8 * items.shape[1]), np.float32) < FLIPPED, axis=1)
    else:
        added += rng.standard_normal(added.shape, np.float32) * (NOISE * items.std(axis=0))
    return repeated


def _key(source: Source, *numbers: int | None) -> str:
    files = [source.items] if source.queries is None else [source.items, source.queries]
    states = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    text = json.dumps([FORMAT, K, NOISE, FLIPPED, source.metric, numbers, states])
    return hashlib.sha256(text.encode()).hexdigest()[:12]

"""An `Index` travels by path or by content, compressed or not, with all that `fit` was told."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import Client
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dask_annoy import AnnoyIndex, Index
from dask_annoy.errors import CorruptIndexError

Vectors = NDArray[np.float32]
MODES = st.sampled_from(["auto", "disk", "byte"])
METRICS = st.sampled_from(["angular", "l2", "hamming", "dot"])
COMPRESSION = st.sampled_from([None, "zlib", "gzip"])


def through_pickle(index: Any) -> Any:
    return pickle.loads(pickle.dumps(index))


def assert_same(again: Index, index: Index, vectors: Vectors) -> None:
    assert type(again) is Index
    assert again.get_params() == index.get_params()
    assert (again.f, again.metric, list(again)) == (index.f, index.metric, list(index))
    assert again.to_bytes() == index.to_bytes()
    np.testing.assert_array_equal(again.transform(vectors), index.transform(vectors))
    assert (again.y is None) == (index.y is None)
    np.testing.assert_array_equal(again.y, index.y)  # type: ignore[arg-type]
    assert again._feature_names == index._feature_names


@given(
    MODES,
    COMPRESSION,
    st.booleans(),
    st.sampled_from(["angular", "l2", "hamming", "dot"]),
    st.none() | st.just(list("xyz")),
)
def test_an_index_comes_back_in_every_mode(
    tmp_path: Path, mode: Any, compression: Any, saved: bool, metric: str, names: list[str] | None
) -> None:
    rows = np.random.default_rng(3).normal(size=(60, 3)).astype(np.float32)
    index = Index(metric=metric, pickle_mode=mode, compress_mode=compression, seed=4, n_neighbors=2)
    index.fit(rows, np.arange(60) % 7, n_trees=2, feature_names=names, start_index=3)
    if saved or mode == "disk":
        index.save(tmp_path / "x.ann")
        index.y = np.arange(60)
    assert_same(through_pickle(index), index, rows)
    for copied in (copy.copy(index), copy.deepcopy(index)):
        assert_same(copied, index, rows)


def test_a_pickle_holds_the_path_or_the_content_as_the_mode_says(vectors: Vectors, tmp_path: Path) -> None:
    index = Index().fit(vectors)
    content = index.to_bytes()
    index.save(tmp_path / "somewhere.ann")
    sizes = {}
    for mode in ("auto", "disk", "byte"):
        pickled = pickle.dumps(index.set_params(pickle_mode=mode))
        assert (b"somewhere.ann" in pickled) == (mode != "byte")
        assert (content in pickled) == (mode == "byte")
        sizes[mode] = len(pickled)
    assert sizes["disk"] < 2000 < len(content) < sizes["byte"]


@pytest.mark.parametrize("compression", ["zlib", "gzip"])
def test_content_is_compressed_when_asked(compression: Any) -> None:
    rows = np.tile(np.eye(16, dtype=np.float32), (40, 1))
    index = Index(pickle_mode="byte").fit(rows, n_trees=3)
    plain = pickle.dumps(index)
    index.compress_mode = compression
    packed = pickle.dumps(index)
    assert len(packed) < len(plain) / 3
    assert packed == pickle.dumps(index)
    assert_same(pickle.loads(packed), index, rows)


def test_a_mode_that_cannot_be_had_is_refused(vectors: Vectors, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"needs an index that is mapped from a local file.*save\(\)"):
        pickle.dumps(Index(pickle_mode="disk").fit(vectors))
    with pytest.raises(RuntimeError, match="hasn't been built"):
        pickle.dumps(Index(pickle_mode="byte"))
    index = Index(pickle_mode="disk").fit(vectors).save(tmp_path / "x.ann")
    pickled = pickle.dumps(index)
    (tmp_path / "x.ann").unlink()
    with pytest.raises(RuntimeError, match="must still be there"):
        pickle.dumps(index)
    with pytest.raises(FileNotFoundError):
        pickle.loads(pickled)
    Index().fit(vectors[:50]).save(tmp_path / "x.ann")
    with pytest.raises(CorruptIndexError, match="has changed since"):
        pickle.loads(pickled)
    assert copy.deepcopy(index).is_built  # whatever the mode is


def test_an_index_that_is_not_built_goes_on_after_its_pickle(vectors: Vectors) -> None:
    for ids in (np.arange(500), np.arange(500) * 2):
        index = Index(seed=9)
        index.add_items(vectors, ids)
        again = through_pickle(index)
        assert again.build(3).to_bytes() == index.build(3).to_bytes()
    empty = through_pickle(Index(n_neighbors=3))
    assert (empty.f, empty.n_neighbors) == (0, 3)
    assert empty.fit(vectors).f == 12
    assert through_pickle(Index(7)).f == 7


class Named(Index):
    name = "?"


def test_attributes_of_subclasses_go_along_and_locks_do_not(vectors: Vectors) -> None:
    index = Named().fit(vectors)
    index.name = "n"
    with index._lock.shared():
        ways = [copy.deepcopy(index), copy.copy(index), through_pickle(index)]
    for again in ways:
        assert (type(again), again.name) == (Named, "n")
        again.fit(vectors[:5])  # its lock is its own, and free
        assert len(index) == 500


def test_a_copy_shares_nothing(vectors: Vectors) -> None:
    index = Index().fit(vectors, np.arange(500))
    for copied in (copy.copy(index), copy.deepcopy(index)):
        copied.unload()
        assert (len(index), index.is_built) == (500, True)
        assert index.y is not None


def test_dask_passes_an_index_to_its_workers(vectors: Vectors, process_client: Client) -> None:
    index = Index(compress_mode="zlib").fit(vectors, np.arange(500))
    there = process_client.submit(lambda index, rows: index.transform(rows, return_labels=True), index, vectors)
    for ours, theirs in zip(index.transform(vectors, return_labels=True), there.result(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("built", [False, True])
def test_an_index_is_made_of_an_annoy_index_which_it_leaves_alone(vectors: Vectors, built: bool) -> None:
    low = AnnoyIndex(12, "dot")
    low.add_items(vectors, np.arange(500) * 2)
    if built:
        low.build(3)
    index = Index.from_low_level(low, prefault=True)
    assert (index.f, index.metric, index.prefault, list(index)) == (12, "dot", True, list(low))
    if built:
        assert index.to_bytes() == low.to_bytes()
    index.unload()
    assert len(low) == 999
    with pytest.raises(TypeError, match="expected an AnnoyIndex, got str"):
        Index.from_low_level("x")  # type: ignore[arg-type]


def test_bytes_make_an_index(vectors: Vectors) -> None:
    index = Index(metric="l2").fit(vectors)
    again = Index.from_bytes(12, "l2", index.to_bytes())
    assert type(again) is Index
    np.testing.assert_array_equal(again.transform(vectors), index.transform(vectors))

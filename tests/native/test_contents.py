"""The index as bytes, as arrays and as a Python collection."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dask_annoy import AnnoyIndex
from dask_annoy.errors import CorruptIndexError

from .conftest import METRICS


def with_holes(metric: str, width: int = 70) -> tuple[AnnoyIndex, np.ndarray]:
    vectors = np.random.default_rng(0).normal(size=(300, width)).astype(np.float32)
    index = AnnoyIndex(width, metric)
    index.add_items(vectors, np.arange(300) * 2)
    return index, vectors


@pytest.mark.parametrize("metric", METRICS)
def test_bytes_are_those_of_the_file_and_give_the_same_answers(metric: str, tmp_path: Path) -> None:
    index, vectors = with_holes(metric)
    index.build(3)
    data = index.to_bytes()
    index.save(str(tmp_path / "x"))
    assert data == (tmp_path / "x").read_bytes() == index.to_bytes()
    buffers: list[Any] = [data, bytearray(data), memoryview(data), np.frombuffer(data, np.uint8)]
    for buffer in buffers:
        again = AnnoyIndex.from_bytes(70, metric, buffer)
        found = again.get_nns_by_vectors(vectors[:20], 5).tolist()
        assert found == index.get_nns_by_vectors(vectors[:20], 5).tolist()
    with pytest.raises(RuntimeError, match="loaded"):
        again.add_item(0, vectors[0])


def test_bytes_are_copied() -> None:
    index, vectors = with_holes("euclidean")
    index.build(3)
    buffer = bytearray(index.to_bytes())
    again = AnnoyIndex.from_bytes(70, "euclidean", buffer)
    buffer[:] = bytes(len(buffer))
    assert again.get_nns_by_vector(vectors[3], 1) == [6]


def test_damaged_bytes_are_refused() -> None:
    index, _ = with_holes("euclidean")
    with pytest.raises(RuntimeError, match="build"):
        index.to_bytes()
    index.build(3)
    data = index.to_bytes()
    for damaged in (b"", data[:-1], data[: len(data) // 2], b"\xff" * len(data)):
        with pytest.raises(CorruptIndexError):
            AnnoyIndex.from_bytes(70, "euclidean", damaged)
    text: Any = "text"
    with pytest.raises(TypeError):
        AnnoyIndex.from_bytes(70, "euclidean", text)
    with pytest.raises(ValueError, match="f must be"):
        AnnoyIndex.from_bytes(0, "euclidean", data)


@pytest.mark.parametrize("built", [False, True])
def test_an_index_is_a_collection_of_the_items_that_are_there(built: bool) -> None:
    index, _ = with_holes("angular")
    if built:
        index.build(2)
    assert len(index) == 599  # holes count, as in get_n_items
    assert list(index) == list(range(0, 600, 2))
    present: list[object] = [0, np.int64(598), 2]
    absent: list[object] = [1, 599, 600, -1, 2**80, "0", 0.0, None]
    assert all(item in index for item in present)
    assert not any(item in index for item in absent)


def test_the_representation_says_what_it_is() -> None:
    index, _ = with_holes("dot")
    assert repr(index) == "AnnoyIndex(f=70, metric='dot', n_items=599, n_trees=0)"
    index.build(4)
    assert repr(index) == "AnnoyIndex(f=70, metric='dot', n_items=599, n_trees=4)"


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("built", [False, True])
def test_vectors_come_out_as_they_went_in(metric: str, built: bool) -> None:
    index, vectors = with_holes(metric)
    if built:
        index.build(2)
    expected = (vectors > 0.5).astype(np.float32) if metric == "hamming" else vectors
    everything = index.get_item_vectors()
    assert everything.dtype == np.float32
    assert everything.shape == (599, 70)
    np.testing.assert_array_equal(everything[::2], expected)
    assert not everything[1::2].any()
    np.testing.assert_array_equal(index.get_item_vectors([4, 0, 4]), expected[[2, 0, 2]])
    assert index.get_item_vectors([]).shape == (0, 70)
    with pytest.raises(IndexError, match="599"):
        index.get_item_vectors([0, 599])


@pytest.mark.parametrize("width", [1, 8, 13, 64, 70])
def test_bits_come_out_packed_as_numpy_packs_them(width: int) -> None:
    index, vectors = with_holes("hamming", width)
    packed = index.get_item_vectors(range(0, 598, 2), packed=True)
    np.testing.assert_array_equal(packed, np.packbits(vectors[:299] > 0.5, axis=1))
    with pytest.raises(ValueError, match="hamming"):
        with_holes("dot")[0].get_item_vectors(packed=True)

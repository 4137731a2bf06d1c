from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import datasets
from benchmarks.datasets import find_sets, prepare
from benchmarks.failure import BenchmarkError


def test_a_folder_is_searched_for_items_with_their_queries(folder_of_sets: Path) -> None:
    np.save(folder_of_sets / "alone.npy", np.ones((3, 3)))
    found = find_sets([folder_of_sets])
    assert [(source.name, source.metric) for source in found] == [("orb256", "hamming"), ("text256", "angular")]
    assert [source.name for source in find_sets([folder_of_sets], ["text256"])] == ["text256"]


def test_another_metric_is_another_set(folder_of_sets: Path) -> None:
    (source,) = find_sets([folder_of_sets / "text256.npy"], metric="dot")
    assert (source.name, source.metric) == ("text256-dot", "dot")


def test_what_is_not_there_is_said(folder_of_sets: Path, tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="no data set named gist"):
        find_sets([folder_of_sets], ["gist"])
    with pytest.raises(BenchmarkError, match="does not exist"):
        find_sets([tmp_path / "nowhere"])
    with pytest.raises(BenchmarkError, match="no data set in"):
        find_sets([tmp_path])
    (folder_of_sets / "text256_queries.npy").unlink()
    with pytest.raises(BenchmarkError, match=r"has no queries: expected text256_queries\.npy"):
        find_sets([folder_of_sets / "text256.npy"])


def test_a_set_of_unknown_metric_asks_for_one(folder_of_sets: Path) -> None:
    for name in ("text256.npy", "text256_queries.npy"):
        (folder_of_sets / name).rename(folder_of_sets / name.replace("text256", "mine"))
    with pytest.raises(BenchmarkError, match=r"the metric of .*mine\.npy is not known: say --metric"):
        find_sets([folder_of_sets], ["mine"])
    (source,) = find_sets([folder_of_sets], ["mine-dot"], "dot")
    assert source.metric == "dot"


def test_prepared_sets_are_cut_and_have_their_truth(folder_of_sets: Path, tmp_path: Path) -> None:
    (source,) = find_sets([folder_of_sets], ["text256"])
    data = prepare(source, n_items=400, n_queries=20, cache=tmp_path)
    assert data.items().shape == (400, 64)
    assert data.items().dtype == np.float32
    assert data.queries().shape == (20, 64)
    assert data.raw_bytes == 400 * 64 * 4
    assert len(data.truth().offsets) == 21


def test_a_limit_beyond_the_size_of_a_set_adds_nothing(folder_of_sets: Path, tmp_path: Path) -> None:
    (source,) = find_sets([folder_of_sets], ["text256"])
    assert prepare(source, at_most=100_000, n_queries=5, cache=tmp_path).n_items == 1500
    assert prepare(source, at_most=100, n_queries=5, cache=tmp_path).n_items == 100


def test_bits_of_an_hdf5_file_are_not_compared_by_another_metric(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "x.hdf5", "w") as file:
        file["train"] = file["test"] = np.ones((20, 8), bool)
        file.attrs["distance"] = "hamming"
    (source,) = find_sets([tmp_path], metric="dot")
    with pytest.raises(BenchmarkError, match="x holds vectors for hamming, which cannot be compared by dot"):
        prepare(source, cache=tmp_path)
    assert prepare(find_sets([tmp_path])[0], cache=tmp_path).metric == "hamming"


def test_a_prepared_set_is_found_again_until_its_source_changes(
    folder_of_sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source,) = find_sets([folder_of_sets], ["text256"])
    first = prepare(source, n_items=100, cache=tmp_path)
    with monkeypatch.context() as patch:
        patch.delattr(datasets, "exact_truth")  # would be needed to prepare it
        assert prepare(source, n_items=100, cache=tmp_path) == first
    np.save(source.items, np.load(source.items)[:1000])
    assert prepare(source, n_items=100, cache=tmp_path).folder != first.folder


def test_a_set_grows_by_its_own_rows_with_a_little_noise(folder_of_sets: Path, tmp_path: Path) -> None:
    (source,) = find_sets([folder_of_sets], ["text256"])
    rows = np.load(source.items).astype(np.float32)
    items = prepare(source, n_items=4000, n_queries=5, cache=tmp_path).items()
    assert items.shape == (4000, 64)
    np.testing.assert_array_equal(items[:1500], rows)
    noise = (items[1500:3000] - rows) / np.maximum(rows.std(axis=0), 1e-9)
    assert 0.05 < noise[:, rows.std(axis=0) > 0].std() < 0.2


def test_bits_grow_by_rows_with_a_few_flipped(folder_of_sets: Path, tmp_path: Path) -> None:
    (source,) = find_sets([folder_of_sets], ["orb256"])
    rows = np.load(source.items)
    data = prepare(source, n_items=3000, n_queries=5, cache=tmp_path)
    np.testing.assert_array_equal(data.items()[:1500], rows)
    assert 0.01 < np.unpackbits(data.items()[1500:] ^ rows).mean() < 0.03
    assert (data.width, data.raw_bytes) == (64, 3000 * 8)


def test_floats_are_no_bits(folder_of_sets: Path, tmp_path: Path) -> None:
    (source,) = find_sets([folder_of_sets], ["text256-hamming"], "hamming")
    with pytest.raises(BenchmarkError, match="hamming takes packed bits, uint8; the items are float16"):
        prepare(source, cache=tmp_path)

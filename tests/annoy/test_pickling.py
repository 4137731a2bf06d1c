"""An index travels: by its file's path when it is mapped, by its content otherwise; never by code of a file."""

from __future__ import annotations

import copy
import os
import pickle
import pickletools
from operator import methodcaller
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import Client
from numpy.typing import NDArray

from dask_annoy import AnnoyIndex
from dask_annoy.errors import CorruptIndexError

Vectors = NDArray[np.float32]
METRICS = ["angular", "euclidean", "manhattan", "hamming", "dot"]


def through_pickle(index: Any) -> Any:
    return pickle.loads(pickle.dumps(index))


WAYS = [through_pickle, copy.copy, copy.deepcopy]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("metric", METRICS)
def test_a_built_index_comes_back_with_its_answers(vectors: Vectors, metric: str, way: Any, answers: Any) -> None:
    index = AnnoyIndex(12, metric)
    index.add_items(vectors, np.arange(500) * 2)
    index.build(4)
    again = way(index)
    assert again.to_bytes() == index.to_bytes()
    assert answers(again, vectors) == answers(index, vectors)
    index.unload()  # nothing is shared
    assert len(again) == 999


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("metric", METRICS)
def test_an_index_that_is_not_built_goes_on_with_its_items_and_seed(vectors: Vectors, metric: str, way: Any) -> None:
    index = AnnoyIndex(12, metric)
    index.set_seed(-77)
    index.add_items(vectors[:400], np.arange(400) * 2)
    again = way(index)
    assert list(again) == list(index)
    for each in (index, again):
        each.add_items(vectors[400:], np.arange(400, 500) * 2 + 1)
        each.build(4)
    assert again.to_bytes() == index.to_bytes()
    other = AnnoyIndex(12, metric)
    other.add_items(index.get_item_vectors(list(index)), list(index))
    other.build(4)
    assert other.to_bytes() != index.to_bytes()  # it was the seed that travelled


@pytest.mark.parametrize("way", WAYS)
def test_a_forest_over_nothing_comes_back(way: Any) -> None:
    index = AnnoyIndex(12, "dot")
    index.build(3)
    again = way(index)
    assert (len(again), again.to_bytes()) == (0, index.to_bytes())


@pytest.mark.parametrize("way", WAYS)
def test_an_empty_or_unloaded_index_comes_back_empty(built: AnnoyIndex, way: Any) -> None:
    built.unload()
    for index in (AnnoyIndex(12, "dot"), built):
        again = way(index)
        assert (again.f, again.metric, len(again), again.get_n_trees()) == (12, index.metric, 0, 0)
        again.add_item(0, [1.0] * 12)
        again.build(1)


@pytest.mark.parametrize("way", WAYS)
def test_a_mapped_index_goes_by_the_path_of_its_file(
    built: AnnoyIndex, vectors: Vectors, tmp_path: Path, way: Any, monkeypatch: pytest.MonkeyPatch, answers: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    built.save("x.ann")
    data = pickle.dumps(built)
    assert len(data) < 1000
    assert str(tmp_path / "x.ann") in pickletools_strings(data)
    monkeypatch.chdir("/")
    again = way(built)
    assert f"mapped from {tmp_path}/x.ann" in again._repr_html_()
    assert answers(again, vectors) == answers(built, vectors)
    built.unload()
    assert len(again) == 500


def pickletools_strings(data: bytes) -> list[Any]:
    return [argument for _, argument, _ in pickletools.genops(data) if isinstance(argument, str)]


def test_an_index_on_disk_goes_by_its_content(vectors: Vectors, tmp_path: Path, answers: Any) -> None:
    index = AnnoyIndex(12, "euclidean")
    index.on_disk_build(tmp_path / "grown")
    index.add_items(vectors)
    assert list(through_pickle(index)) == list(index)
    index.build(3)
    again = through_pickle(index)
    (tmp_path / "grown").unlink()
    assert answers(again, vectors) == answers(index, vectors)


@pytest.mark.parametrize("change", ["removed", "replaced", "touched"])
def test_who_is_mapped_to_a_file_that_is_gone_goes_by_content(
    built: AnnoyIndex, vectors: Vectors, tmp_path: Path, change: str, answers: Any
) -> None:
    path = tmp_path / "x.ann"
    built.save(path)
    before = answers(built, vectors)
    if change == "removed":
        path.unlink()
    elif change == "replaced":
        (tmp_path / "other").write_bytes(b"other")
        (tmp_path / "other").replace(path)
    else:
        os.utime(path, ns=(1, 1))
    assert answers(through_pickle(built), vectors) == before


@pytest.mark.parametrize("change", ["longer", "same size", "nonsense", "missing", "a folder"])
def test_a_pickle_refuses_another_file_than_the_one_it_was_made_of(
    built: AnnoyIndex, vectors: Vectors, tmp_path: Path, change: str
) -> None:
    path = tmp_path / "x.ann"
    built.save(path)
    data = pickle.dumps(built)
    old = path.stat()
    path.unlink()
    if change == "missing":
        with pytest.raises(FileNotFoundError, match="not here"):
            pickle.loads(data)
        return
    if change == "a folder":
        path.mkdir()
    elif change == "nonsense":  # even with the right size and time it goes through the loader
        path.write_bytes(b"\xff" * old.st_size)
        os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))
    else:
        other = AnnoyIndex(12, "euclidean")
        other.add_items(vectors[::-1] if change == "same size" else np.concatenate([vectors, vectors]))
        other.build(5)
        other.save(path)
        os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns + 1))
    with pytest.raises(OSError, match=r"x\.ann") as caught:
        pickle.loads(data)
    if change == "nonsense":
        assert isinstance(caught.value, CorruptIndexError)
    elif change != "a folder":
        assert isinstance(caught.value, CorruptIndexError)
        assert "has changed" in str(caught.value)


class Forger:
    """Pickles as an index of another state."""

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state

    def __reduce__(self) -> Any:
        return methodcaller("__new__", AnnoyIndex), (AnnoyIndex,), self.state


def forged(index: AnnoyIndex, **changes: Any) -> bytes:
    return pickle.dumps(Forger({**index.__getstate__(), **changes}))


def test_forged_states_are_refused_or_harmless(built: AnnoyIndex, tmp_path: Path, answers: Any) -> None:
    data = built.to_bytes()
    bad: list[Any] = [
        {"content": ("bytes", data[:-4])},
        {"content": ("bytes", b"")},
        {"content": ("bytes", "text")},
        {"content": ("file", str(tmp_path), 1, 1)},
        {"content": ("file", "s3://bucket/x", 1, 1)},
        {"content": ("later", 1)},
        {"content": ("items", [0, 1], np.zeros((1, 12)), 1)},
        {"content": ("items", [-1], np.zeros((1, 12)), 1)},
        {"content": ("items", [0], np.full((1, 12), np.nan), 1)},
        {"f": 0},
        {"f": 13},
        {"metric": "unheard of"},
    ]
    assert answers(pickle.loads(forged(built)), built.get_item_vectors()) == answers(built, built.get_item_vectors())
    for changes in bad:
        with pytest.raises((OSError, ValueError, TypeError, IndexError)):
            pickle.loads(forged(built, **changes))


class Named(AnnoyIndex):
    """A user's class with parameters of its own."""

    __slots__ = ("slot",)

    def __init__(self, name: str) -> None:
        super().__init__(12, "euclidean")
        self.name = name
        self.tags = ["a"]
        self.slot = 5


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mapped", [False, True])
def test_a_subclass_keeps_its_class_and_attributes(
    vectors: Vectors, tmp_path: Path, way: Any, mapped: bool, answers: Any
) -> None:
    index = Named("shop")
    index.add_items(vectors)
    index.build(3)
    if mapped:
        index.save(tmp_path / "x")
    again = way(index)
    assert type(again) is Named
    assert (again.name, again.tags, again.slot) == ("shop", ["a"], 5)
    assert (again.tags is index.tags) == (way is copy.copy)
    assert answers(again, vectors) == answers(index, vectors)


def test_the_bytes_can_travel_beside_the_pickle(built: AnnoyIndex, vectors: Vectors, answers: Any) -> None:
    beside: list[pickle.PickleBuffer] = []
    data = pickle.dumps(built, protocol=5, buffer_callback=beside.append)
    assert len(data) < 1000
    assert answers(pickle.loads(data, buffers=beside), vectors) == answers(built, vectors)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol_will_do(built: AnnoyIndex, vectors: Vectors, protocol: int, answers: Any) -> None:
    assert answers(pickle.loads(pickle.dumps(built, protocol)), vectors) == answers(built, vectors)


def test_an_index_is_an_argument_of_tasks_in_other_processes(
    built: AnnoyIndex, vectors: Vectors, tmp_path: Path, process_client: Client
) -> None:
    expected = built.get_nns_by_vectors(vectors, 5)
    ask, show = methodcaller("get_nns_by_vectors", vectors, 5), methodcaller("_repr_html_")
    found, shown = process_client.gather([process_client.submit(task, built) for task in (ask, show)])
    np.testing.assert_array_equal(found, expected)
    assert "in memory" in shown
    built.save(tmp_path / "x.ann")
    found, shown = process_client.gather([process_client.submit(task, built, pure=False) for task in (ask, show)])
    np.testing.assert_array_equal(found, expected)
    assert f"mapped from {tmp_path}/x.ann" in shown

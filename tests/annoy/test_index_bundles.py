"""A bundle is a plain Annoy file and what it lacks; what was changed is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import annoy
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dask_annoy import Index
from dask_annoy.errors import CorruptIndexError, FormatVersionError

Vectors = NDArray[np.float32]


@given(st.data())
def test_a_bundle_comes_back_the_same(tmp_path: Path, data: st.DataObject) -> None:
    width = data.draw(st.integers(1, 6))
    ids = np.array(data.draw(st.lists(st.integers(0, 30), min_size=1, max_size=12, unique=True)))
    labels: Any = data.draw(
        st.none()
        | st.lists(st.text(max_size=3), min_size=len(ids), max_size=len(ids))
        | st.lists(st.floats(allow_nan=True), min_size=len(ids), max_size=len(ids))
        | st.lists(st.tuples(st.integers(-9, 9), st.booleans()), min_size=len(ids), max_size=len(ids))
    )
    index = Index(
        metric=data.draw(st.sampled_from(["angular", "l2", "l1", "dot", "hamming"])),
        n_neighbors=data.draw(st.integers(1, 99)),
        seed=data.draw(st.none() | st.integers(0, 99)),
    )
    index.add_items(np.random.default_rng(0).normal(size=(len(ids), width)), ids)
    index.build(data.draw(st.integers(1, 3)))
    index.y = labels
    index._feature_names = data.draw(st.sampled_from([None, tuple(f"ü{d}" for d in range(width))]))
    index.save_bundle(tmp_path)
    again = Index.load_bundle(tmp_path)
    assert again.to_bytes() == index.to_bytes()
    for name in ("f", "metric", "n_neighbors", "seed", "_feature_names"):
        assert getattr(again, name) == getattr(index, name)
    if labels is None:
        assert again.y is None
    else:
        assert again.y is not None
        np.testing.assert_array_equal(again.y, index.y)  # type: ignore[arg-type]
        np.testing.assert_array_equal(again._labels_of(np.sort(ids)), index._labels_of(np.sort(ids)))


def bundle(vectors: Vectors, folder: Path) -> Index:
    index = Index(metric="dot").fit(vectors, np.arange(500), n_trees=3)
    assert index.save_bundle(folder) == (folder / "manifest.json", folder / "index.ann")
    return index


def test_the_index_in_a_bundle_is_a_plain_file_of_annoy(vectors: Vectors, tmp_path: Path) -> None:
    index = bundle(vectors, tmp_path / "deep" / "folder")
    theirs = annoy.AnnoyIndex(12, "dot")
    assert theirs.load(str(tmp_path / "deep" / "folder" / "index.ann"))
    query = vectors[0].tolist()
    assert theirs.get_nns_by_vector(query, 5, 9999) == index.get_nns_by_vector(query, 5, 9999)


def test_names_are_respected(vectors: Vectors, tmp_path: Path) -> None:
    index = Index().fit(vectors)
    index.save_bundle(tmp_path, "Mine.json", "forest")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Mine.json", "forest"]
    assert Index.load_bundle(str(tmp_path), "Mine.json").is_built
    (tmp_path / "forest").rename(tmp_path / "moved")
    with pytest.raises(FileNotFoundError):
        Index.load_bundle(tmp_path, "Mine.json")
    assert Index.load_bundle(tmp_path, "Mine.json", "moved").is_built
    Index().fit(vectors[:9]).save(tmp_path / "other")
    with pytest.raises(CorruptIndexError, match=r"other has .* bytes, but its manifest says"):
        Index.load_bundle(tmp_path, "Mine.json", "other")


def test_a_bundle_can_be_moved(vectors: Vectors, tmp_path: Path) -> None:
    index = bundle(vectors, tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "b")
    again = Index.load_bundle(tmp_path / "b", prefault=True)
    np.testing.assert_array_equal(again.transform(vectors), index.transform(vectors))
    assert again.prefault is True
    assert str(tmp_path) not in (tmp_path / "b" / "manifest.json").read_text()


@pytest.mark.parametrize("name", ["index.ann", "labels.npy"])
def test_a_changed_file_is_refused(name: str, vectors: Vectors, tmp_path: Path) -> None:
    bundle(vectors, tmp_path)
    path = tmp_path / name
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(CorruptIndexError, match=f"{name} has .* bytes, but its manifest says"):
        Index.load_bundle(tmp_path)
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CorruptIndexError, match=f"{name} has the SHA-256"):
        Index.load_bundle(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metric": "cosine"}, "metric"),
        ({"metric": "angular"}, "index.ann"),
        ({"f": 11}, "index.ann"),
        ({"n_items": 499}, "499 items"),
        ({"n_trees": 4}, "4 trees"),
        ({"n_neighbors": 0}, "n_neighbors"),
        ({"feature_names": ["a"]}, "1 features of 12"),
        ({"labels": None, "label_ids": None, "more": 1}, "more"),
        ({"format_version": 0}, "format_version"),
        ({"index": None}, "index"),
    ],
)
def test_a_changed_manifest_is_refused(change: dict[str, Any], message: str, vectors: Vectors, tmp_path: Path) -> None:
    bundle(vectors, tmp_path)
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), **change}))
    with pytest.raises(CorruptIndexError, match=message):
        Index.load_bundle(tmp_path)


@pytest.mark.parametrize("name", ["../x.ann", "/etc/passwd", "a/b", "..", ".", "", "a\\b", "a\0b", "a\nb"])
@pytest.mark.parametrize("file", ["index", "labels", "label_ids"])
def test_a_manifest_cannot_name_files_outside_of_its_folder(
    file: str, name: str, vectors: Vectors, tmp_path: Path
) -> None:
    bundle(vectors, tmp_path / "bundle")
    (tmp_path / "x.ann").write_bytes((tmp_path / "bundle" / "index.ann").read_bytes())
    path = tmp_path / "bundle" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest[file] = {**manifest["index"], "name": name}
    path.write_text(json.dumps(manifest))
    with pytest.raises(CorruptIndexError, match=r"name|as a file"):
        Index.load_bundle(tmp_path / "bundle")


@pytest.mark.parametrize("name", ["../x", "/x", "a/b", "..", ".", "", "a\0b", "a\n", "a\\b"])
def test_callers_cannot_leave_the_folder_either(name: str, vectors: Vectors, tmp_path: Path) -> None:
    index = bundle(vectors, tmp_path)
    for leave in (
        lambda: index.save_bundle(tmp_path, name),
        lambda: index.save_bundle(tmp_path, index_filename=name),
        lambda: Index.load_bundle(tmp_path, name),
        lambda: Index.load_bundle(tmp_path, index_filename=name),
    ):
        with pytest.raises(ValueError, match="no name in the bundle"):
            leave()


def test_files_need_names_of_their_own(vectors: Vectors, tmp_path: Path) -> None:
    index = Index().fit(vectors)
    for names in (("a", "a"), ("a", "labels.npy"), ("label_ids.npy", "a")):
        with pytest.raises(ValueError, match="names of their own"):
            index.save_bundle(tmp_path, *names)
    assert list(tmp_path.iterdir()) == []


def test_labels_that_would_have_to_be_pickled_are_refused(vectors: Vectors, tmp_path: Path) -> None:
    index = Index().fit(vectors[:2], np.array([{"a": 1}, None], dtype=object))
    with pytest.raises(TypeError, match="neither numbers nor strings"):
        index.save_bundle(tmp_path)
    index = Index().fit(vectors[:2], np.array(["a", "bc"], dtype=object))
    index.save_bundle(tmp_path)
    again = Index.load_bundle(tmp_path).y
    assert again is not None
    assert again.tolist() == ["a", "bc"]


def test_pickled_labels_are_not_read(vectors: Vectors, tmp_path: Path) -> None:
    import hashlib

    bundle(vectors, tmp_path)
    np.save(tmp_path / "labels.npy", np.array([{}] * 500, dtype=object), allow_pickle=True)
    content = (tmp_path / "labels.npy").read_bytes()
    path = tmp_path / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["labels"] = {"name": "labels.npy", "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    path.write_text(json.dumps(manifest))
    with pytest.raises(CorruptIndexError, match=r"labels.npy is no array of labels"):
        Index.load_bundle(tmp_path)


def test_a_newer_bundle_is_refused_by_its_version(vectors: Vectors, tmp_path: Path) -> None:
    bundle(vectors, tmp_path)
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({"format_version": 2}))
    with pytest.raises(FormatVersionError, match="format version 2"):
        Index.load_bundle(tmp_path)


def test_an_index_that_is_not_built_has_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="save an index that hasn't been built"):
        Index().save_bundle(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_plain_file_is_saved_with_its_folders_and_loaded_with_what_it_lacks(vectors: Vectors, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "folder" / "x.ann"
    index = Index(metric="l2").fit(vectors).save_index(path)
    again = Index.load_index(12, "l2", path)
    np.testing.assert_array_equal(again.transform(vectors), index.transform(vectors))
    assert type(again) is Index

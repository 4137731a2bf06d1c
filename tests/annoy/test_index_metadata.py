"""What an index is goes through dictionaries, JSON and YAML, and comes back; nothing else does."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dask_annoy import Index
from dask_annoy.errors import CorruptIndexError, FormatVersionError

Vectors = NDArray[np.float32]

PARAMETERS = st.fixed_dictionaries(
    {},
    optional={
        "f": st.none() | st.integers(0, 1000),
        "metric": st.sampled_from([None, "cosine", "l2", "l1", "@", "hamming"]),
        "n_neighbors": st.integers(1, 1000),
        "on_disk_path": st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1),
        "prefault": st.sampled_from([None, True, False]),
        "seed": st.none() | st.integers(-(2**63), 2**63 - 1),
        "verbose": st.none() | st.integers(-9, 9),
        "pickle_mode": st.sampled_from(["auto", "disk", "byte"]),
        "compress_mode": st.sampled_from([None, "zlib", "gzip"]),
    },
)


@given(PARAMETERS)
def test_every_description_comes_back_the_same(tmp_path: Path, parameters: dict[str, Any]) -> None:
    index = Index(**parameters)
    metadata = index.to_metadata()
    ways = [Index.from_metadata(metadata), Index.from_metadata(json.loads(index.to_json()))]
    index.to_json(tmp_path / "x.json")
    index.to_yaml(tmp_path / "x.yaml")
    ways += [Index.from_json(tmp_path / "x.json"), Index.from_yaml(tmp_path / "x.yaml")]
    for again in ways:
        assert again.get_params() == index.get_params()
        assert again.to_metadata() == metadata
        assert again.clone(**again.get_params()).get_params() == index.get_params()


def test_a_saved_index_is_loaded_by_its_description(vectors: Vectors, tmp_path: Path) -> None:
    index = Index(metric="l1", n_neighbors=3).fit(vectors, n_trees=4, feature_names=list("abcdefghijkl"))
    assert index.to_metadata()["persistence"] is None
    index.save(tmp_path / "x.ann")
    index.to_json(tmp_path / "x.json")
    index.to_yaml(tmp_path / "x.yaml")
    for again in (
        Index.from_metadata(index.to_metadata()),
        Index.from_json(tmp_path / "x.json"),
        Index.from_yaml(str(tmp_path / "x.yaml")),
    ):
        assert (again.metric, again.f, again.get_params()["f"]) == ("manhattan", 12, None)
        assert again.feature_names_in_.tolist() == list("abcdefghijkl")
        np.testing.assert_array_equal(again.transform(vectors), index.transform(vectors))
    empty = Index.from_json(tmp_path / "x.json", load=False)
    assert empty.is_empty
    assert empty.get_params() == index.get_params()


def test_a_forest_built_on_disk_is_found_without_saving(vectors: Vectors, tmp_path: Path) -> None:
    index = Index(on_disk_path=tmp_path / "x.ann").fit(vectors, n_trees=3)
    again = Index.from_metadata(index.to_metadata())
    np.testing.assert_array_equal(again.transform(vectors), index.transform(vectors))


def test_the_schema_has_a_version_and_newer_ones_are_refused_by_it() -> None:
    metadata = Index().to_metadata()
    assert metadata["index_schema_version"] == 1
    with pytest.raises(FormatVersionError, match="format version 2, and this release knows those up to 1"):
        Index.from_metadata({**metadata, "index_schema_version": 2, "shape": "unknown"})


def test_text_is_as_wanted() -> None:
    index = Index(on_disk_path="ü")
    assert "ü" in index.to_json()
    assert "\\u00fc" in index.to_json(ensure_ascii=True)
    assert "\n" not in index.to_json(indent=None)
    assert list(json.loads(index.to_json(sort_keys=False))) == list(index.to_metadata())
    assert list(yaml.safe_load(index.to_yaml())) == sorted(index.to_metadata())
    assert index.to_metadata(include_info=False)["info"] is None
    assert json.loads(index.to_json(include_info=False))["info"] is None
    assert yaml.safe_load(index.to_yaml(include_info=False))["info"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"params": {"metric": "cosine"}}, "params.metric"),
        ({"params": {"f": 0}}, "params.f"),
        ({"params": {"seed": 2**70}}, "params.seed"),
        ({"params": {"__class__": "os"}}, "params.__class__"),
        ({"params": None}, "params"),
        ({"more": 1}, "more"),
        ({"persistence": {"path": 3}}, "persistence.path"),
        ({"index_schema_version": 0}, "index_schema_version"),
        ({"index_schema_version": True}, "index_schema_version"),
        ({"params": {"f": object()}}, "JSON"),
    ],
)
def test_what_is_no_description_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(CorruptIndexError, match=message):
        Index.from_metadata({**Index().to_metadata(), **change})


@pytest.mark.parametrize(
    "content", ["", "[]", "3", "{", "\x00", "a: b: c", "[" * 5000, "- x", "!!python/object:os.x {}"]
)
def test_files_that_are_no_description_are_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text(content)
    with pytest.raises(CorruptIndexError):
        Index.from_json(path)
    with pytest.raises(CorruptIndexError):
        Index.from_yaml(path)


def test_yaml_cannot_blow_up(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 60)]
    (tmp_path / "x").write_text("\n".join(lines))
    with pytest.raises(CorruptIndexError, match="aliases"):
        Index.from_yaml(tmp_path / "x")


def test_the_file_of_another_index_is_refused(vectors: Vectors, tmp_path: Path) -> None:
    path = tmp_path / "x.ann"
    metadata = Index().fit(vectors, n_trees=3).save(path).to_metadata()
    Index().fit(vectors[:100], n_trees=3).save(path)
    with pytest.raises(CorruptIndexError, match="100 items and 3 trees, but the dictionary says 500 and 3"):
        Index.from_metadata(metadata)
    metadata["params"]["metric"] = "dot"
    with pytest.raises(CorruptIndexError, match="contradicts itself"):
        Index.from_metadata(metadata)
    path.unlink()
    metadata["params"]["metric"] = None
    with pytest.raises(FileNotFoundError):
        Index.from_metadata(metadata)


def test_a_description_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.json"
    Index(n_neighbors=3).to_json(path)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for write in (Index().to_json, Index().to_yaml):
        with pytest.raises(OSError, match="no room"):
            write(path)
    monkeypatch.undo()
    assert Index.from_json(path).n_neighbors == 3
    assert list(tmp_path.iterdir()) == [path]

"""What is listed of an index: all of its versions that can be read, whatever else is damaged, and few at a time."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dask_annoy import ShardedIndex, build_index
from dask_annoy.cli import annoy
from dask_annoy.cluster import history
from dask_annoy.storage import read_manifest

from .conftest import TREES


@pytest.fixture
def index(rows: Any, tmp_path: Path) -> ShardedIndex:
    made = build_index(rows[:300], tmp_path / "index", n_trees=TREES, client=False)
    made.tag("first")
    return made


def test_a_damaged_tag_hides_no_version_and_can_be_taken_away(index: ShardedIndex, tmp_path: Path) -> None:
    (tmp_path / "index" / "tags" / "bad.json").write_bytes(b"{")
    (tmp_path / "index" / "tags" / "newer.json").write_bytes(b'{"format_version": 99}')
    assert [(one.version, one.tags) for one in index.versions()] == [(1, ("first",))]
    done = CliRunner().invoke(annoy, ["untag", str(tmp_path / "index"), "bad"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    index.untag("newer")
    index.tag("bad")
    assert index.versions()[0].tags == ("bad", "first")


def test_of_all_manifests_one_is_held_at_a_time(index: ShardedIndex, monkeypatch: Any) -> None:
    for number in range(5):
        index = index.delete([number])
    alive: weakref.WeakSet[Any] = weakref.WeakSet()
    most = 0

    class Watched:
        """A manifest to which a reference can be weak."""

        def __init__(self, *arguments: Any) -> None:
            self._manifest = read_manifest(*arguments)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._manifest, name)

    def read(*arguments: Any) -> Any:
        nonlocal most
        found = Watched(*arguments)
        alive.add(found)
        most = max(most, len(alive))
        return found

    monkeypatch.setattr(history, "read_manifest", read)
    assert [one.version for one in index.versions()] == [1, 2, 3, 4, 5, 6]
    assert 1 <= most <= 2

"""No room on the local disk: an error that names the place, nothing lost, and all is well once there is room."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest

from dask_annoy import ShardedIndex, build_index, open_index
from dask_annoy.errors import CorruptIndexError, IndexNotFoundError
from dask_annoy.storage import configure_cache

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs tmpfs, which Linux has")
MIB = 1 << 20
ROOM = 4 * MIB
ROWS = np.random.default_rng(2).normal(size=(6000, 64)).astype(np.float32)  # a forest of them takes 2 MB and more
OPTIONS: dict[str, Any] = {"metric": "euclidean", "n_trees": 2, "shard_rows": 6000, "client": False}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MiB."""
    place = tmp_path / "small-disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(place)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    yield place
    configure_cache()
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def filler(small_disk: Path) -> Path:
    """A file that leaves 1 MiB of the small disk."""
    path = small_disk / "in-the-way"
    path.write_bytes(bytes(ROOM - MIB))
    return path


def check(index: ShardedIndex) -> None:
    found = index.query(ROWS[::100], k=1, search_k=10**7)
    np.testing.assert_array_equal(found.ids[:, 0], np.arange(0, len(ROWS), 100))


def test_a_full_scratch_disk_is_named_and_the_build_works_once_there_is_room(
    small_disk: Path, filler: Path, tmp_path: Path
) -> None:
    url = tmp_path / "index"
    with dask.config.set({"annoy.scratch-directory": str(small_disk)}):
        with pytest.raises(OSError, match="small-disk") as caught:
            build_index(ROWS, url, **OPTIONS)
        assert not isinstance(caught.value, CorruptIndexError)
        with pytest.raises(IndexNotFoundError):
            open_index(url, client=False)
        assert [path.name for path in small_disk.iterdir()] == [filler.name], "scratch files are left behind"
        filler.unlink()
        subprocess.run(["mount", "-o", f"remount,size={16 * MIB}", str(small_disk)], check=True)
        check(build_index(ROWS, url, **OPTIONS))
        assert list(small_disk.iterdir()) == []


def test_a_full_scratch_disk_in_an_append_leaves_the_index_as_it_was(
    small_disk: Path, filler: Path, tmp_path: Path
) -> None:
    index = build_index(ROWS[:100], tmp_path / "index", **OPTIONS)
    with dask.config.set({"annoy.scratch-directory": str(small_disk)}):
        with pytest.raises(OSError, match="small-disk"):
            index.append(ROWS[100:])
        assert open_index(index.url, client=False).version == 1
        filler.unlink()
        subprocess.run(["mount", "-o", f"remount,size={16 * MIB}", str(small_disk)], check=True)
        check(index.append(ROWS[100:]))


def test_a_full_cache_disk_is_named_and_the_query_works_once_there_is_room(
    small_disk: Path, filler: Path, s3: Any
) -> None:
    url = f"{s3.url}/index"
    options = OPTIONS | {"storage_options": s3.options}
    index = build_index(ROWS[:5000], url, **options)
    with dask.config.set({"annoy.cache.directory": str(small_disk)}):
        with pytest.raises(OSError, match=r"no room in .*small-disk") as caught:
            index.query(ROWS[:1], k=1)
        assert not isinstance(caught.value, CorruptIndexError)
        left = [path for path in small_disk.rglob("*") if path.is_file() and path.suffix != ".lock" and path != filler]
        assert left == [], "parts of files are left behind"
        filler.unlink()
        found = index.query(ROWS[:5000:50], k=1, search_k=10**7)
        np.testing.assert_array_equal(found.ids[:, 0], np.arange(0, 5000, 50))


def test_a_full_disk_under_the_index_leaves_it_as_it_was(small_disk: Path, filler: Path) -> None:
    index = build_index(ROWS[:500], small_disk / "index", **OPTIONS)
    with pytest.raises(OSError, match=r"no room in .*small-disk"):
        index.append(ROWS[500:])
    newest = open_index(index.url, client=False)
    assert newest.version == 1
    np.testing.assert_array_equal(newest.query(ROWS[:500:7], k=1, search_k=10**6).ids[:, 0], np.arange(0, 500, 7))
    assert not list(Path(index.url).rglob(".tmp-*")), "unfinished files are left behind"
    subprocess.run(["mount", "-o", f"remount,size={32 * MIB}", str(small_disk)], check=True)
    filler.unlink()
    check(index.append(ROWS[500:]))

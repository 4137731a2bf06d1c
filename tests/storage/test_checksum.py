from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from dask_annoy.errors import CorruptIndexError
from dask_annoy.storage import check_file, file_entry, sha256_of


def test_an_entry_describes_its_file(tmp_path: Path) -> None:
    path = tmp_path / "forest.ann"
    payload = b"x" * 3_000_001
    path.write_bytes(payload)
    entry = file_entry(path)
    assert (entry.name, entry.bytes, entry.sha256) == (
        "forest.ann",
        len(payload),
        hashlib.sha256(payload).hexdigest(),
    )
    assert sha256_of(path) == entry.sha256
    assert file_entry(path, "ids.npy").name == "ids.npy"
    check_file(path, entry, where="w")


def test_a_cut_and_a_changed_file_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "forest.ann"
    path.write_bytes(b"right")
    entry = file_entry(path)
    path.write_bytes(b"rig")
    with pytest.raises(CorruptIndexError, match="s3://b/f has 3 bytes, but its manifest says 5"):
        check_file(path, entry, where="s3://b/f")
    path.write_bytes(b"wrong")
    with pytest.raises(CorruptIndexError, match=f"s3://b/f has the SHA-256 .* says {entry.sha256}"):
        check_file(path, entry, where="s3://b/f")

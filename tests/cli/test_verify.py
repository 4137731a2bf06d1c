"""Verify and repair from the shell: what is printed, and the exit codes that scripts go by."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dask_annoy import open_index


@pytest.fixture
def vectors(files: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(files / "vectors.npy", tmp_path / "vectors.npy"))


@pytest.fixture
def own_index(call: Any, vectors: Path) -> Path:
    """An index of four shards, of a file that only it needs."""
    url = vectors.with_name("index")
    assert call("build", vectors, url, "--metric", "euclidean", "--shard-rows", 500, "-q").exit_code == 0
    return url


def damage(url: Path, slot: int) -> str:
    """Flip a bit of a forest; the shard's uuid."""
    uuid = open_index(url, client=False).manifest.shards[slot].uuid
    path = url / "shards" / uuid / "forest.ann"
    payload = bytearray(path.read_bytes())
    payload[1234] ^= 1
    path.write_bytes(payload)
    return uuid


def test_verify_says_what_is_damaged_and_ends_with_3(call, process, own_index: Path) -> None:
    sound = process("verify", own_index, "--full")
    assert (sound.returncode, sound.stdout.splitlines()[-1]) == (0, "sound")
    assert "verify: " in sound.stderr
    uuid = damage(own_index, 2)
    assert call("verify", own_index, "-q").exit_code == 0  # names and sizes are right
    found = process("verify", own_index, "--full", "-q")
    assert (found.returncode, found.stderr) == (3, "")
    assert f"slot 2 (424 items, shard {uuid})" in found.stdout
    assert "checksum: " in found.stdout
    assert found.stdout.splitlines()[-1] == f"Next: dask annoy repair {own_index}"
    document = json.loads(call("verify", own_index, "--full", "-q", "--json").stdout)
    assert (document["ok"], document["mode"]) == (False, "full")
    assert [shard["slot"] for shard in document["shards"] if shard["damages"]] == [2]


def test_repair_mends_and_the_exit_code_says_so(call, own_index: Path) -> None:
    damage(own_index, 0)
    done = call("repair", own_index, "-q")
    assert done.exit_code == 0
    assert "slot 0: built again, byte by byte, with its 424 items" in done.stdout
    assert f"version 2 of {own_index}: 1,697 items" in done.stdout
    assert call("verify", own_index, "--full", "-q").exit_code == 0
    assert call("verify", own_index, "--full", "-q", "--version", 1).exit_code == 3
    assert "no shard of version 2" in call("repair", own_index, "-q").stdout


def test_repair_asks_for_the_source_or_gives_up_what_is_lost(call, own_index: Path, vectors: Path) -> None:
    damage(own_index, 1)
    moved = vectors.rename(vectors.with_name("moved.npy"))
    stuck = call("repair", own_index, "-q")
    assert stuck.exit_code == 3
    assert "its source cannot be opened" in stuck.stdout
    assert "--drop-damaged" in stuck.stdout
    elsewhere = call("repair", own_index, "--source", moved, "-q")
    assert elsewhere.exit_code == 3
    assert "the URL of the vectors was" in elsewhere.stdout
    given_up = call("repair", own_index, "--drop-damaged", "-q", "--json")
    assert given_up.exit_code == 0
    document = json.loads(given_up.stdout)
    assert (document["ok"], document["items_lost"], document["items"]) == (True, 424, 1273)
    assert document["lost"][0]["row_start"] == 424
    assert call("repair", own_index, "--ids", "x.npy").exit_code == 2


def test_a_damaged_manifest_is_damage_and_rollback_is_the_way_out(call, own_index: Path) -> None:
    assert call("delete", own_index, 3, "-q").exit_code == 0
    (own_index / "versions" / "00000000000000000002.json").write_text("{}")
    for options in ((), ("--json",)):
        found = call("verify", own_index, "-q", *options)
        assert found.exit_code == 3
        assert "Versions that can be read: 1." in found.stderr
        assert f"dask annoy rollback {own_index} 1" in found.stderr
        assert not options or json.loads(found.stdout)["error"]["type"] == "CorruptIndexError"
    shown = call("versions", own_index)
    assert "     1 " in shown.stdout
    assert shown.stderr == "Note: the manifests of the versions 2 cannot be read.\n"
    assert call("rollback", own_index, 1).exit_code == 0
    assert call("verify", own_index, "-q").exit_code == 0
    assert len(open_index(own_index, client=False)) == 1697


def test_what_is_not_there_cannot_be_verified(call, tmp_path: Path) -> None:
    assert call("verify", tmp_path, "-q").exit_code == 1
    assert "no index at" in call("repair", tmp_path, "-q").stderr


def test_an_unfinished_build_is_a_note_in_a_sentence(call, vectors: Path, tmp_path: Path) -> None:
    url = tmp_path / "new"
    assert call("build", vectors, url, "--shard-rows", 500, "-q").exit_code == 0
    next(url.glob("versions/*")).unlink()  # as if it had been killed before its commit
    done = call("build", vectors, url, "--shard-rows", 500, "--seed", 7, "-q")
    assert done.exit_code == 0
    assert done.stderr.startswith("Note: an unfinished build of ")
    assert "seed was 0 and is 7" in done.stderr
    assert done.stderr.count("\n") == 1
    assert np.load(vectors).shape == (1697, 64)

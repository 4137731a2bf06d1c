"""The life of an index from the shell: append, delete, compact, versions, tag, rollback, copy, export, gc."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from dask_annoy import build_index, open_index

from .conftest import built


@pytest.fixture
def own_index(files: Path, call, tmp_path: Path) -> Path:
    """An index that a test may change: 500 digits in shards of 250, ids being row numbers."""
    vectors = np.load(files / "vectors.npy")
    np.save(tmp_path / "vectors.npy", vectors[:500])
    np.save(tmp_path / "more.npy", vectors[500:600])
    return built(call, tmp_path, "index", "--shard-rows", 250)


def test_an_index_is_changed_and_its_versions_are_shown(process, own_index: Path) -> None:
    done = process("append", own_index.with_name("more.npy"), own_index)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"version 2 of {own_index}: 600 items in 3 shards\n"
    assert "build: 100 of 100" in done.stderr
    again = process("append", own_index.with_name("more.npy"), own_index, "-q")
    # The same as the last change: its caller may not have got to know.
    assert again.stdout == f"nothing to change: version 2 of {own_index} stays, with 600 items\n"
    assert process("tag", own_index, "full").stdout == f"full is version 2 of {own_index}\n"
    deleted = process("delete", own_index, 1, 2, 3, 599, "-q")
    assert deleted.stdout == f"version 3 of {own_index}: 596 items in 3 shards\n", deleted.stderr
    shown = process("versions", own_index)
    lines = [line.split() for line in shown.stdout.splitlines()]
    assert [(line[0], line[3], line[4], line[5]) for line in lines[1:]] == [
        ("1", "build", "500", "0"), ("2", "append", "600", "0"), ("3", "delete", "596", "4"),
    ]  # fmt: skip
    assert lines[2][-1] == "full"
    info = process("info", own_index).stdout
    assert "596 × 64, ids int64, and 4 deleted" in info
    assert "version         2, " in process("info", own_index, "--version", "full").stdout


def test_ids_to_delete_come_from_a_file_too(call, own_index: Path, named_index: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "ids.npy", np.arange(10, 20))
    done = call("delete", own_index, 5, "--ids", tmp_path / "ids.npy", "--json", "-q")
    assert json.loads(done.stdout)["items"] == 489
    assert json.loads(done.stdout)["changed"]
    wrong = call("delete", own_index, 5, 6, "-q")
    assert (wrong.exit_code, wrong.stderr.count("\n")) == (1, 1)
    assert "1 of the 2 ids to delete, 5 for one" in wrong.stderr
    assert "--missing ignore" in wrong.stderr
    assert call("delete", own_index, 5, 6, "--missing", "ignore", "-q").exit_code == 0
    for word in ("digit", "1_0", " 10 ", "+10", "١٠", "9" * 30):  # what int() takes, too
        assert "are integers" in call("delete", own_index, word, "-q").stderr
    assert call("delete", own_index, "-q").exit_code == 2
    copied = named_index.with_name(tmp_path.name)
    assert call("copy", named_index, copied, "-q").exit_code == 0
    assert call("delete", copied, "digit 7", "-q").stdout.startswith("version 2 of ")


def test_an_id_that_is_there_can_be_replaced(call, own_index: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "ids.npy", np.arange(450, 550))
    arguments = ("append", own_index.with_name("more.npy"), own_index, "--ids", tmp_path / "ids.npy", "-q")
    refused = call(*arguments)
    named = re.search(r"50 of its ids, (\d+) for one", refused.stderr)
    assert named is not None
    assert 450 <= int(named[1]) < 500
    assert "--on-duplicate keep" in refused.stderr
    assert call(*arguments, "--on-duplicate", "replace").stdout.startswith(f"version 2 of {own_index}: 550 items")


def test_a_version_is_brought_back_compacted_and_cleaned_up(call, own_index: Path) -> None:
    numbers = [str(number) for number in range(0, 500, 2)]
    assert call("delete", own_index, *numbers, "-q").exit_code == 0
    assert call("compact", own_index, "-q").stdout == f"version 3 of {own_index}: 250 items in 1 shards\n"
    assert "nothing to change: version 3" in call("compact", own_index, "-q").stdout
    assert call("tag", own_index, "first", "--version", 1).exit_code == 0
    assert call("rollback", own_index, "first").stdout == f"version 4 of {own_index}: 500 items in 2 shards\n"
    dry = call("gc", own_index, "--older-than", "0s")
    assert dry.exit_code == 0
    assert "among them the versions 2 3" in dry.stdout
    assert "versions kept: 1 4" in dry.stdout
    assert "the same with --delete" in dry.stdout
    assert len(open_index(own_index, version=2)) == 250
    (own_index / "mine.txt").write_text("mine")
    done = call("gc", own_index, "--older-than", "0s", "--delete", "--json")
    found = json.loads(done.stdout)
    assert (found["versions"], found["kept_versions"], found["unknown"]) == ([2, 3], [1, 4], ["mine.txt"])
    assert call("info", own_index, "--version", 2).exit_code == 1
    assert call("query", own_index, own_index.with_name("vectors.npy"), "--rows", 3, "-k", 1, "-q").exit_code == 0
    assert call("untag", own_index, "first").exit_code == 0
    assert "there is no tag 'first'" in call("untag", own_index, "first").stderr
    assert call("gc", own_index, "--older-than", "soon").exit_code == 2
    assert call("info", own_index, "--version", "0").exit_code == 2


def test_copies_and_exports_go_to_other_storage_and_keys_are_not_shown(call, own_index: Path, s3: Any) -> None:
    options = ("--target-options", json.dumps(s3.options))
    copied = call("copy", own_index, f"{s3.url}/copy", *options, "-q")
    exported = call("export", own_index, f"{s3.url}/plain", *options, "-q", "--version", 1)
    assert (copied.exit_code, exported.exit_code) == (0, 0), copied.stderr + exported.stderr
    assert len(open_index(f"{s3.url}/copy", storage_options=s3.options)) == 500
    names = {Path(name).name for name in fsspec.filesystem("s3", **s3.options).ls(f"{s3.url}/plain", refresh=True)}
    assert {"index.json", "00000000.ann", "00000000.ids.npy", "00000001.ann"} <= names
    assert call("delete", own_index, 3, "-q").exit_code == 0
    refused = call("copy", own_index, f"{s3.url}/copy", *options, "-q")
    assert "holds an index already" in refused.stderr
    for done in (copied, exported, refused):
        assert s3.options["secret"] not in done.output


def test_a_password_in_a_url_is_not_shown(call, own_index: Path) -> None:
    target = "memory://user:geheim@host/exported"
    for arguments in (("export", own_index, target, "-q"), ("export", own_index, target + "2", "-q", "--json")):
        done = call(*arguments)
        assert done.exit_code == 0, done.stderr
        assert "host/exported" in done.stdout
        assert "geheim" not in done.stdout + done.stderr
    url = "memory://user:geheim@host/index"
    fsspec.filesystem("memory").pipe_file(f"{url}/versions/00000000000000000001.json", b"{")
    damaged = call("verify", url, "-q", "--json")
    assert damaged.exit_code == 3
    assert "host/index" in json.loads(damaged.stdout)["url"]
    assert "geheim" not in damaged.stdout + damaged.stderr


def test_what_npz_cannot_hold_is_refused_there_and_kept_elsewhere(call, own_index: Path, tmp_path: Path) -> None:
    vectors = np.load(own_index.with_name("vectors.npy"))[:40]
    names = np.array([f"a{number}" for number in range(39)] + ["a3\0"], object)
    build_index(vectors, tmp_path / "named", ids=names, client=False)
    np.save(tmp_path / "q.npy", vectors[39:])
    refused = call("query", tmp_path / "named", tmp_path / "q.npy", "-k", 1, "--output", tmp_path / "a.npz", "-q")
    assert refused.exit_code == 1
    assert r"the id 'a3\x00' ends in NUL" in refused.stderr
    assert not (tmp_path / "a.npz").exists()
    done = call("query", tmp_path / "named", tmp_path / "q.npy", "-k", 1, "--json", "-q")
    assert json.loads(done.stdout.splitlines()[0])["ids"] == ["a3\0"]


def test_no_queries_have_no_answers(call, own_index: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "none.npy", np.load(own_index.with_name("vectors.npy"))[:0])
    done = call("query", own_index, tmp_path / "none.npy", "--output", tmp_path / "a.npz", "-q")
    assert done.exit_code == 0, done.stderr
    with np.load(tmp_path / "a.npz") as found:
        assert {name: len(found[name]) for name in found} == {"queries": 0, "ids": 0, "distances": 0}

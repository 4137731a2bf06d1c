"""From a plan to measured recall, as a person goes, and as a machine does."""

from __future__ import annotations

import json
import os
import pty
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest

from dask_annoy import exact_neighbors, open_index


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_plan_build_info_and_query_in_real_processes(process, files: Path, tmp_path: Path) -> None:
    vectors, queries, url = files / "vectors.npy", files / "queries.npy", tmp_path / "index"
    shape = ("--metric", "euclidean", "--shard-rows", 500)

    planned = process("plan", vectors, *shape)
    assert planned.returncode == 0, planned.stderr
    assert "4 of up to 425 rows" in planned.stdout

    built = process("build", vectors, url, *shape)
    assert built.returncode == 0, built.stderr
    assert "build: 1,697 of 1,697" in built.stderr
    for part in (str(url), "1,697 × 64, euclidean", "recall@10       0.9"):
        assert part in built.stdout

    suggestion = built.stdout.splitlines()[-1].removeprefix("Next: ")
    shown = process(*shlex.split(suggestion)[2:])
    assert shown.returncode == 0, shown.stderr
    assert "\n    3     1         0  3\n" in shown.stdout  # a vector is its own nearest neighbour

    measured = process("query", url, queries, "--exact", vectors)
    assert measured.returncode == 0, measured.stderr
    share = float(measured.stdout.partition("recall@10")[2].split()[0])
    assert share >= 0.88
    assert "ids taken as row numbers" in measured.stdout
    assert "index's own" in measured.stdout


def test_a_plan_as_json_says_what_the_build_will_do(call, files: Path) -> None:
    plan = json.loads(call("plan", files / "vectors.npy", "--shard-rows", 500, "--n-trees", 7, "--json").stdout)
    assert (len(plan["slots"]), plan["n_trees"], plan["n_rows"], plan["width"]) == (4, 7, 1697, 64)
    assert plan["build_id"]


def test_the_same_build_again_is_found_and_not_built(call, files: Path, tmp_path: Path) -> None:
    arguments = ("build", files / "vectors.npy", tmp_path / "index", "--shard-rows", 500)
    first, second = (call(*arguments, "--json") for _ in range(2))
    assert json.loads(first.stdout)["already_built"] is False
    again = json.loads(second.stdout)
    assert (again["already_built"], again["version"], again["items"]) == (True, 1, 1697)
    assert second.stderr == ""
    assert "built before" in call(*arguments).stdout


def test_overwrite_publishes_a_version_and_keeps_the_old_one(call, files: Path, tmp_path: Path) -> None:
    for seed in (1, 2):
        done = call("build", files / "vectors.npy", tmp_path / "index", "--seed", seed, "--overwrite", "-q")
        assert done.exit_code == 0, done.stderr
        assert done.stderr == ""
    newest = json.loads(call("info", tmp_path / "index", "--json").stdout)
    old = json.loads(call("info", tmp_path / "index", "--version", 1, "--json").stdout)
    assert (newest["version"], old["version"]) == (2, 1)
    assert newest["build_id"] != old["build_id"]


def test_info_is_that_of_the_library(call, index: Path) -> None:
    assert json.loads(call("info", index, "--json").stdout) == json.loads(
        json.dumps(open_index(index, client=False).info())
    )
    table = call("info", index).stdout
    for part in (str(index), "1,697 × 64, ids int64", "4 of 424 to 425 items", "chosen"):
        assert part in table


def test_json_answers_are_those_of_the_library(call, files: Path, index: Path) -> None:
    *answers, last = lines_of(call("query", index, files / "queries.npy", "-k", 3, "--json", "--rows", "5:25").stdout)
    ids, distances = open_index(index, client=False).query(np.load(files / "queries.npy")[5:25], 3)
    assert [answer["query"] for answer in answers] == list(range(5, 25))
    assert [answer["ids"] for answer in answers] == ids.tolist()
    assert [answer["distances"] for answer in answers] == distances.tolist()
    assert (last["summary"]["queries"], last["summary"]["k"]) == (20, 3)
    assert last["summary"]["methods"] == {"exact": 4}  # shards of 425 items


def test_the_method_of_a_query_and_shards_without_cells(call, files: Path, index: Path, tmp_path: Path) -> None:
    asked = ("-k", 3, "--rows", "0:20", "--output", tmp_path / "answers.npz")
    assert "4 by cells" in call("query", index, files / "queries.npy", *asked, "--method", "cells").stdout
    assert call("query", index, files / "queries.npy", "--method", "graph").exit_code == 2
    url = tmp_path / "without"
    shape = ("--metric", "euclidean", "--shard-rows", 500, "--cells", "none", "-q")
    assert call("build", files / "vectors.npy", url, *shape).exit_code == 0
    assert "cells           none" in call("info", url).stdout
    assert "in all shards" in call("info", index).stdout
    refused = call("query", url, files / "queries.npy", "--method", "cells")
    assert refused.exit_code == 1
    assert "4 of 4 have none" in refused.stderr


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
@pytest.mark.parametrize("which", ["index", "named_index"])
def test_answers_in_a_file_are_those_of_the_library(
    call, files: Path, which: str, suffix: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url, output = request.getfixturevalue(which), tmp_path / f"answers{suffix}"
    done = call("query", url, files / "queries.npy", "--output", output, "--search-k", 300)
    assert done.exit_code == 0, done.stderr
    ids, distances = open_index(url, client=False).query(np.load(files / "queries.npy"), 10, search_k=300)
    if suffix == ".npz":
        with np.load(output, allow_pickle=False) as found:
            assert found["ids"].dtype.kind == ("i" if which == "index" else "U")
            np.testing.assert_array_equal(found["ids"], ids)
            np.testing.assert_array_equal(found["distances"], distances)
            np.testing.assert_array_equal(found["queries"], np.arange(100))
    else:
        table = pyarrow.parquet.read_table(output).to_pydict()
        assert table["ids"] == ids.tolist()
        assert table["distances"] == distances.tolist()
    assert list(tmp_path.iterdir()) == [output]


def test_fewer_answers_than_asked_for_are_marked_not_invented(call, files: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "three.npy", np.load(files / "vectors.npy")[:3])
    np.save(tmp_path / "ids.npy", np.array(["a", "b", "c"]))
    url, queries = tmp_path / "index", files / "queries.npy"
    assert call("build", tmp_path / "three.npy", url, "--ids", tmp_path / "ids.npy", "-q").exit_code == 0
    answer, _ = lines_of(call("query", url, queries, "--rows", 0, "--json").stdout)
    assert sorted(answer["ids"]) == ["a", "b", "c"]
    assert len(answer["distances"]) == 3
    assert call("query", url, queries, "--rows", 0, "--output", tmp_path / "a.npz").exit_code == 0
    with np.load(tmp_path / "a.npz") as found:
        assert (found["ids"][0, 3:] == "").all()
        assert np.isinf(found["distances"][0, 3:]).all()


def test_recall_is_that_of_the_answers_against_exact_search(call, files: Path, index: Path, tmp_path: Path) -> None:
    output = tmp_path / "answers.npz"
    done = call(
        "query", index, files / "queries.npy", "--exact", files / "vectors.npy", "--output", output, "--json"
    )  # fmt: skip
    (last,) = lines_of(done.stdout)
    queries = np.load(files / "queries.npy")
    exact = exact_neighbors(str(files / "vectors.npy"), queries, metric="euclidean", client=False)
    with np.load(output) as found:
        hits = [len(set(a) & set(b)) for a, b in zip(found["ids"].tolist(), exact.ids.tolist(), strict=True)]
    assert last["summary"]["recall"] == pytest.approx(np.mean(hits) / 10)
    assert last["summary"]["expected_recall"] == open_index(index, client=False).info()["tuning"]["recall"]


def test_recall_is_counted_by_the_ids_that_were_given(call, files: Path, index: Path, named_index: Path) -> None:
    measure = ("query", files / "queries.npy", "--exact", files / "vectors.npy", "--json")

    def recall(url: Path, *ids: object) -> float:
        done = call(measure[0], url, *measure[1:], *ids)
        assert done.exit_code == 0, done.stderr
        return float(lines_of(done.stdout)[-1]["summary"]["recall"])

    assert recall(named_index, "--ids", files / "names.npy") == recall(index)


def test_recall_without_the_ids_is_refused_not_guessed(call, files: Path, named_index: Path, tmp_path: Path) -> None:
    vectors, queries = files / "vectors.npy", files / "queries.npy"
    done = call("query", named_index, queries, "--exact", vectors)
    assert (done.exit_code, done.stderr.splitlines()[-1].endswith("say with --ids which row has which id")) == (1, True)
    assert call("build", vectors, tmp_path / "index", "--ids", files / "numbers.npy", "-q").exit_code == 0
    done = call("query", tmp_path / "index", queries, "--exact", vectors)
    assert done.exit_code == 1
    assert "no row numbers" in done.stderr
    done = call("query", named_index, queries, "--exact", queries, "--ids", files / "names.npy")
    assert done.exit_code == 1
    assert "1,697 ids were given for the 100 vectors" in done.stderr


def test_a_terminal_gets_a_bar_with_the_time_left(files: Path, tmp_path: Path) -> None:
    screen, terminal = pty.openpty()
    arguments = ["build", str(files / "vectors.npy"), str(tmp_path / "index"), "--shard-rows", "500", "--json"]
    command = [sys.executable, "-P", "-m", "dask", "annoy", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=terminal, timeout=60)
    os.close(terminal)
    drawn = b""
    try:
        while part := os.read(screen, 1 << 16):
            drawn += part
    except OSError:  # the terminal's end
        pass
    os.close(screen)
    assert done.returncode == 0
    assert "━".encode() in drawn
    assert b"left" in drawn
    assert json.loads(done.stdout)["items"] == 1697

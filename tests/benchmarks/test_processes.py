from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.datasets import Prepared, find_sets, prepare
from benchmarks.processes import StageFailed, run_stage


@pytest.fixture
def data(folder_of_sets: Path, tmp_path: Path) -> Prepared:
    (source,) = find_sets([folder_of_sets], ["text256"])
    return prepare(source, n_queries=50, cache=tmp_path / "cache")


def test_an_index_built_in_one_process_is_searched_in_another(data: Prepared, tmp_path: Path) -> None:
    common = {"engine": "ours", "settings": {"n_trees": 5}, "folder": tmp_path, "threads": 1}
    built = run_stage("build_stage", data, **common)
    (point,) = run_stage("point_stage", data, **common, searches=[{"search_k": 10**6}])["points"]
    assert built["build"]["wall"] > 0
    assert point["recall"] == 1.0
    assert point["batch"]["queries"] == 50


def test_a_process_that_fails_says_why(data: Prepared, tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match=r"FileNotFoundError.*index\.ann.*\(exit status 1\)"):
        run_stage(
            "point_stage", data, engine="ours", settings={"n_trees": 5}, folder=tmp_path, threads=1, searches=[{}]
        )

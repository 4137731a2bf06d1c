from __future__ import annotations

import importlib.util
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.datasets import Prepared, find_sets, prepare
from benchmarks.engines import ENGINES, usable
from benchmarks.engines.annoy_forest import Annoy
from benchmarks.engines.engine import geometric
from benchmarks.engines.graphs import Voyager
from benchmarks.failure import BenchmarkError
from benchmarks.stages import batches_stage, bisect, build_stage, point_stage, sweep_stage, tune_stage
from benchmarks.worker import run

SETS = {"text256": "angular", "orb256": "hamming"}


@pytest.fixture
def data(request: pytest.FixtureRequest, folder_of_sets: Path, tmp_path: Path) -> Prepared:
    (source,) = find_sets([folder_of_sets], [getattr(request, "param", "text256")])
    return prepare(source, n_queries=100, cache=tmp_path / "cache")


def engines_of_sets() -> list[Any]:
    return [
        pytest.param(
            name,
            engine,
            id=f"{name}-{engine}",
            marks=pytest.mark.skipif(
                importlib.util.find_spec(kind.module) is None, reason=f"{kind.package} is not installed"
            ),
        )
        for name, metric in SETS.items()
        for engine, kind in ENGINES.items()
        if metric in kind.metrics and kind.exists()
    ]


@pytest.mark.parametrize(("data", "engine"), engines_of_sets(), indirect=["data"])
def test_every_engine_answers_from_what_it_saved(data: Prepared, engine: str, tmp_path: Path) -> None:
    kind = ENGINES[engine]
    for place, settings in enumerate(kind.builds(data.n_items)):
        folder = tmp_path / str(place)
        folder.mkdir()
        built = build_stage(data, engine, settings, folder, 1)  # graphs of one thread are the same every time
        assert built["bytes"] > 0
        swept = sweep_stage(data, engine, settings, folder, 2, top=0.99, patience=60, singles=20)
        best = max(point["recall"] for point in swept["points"])
        assert best >= 0.95
        singly = [point["one"] for point in swept["points"] if "one" in point]
        assert bool(singly) == kind.asks_singly()
        assert all(speed["queries"] == 20 and speed["threads"] == 1 for speed in singly)
        assert all(point["batch"]["queries"] == 100 for point in swept["points"])


@pytest.mark.parametrize("engine", ["annoy", "ours"])
def test_the_tuned_setting_finds_enough_in_every_batch(data: Prepared, engine: str, tmp_path: Path) -> None:
    settings = {"n_trees": 10}
    build_stage(data, engine, settings, tmp_path, 2)
    tuned = tune_stage(data, engine, settings, tmp_path, 2, target=0.9, patience=60)
    answered = batches_stage(data, engine, settings, tmp_path, 2, tuned["search"], 3)
    assert answered["queries"] == 300
    assert answered["recall"] >= 0.9
    points = point_stage(data, engine, settings, tmp_path, 2, [tuned["search"], {"search_k": 10}])["points"]
    assert points[0]["recall"] == answered["recall"] > points[1]["recall"]


def test_a_recall_out_of_reach_has_no_setting(data: Prepared, tmp_path: Path) -> None:
    build_stage(data, "annoy", {"n_trees": 1}, tmp_path, 1)
    assert tune_stage(data, "annoy", {"n_trees": 1}, tmp_path, 1, target=1.01, patience=60) == {"search": None}


def test_a_request_of_json_gets_an_answer_of_json(data: Prepared, tmp_path: Path) -> None:
    folder = tmp_path / "index"
    folder.mkdir()
    request = {
        "stage": "build_stage",
        "data": {**asdict(data), "folder": str(data.folder)},
        "arguments": {"engine": "annoy", "settings": {"n_trees": 2}, "folder": str(folder), "threads": 1},
    }
    answer = json.loads(json.dumps(run(json.loads(json.dumps(request)))))
    assert answer["bytes"] == (folder / "index.ann").stat().st_size


def test_settings_between_too_few_and_enough_are_halved_by_ratio() -> None:
    tried = []

    def enough(setting: dict[str, int]) -> bool:
        tried.append(setting["search_k"])
        return setting["search_k"] >= 700

    bisect({"search_k": 250}, {"search_k": 1000}, enough)
    assert tried[0] == 500
    assert min(number for number in tried if number >= 700) <= 720


def test_neighbouring_settings_leave_nothing_to_try() -> None:
    bisect({"probes": 3, "rerank": 5}, {"probes": 4, "rerank": 5}, lambda _: pytest.fail("nothing lies between"))


def test_voyagers_refusal_of_one_query_costs_no_other() -> None:
    pytest.importorskip("voyager")
    rows = np.eye(8, dtype=np.float32)
    index = Voyager("euclidean", 8, {"links": 8, "building": 64})
    index.build(rows[:5], 1)  # fewer than are asked for
    index.tune({"searching": 10}, 1)
    assert index.search(rows, 10).tolist() == [[-1] * 10] * 8
    assert index.search_one(rows[0], 10) is None
    assert index.search(rows[:5], 1).ravel().tolist() == [0, 1, 2, 3, 4]


def test_annoys_bits_are_what_was_packed() -> None:
    rows = np.array([[0b10000001, 0], [0, 0b00000011]], np.uint8)
    vectors = Annoy("hamming", 16, {}).prepared(rows)
    np.testing.assert_array_equal(vectors, np.unpackbits(rows, axis=1))


def test_a_ladder_goes_from_its_first_to_its_last_rung() -> None:
    assert geometric(1, 8, 1) == [1, 2, 4, 8]
    assert geometric(1, 4, 2) == [1, 2, 3, 4]
    assert geometric(5, 5) == [5]


def test_a_package_that_is_missing_is_named() -> None:
    class Nowhere(Annoy):
        name, package, module = "nowhere", "nowhere-cpu", "no_such_module"

    with pytest.raises(BenchmarkError, match=r"nowhere needs the package nowhere-cpu.*dask-annoy\[bench\]"):
        Nowhere.check()


def test_an_engine_of_no_known_name_is_refused() -> None:
    with pytest.raises(BenchmarkError, match="no engine named fais; there are ours-cells"):
        usable("angular", ["fais"])


def test_only_engines_for_the_metric_are_used() -> None:
    assert [engine.name for engine in usable("hamming", ["annoy", "hnswlib"])] == ["annoy"]

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_annoy import plan_index
from dask_annoy.planning import BuildPlan, make_plan

BASE: dict[str, Any] = {
    "source": "numpy array",
    "source_dtype": "float32",
    "n_rows": 5000,
    "metric": "angular",
    "width": 24,
    "packed": False,
    "id_type": "int64",
    "identity": {"array": "cafe"},
    "n_trees": 5,
    "shard_rows": 700,
    "target_recall": 0.9,
    "seed": 3,
    "block_bytes": 1 << 20,
}


def plan(**changes: Any) -> BuildPlan:
    return make_plan(**{**BASE, **changes})


def test_the_same_input_and_parameters_are_the_same_build() -> None:
    assert plan() == plan()
    assert plan().build_id == plan().build_id


@pytest.mark.parametrize(
    "change",
    [
        {"n_rows": 5001}, {"metric": "euclidean"}, {"width": 25}, {"metric": "hamming", "packed": True},
        {"id_type": "string"}, {"identity": {"array": "beef"}}, {"n_trees": 6}, {"n_trees": "auto"},
        {"shard_rows": 500}, {"target_recall": 0.95}, {"seed": 4},
    ],
    ids=str,
)  # fmt: skip
def test_whatever_changes_the_result_is_another_build(change: dict[str, Any]) -> None:
    assert plan(**change).build_id != plan().build_id


@pytest.mark.parametrize(
    "change",
    [{"source": "elsewhere"}, {"source_dtype": "float64"}, {"block_bytes": 1 << 10}, {"shard_rows": 699}],
    ids=str,
)
def test_what_does_not_change_the_result_is_the_same_build(change: dict[str, Any]) -> None:
    assert plan(**change).build_id == plan().build_id


@pytest.mark.parametrize(
    ("plain", "other"),
    [
        ({"target_recall": 1.0}, {"target_recall": 1}),
        ({"target_recall": 0.5}, {"target_recall": np.float32(0.5)}),
        ({"seed": 7}, {"seed": np.int64(7)}),
        ({"n_trees": 7}, {"n_trees": np.int32(7)}),
        ({"shard_rows": 100}, {"shard_rows": np.int64(100)}),
    ],
    ids=str,
)
def test_a_number_of_another_type_is_the_same_build(plain: dict[str, Any], other: dict[str, Any]) -> None:
    assert plan(**other) == plan(**plain)


def test_an_unknown_identity_gives_no_build_id() -> None:
    found = plan(identity=None)
    assert found.build_id is None
    assert "known once the rows are read" in str(found)


@given(n_rows=st.integers(1, 10**6), shard_rows=st.integers(1, 10**6), seed=st.integers(0, 2**63 - 1))
def test_slots_cover_the_rows_exactly_once_and_evenly(n_rows: int, shard_rows: int, seed: int) -> None:
    shard_rows = max(shard_rows, n_rows // 500)
    found = plan(n_rows=n_rows, shard_rows=shard_rows, seed=seed)
    assert [slot.slot for slot in found.slots] == list(range(len(found.slots)))
    assert found.slots[0].row_start == 0
    assert found.slots[-1].row_stop == n_rows
    assert all(one.row_stop == other.row_start for one, other in pairwise(found.slots))
    sizes = [slot.rows for slot in found.slots]
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) == found.shard_rows <= shard_rows
    assert len(sizes) == -(-n_rows // shard_rows)


@given(n_rows=st.integers(1, 10**7), seed=st.integers(0, 2**63 - 1))
def test_the_sample_is_distinct_rows_in_order(n_rows: int, seed: int) -> None:
    rows = plan(n_rows=n_rows, shard_rows="auto", seed=seed).sample_rows
    assert len(rows) == min(n_rows, 1000)
    assert rows[0] >= 0
    assert rows[-1] < n_rows
    assert all(one < other for one, other in pairwise(rows))


def test_a_plan_survives_its_file() -> None:
    assert BuildPlan.model_validate_json(plan().model_dump_json()) == plan()


def test_a_plan_is_a_table_for_people() -> None:
    text = str(plan())
    for piece in (
        "5,000 rows × 24",
        "angular",
        "8 of up to 625 rows",
        "5 a shard",
        "0.90",
        "memory",
        str(plan().build_id),
    ):
        assert piece in text


def test_automatic_values_depend_on_the_data_alone(process_client: Any, threaded_client: Any) -> None:
    rows = np.random.default_rng(0).normal(size=(300, 8))
    plans = [plan_index(rows, client=client) for client in (False, process_client, threaded_client)]
    assert plans[0] == plans[1] == plans[2]


def test_planning_writes_nothing(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plan_index(np.ones((30, 4)), client=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"n_rows": 0}, "no rows"),
        ({"metric": "cosine"}, "cosine.*angular"),
        ({"width": 0}, "0"),
        ({"n_trees": 0}, "n_trees"),
        ({"n_trees": 1.5}, "n_trees"),
        ({"n_trees": True}, "n_trees"),
        ({"n_trees": "many"}, "n_trees.*many"),
        ({"shard_rows": 0}, "shard_rows"),
        ({"shard_rows": -3}, "shard_rows"),
        ({"shard_rows": 2**40}, "shard_rows"),
        ({"target_recall": 0.0}, "target_recall"),
        ({"target_recall": 1.01}, "target_recall"),
        ({"target_recall": float("nan")}, "target_recall"),
        ({"target_recall": "high"}, "target_recall"),
        ({"target_recall": True}, "target_recall"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"seed": 1.5}, "seed"),
    ],
    ids=str,
)
def test_a_bad_parameter_is_named(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        plan(**change)

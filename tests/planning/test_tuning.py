from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dask_annoy import AnnoyIndex
from dask_annoy.planning import budget_for, mix, recall_within, tune
from dask_annoy.shard import RecallTrace
from dask_annoy.storage import RecallCurve, RecallPoint, Tuning

# For one sampled row and shard: neighbours as (distance, budget or -1).
ROW = st.lists(st.tuples(st.integers(0, 20), st.integers(1, 500) | st.just(-1)), max_size=4)
INDEX = st.integers(1, 4).flatmap(
    lambda shards: st.lists(st.lists(ROW, min_size=shards, max_size=shards), min_size=1, max_size=6)
)
K = 3


def traces_of(rows: list[list[list[tuple[int, int]]]], metric: str) -> list[RecallTrace]:
    """Traces by shard, as a build makes them: nearest first, padded."""
    sign, missing = (-1, -np.inf) if metric == "dot" else (1, np.inf)
    traces = []
    for shard in range(len(rows[0])):
        distances = np.full((len(rows), K), missing, np.float32)
        budgets = np.full((len(rows), K), -1, np.int64)
        for number, row in enumerate(rows):
            for place, (distance, budget) in enumerate(sorted(row[shard], key=lambda hit: hit[0])[:K]):
                distances[number, place], budgets[number, place] = sign * distance, budget
        traces.append(RecallTrace.of(distances, budgets))
    return traces


def needed_budgets(rows: list[list[list[tuple[int, int]]]]) -> list[int]:
    """By definition: the K nearest of all shards, ties by shard and place, and the budget of each."""
    needed: list[int] = []
    for row in rows:
        hits = [
            (distance, shard, place, budget)
            for shard, neighbours in enumerate(row)
            for place, (distance, budget) in enumerate(sorted(neighbours, key=lambda hit: hit[0])[:K])
        ]
        needed += [hit[3] for hit in sorted(hits)[:K]]
    return needed


def recall_with(needed: list[int], budget: int) -> Fraction:
    return Fraction(sum(0 < one <= budget for one in needed), len(needed))


@given(rows=INDEX, target=st.sampled_from([0.07, 0.1, 0.55, 0.7, 0.9, 1.0]), metric=st.sampled_from(["angular", "dot"]))
def test_the_budget_is_the_least_that_reaches_the_target(
    rows: list[list[list[tuple[int, int]]]], target: float, metric: str
) -> None:
    tuning = tune(traces_of(rows, metric), metric, target, allowance=1.0)
    needed = needed_budgets(rows)
    if not needed:
        assert tuning is None
        return
    assert tuning is not None
    assert tuning.recall == pytest.approx(float(recall_with(needed, tuning.search_k)))
    useful = sorted({budget for budget in needed if budget > 0})
    reaching = [budget for budget in useful if float(recall_with(needed, budget)) >= target]
    assert tuning.search_k == (reaching[0] if reaching else useful[-1] if useful else 1)
    points = tuning.curves[0].points
    assert all(point.recall == pytest.approx(float(recall_with(needed, point.search_k))) for point in points)
    assert all(one.search_k < other.search_k and one.recall < other.recall for one, other in pairwise(points))


@pytest.mark.parametrize("size", [7, 10, 29, 100, 1000])
@pytest.mark.parametrize("target", [0.07, 0.28, 0.55, 0.56, 0.57, 0.9])
def test_rounding_of_the_target_does_not_cost_a_neighbour(size: int, target: float) -> None:
    budgets = np.arange(1, size + 1).reshape(-1, 1)
    tuning = tune([RecallTrace.of(np.ones((size, 1), np.float32), budgets)], "angular", target, allowance=1.0)
    assert tuning is not None
    assert tuning.search_k == -(-Fraction(str(target)) * size // 1)


def test_an_index_of_one_item_has_no_tuning() -> None:
    nothing = RecallTrace.of(np.full((1, K), np.inf, np.float32), np.full((1, K), -1))
    assert tune([nothing], "angular", 0.9) is None
    assert budget_for(None, 10, 0.9) is None


def tuning_of(budgets: NDArray[np.int64], target: float = 0.9) -> Tuning:
    shape = (len(budgets) // 10, 10)
    tuning = tune(
        [RecallTrace.of(np.ones(shape, np.float32), budgets.reshape(shape))], "angular", target, allowance=1.0
    )
    assert tuning is not None
    return tuning


def test_another_recall_takes_a_budget_from_the_curve() -> None:
    tuning = tuning_of(np.arange(1, 1001))
    assert budget_for(tuning, 10, None) == budget_for(tuning, 10, 0.9) == tuning.search_k == 900
    assert [budget_for(tuning, 10, level) for level in (0.5, 0.7, 0.95, 1.0)] == [
        pytest.approx(level, abs=1) for level in (500, 700, 950, 1000)
    ]
    between = budget_for(tuning, 10, 0.65)
    assert between is not None
    assert 600 < between < 700
    assert budget_for(tuning, 10, 0.01) == 100  # below the curve, its first point


@given(st.lists(st.floats(0.01, 1.0), min_size=2, max_size=6))
def test_more_recall_never_costs_less(levels: list[float]) -> None:
    tuning = tuning_of(np.random.default_rng(0).geometric(0.001, 2000))
    budgets = [budget_for(tuning, 10, level) or 0 for level in sorted(levels) if level != 0.9]
    assert budgets == sorted(budgets)


def test_more_neighbours_take_a_budget_in_proportion() -> None:
    tuning = tuning_of(np.arange(1, 1001))
    assert [budget_for(tuning, k, None) for k in (1, 10, 20, 100)] == [900, 900, 1800, 9000]


@pytest.mark.parametrize("target", [0.0, -1, 1.5, float("nan")])
def test_an_impossible_recall_is_refused(target: float) -> None:
    with pytest.raises(ValueError, match="target_recall"):
        budget_for(tuning_of(np.arange(1, 1001)), 10, target)


@pytest.mark.parametrize("k", [1, 20, 10**9])
@pytest.mark.parametrize("target", [None, 0.5, 1.0])
def test_the_largest_budgets_stay_what_a_search_takes(k: int, target: float | None) -> None:
    most = np.full((5, 10), 2**62)  # of a receipt
    tuning = tune([RecallTrace.of(np.ones((5, 10), np.float32), most)], "angular", 0.9)
    assert tuning is not None
    budget = budget_for(tuning, k, target)
    assert budget is not None
    assert tuning.search_k * 0.99 < budget <= 2**63 - 1
    forest = AnnoyIndex(2, "angular")
    forest.add_items(np.eye(2, dtype=np.float32))
    forest.build(1)
    assert forest.get_nns_by_vector([1.0, 0.0], 2, budget) == [0, 1]


def test_queries_that_are_not_rows_get_more_budget_than_the_rows_needed() -> None:
    budgets = np.full((100, 1), 1000)
    tuning = tune([RecallTrace.of(np.ones((100, 1), np.float32), budgets)], "angular", 0.9)
    assert tuning is not None
    assert tuning.search_k > 1000


@given(INDEX, st.integers(1, 600))
def test_the_recall_within_a_budget_is_the_share_of_neighbours_that_need_no_more(
    rows: list[list[list[tuple[int, int]]]], search_k: int
) -> None:
    needed = needed_budgets(rows)
    found = recall_within(traces_of(rows, "euclidean"), "euclidean", search_k)
    if not needed:
        assert found is None
    else:
        assert found == pytest.approx(sum(0 <= budget <= search_k for budget in needed) / len(needed))


def test_a_mixed_tuning_lies_between_its_parts_as_their_items_weigh() -> None:
    def tuning(*points: tuple[int, float]) -> Tuning:
        curve = RecallCurve(
            method="forest", k=10, sample_rows=100,
            points=tuple(RecallPoint(search_k=budget, recall=recall) for budget, recall in points),
        )  # fmt: skip
        return Tuning(target_recall=0.9, search_k=points[-1][0], recall=points[-1][1], curves=(curve,))

    easy, hard = tuning((10, 0.8), (100, 0.98)), tuning((10, 0.2), (100, 0.6), (1000, 0.96))
    for share in (0, 25, 50, 75, 100):
        mixed = mix([(easy, share), (hard, 100 - share)], 0.9)
        assert mixed is not None
        assert mixed.search_k == (100 if share >= 80 else 1000)
        assert mixed.recall >= 0.9
        at_100 = next(point.recall for point in mixed.curves[0].points if point.search_k == 100)
        assert at_100 == pytest.approx((0.98 * share + 0.6 * (100 - share)) / 100)
    alone = mix([(easy, 5), (None, 100), (hard, 0)], 0.9)
    assert alone is not None
    assert [point.search_k for point in alone.curves[0].points] == [10, 100]
    assert [point.recall for point in alone.curves[0].points] == pytest.approx([0.8, 0.98])
    assert mix([(None, 3), (easy, 0)], 0.9) is None
    out_of_reach = mix([(tuning((10, 0.5)), 1)], 0.9)
    assert out_of_reach is not None
    assert (out_of_reach.search_k, out_of_reach.recall) == (10, 0.5)

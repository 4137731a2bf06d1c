"""Recall from receipts, and the search budget for a target. No data is read again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from dask_annoy.shard import RecallTrace, larger_is_better
from dask_annoy.storage import RecallCurve, RecallPoint, Tuning

__all__ = ["MOST_BUDGET", "budget_for", "mix", "recall_within", "tune"]

# Recalls whose budgets the curve keeps.
_LEVELS: Final = (
    0.1,
    0.3,
    0.5,
    0.6,
    0.7,
    0.75,
    0.8,
    0.85,
    0.875,
    0.9,
    0.925,
    0.95,
    0.96,
    0.97,
    0.98,
    0.99,
    0.995,
    1.0,
)

#: What the native search takes.
MOST_BUDGET: Final = 2**63 - 1

# How much more budget a query needs than a row of the index, whose own trees were grown with it among the items.
# Measured on rows held out: 0.9 to 1.15 times for text256 and sift128, up to 1.25 with a single tree over digits.
_UNSEEN: Final = 1.15


def tune(
    traces: Sequence[RecallTrace],
    metric: str,
    target_recall: float,
    allowance: float = _UNSEEN,
    method: Literal["forest", "cells"] = "cells",
) -> Tuning | None:
    """Find the search budget for a recall.

    Merging loses nothing, so a true neighbour is in the answer exactly when the search of its own shard meets it. The
    recall of a budget is then the share of true neighbours whose own budget, and what unseen queries need beyond it, is
    not larger.

    Parameters
    ----------
    traces : sequence of RecallTrace
        By slot.
    metric : str
    target_recall : float
    allowance : float
        How many times the budget of a row of the index an unseen query needs.
    method : {"forest", "cells"}
        How the shards are searched: what the traces' budgets count.

    Returns
    -------
    Tuning or None
        None if no sampled row has a neighbour: an index of one item.
    """
    needed = (_budgets_of_neighbours(traces, metric) * allowance).astype(np.int64)
    if needed.size == 0:
        return None
    curve = _curve(needed, method, k=traces[0].k, sample_rows=traces[0].rows)
    search_k, recall = _budget(needed, target_recall)
    return Tuning(target_recall=target_recall, search_k=search_k, recall=recall, curves=(curve,))


def budget_for(tuning: Tuning | None, k: int, target_recall: float | None) -> int | None:
    """The search budget for `k` neighbours at a recall; None where nothing was measured.

    The curve is of the k it was measured with. Up to that k it serves as it is; beyond it the budget grows with k, up
    to what an int64 holds.
    """
    if tuning is None:
        return None
    curve = tuning.curves[0]
    if target_recall is None or target_recall == tuning.target_recall:
        search_k = float(tuning.search_k)
    else:
        if not 0 < target_recall <= 1:
            raise ValueError(f"target_recall must be above 0 and at most 1, not {target_recall}")
        recalls = [point.recall for point in curve.points]
        budgets = np.log([point.search_k for point in curve.points])
        search_k = round(float(np.exp(np.interp(target_recall, recalls, budgets))), 6)  # exp and log lose a little
    return min(int(np.ceil(search_k * max(1.0, k / curve.k))), MOST_BUDGET)


def recall_within(traces: Sequence[RecallTrace], metric: str, search_k: int) -> float | None:
    """The recall of a budget over the shards of some traces; None if no sampled row has a neighbour."""
    needed = _budgets_of_neighbours(traces, metric)
    return float(((needed >= 0) & (needed <= search_k)).mean()) if needed.size else None


def mix(parts: Sequence[tuple[Tuning | None, int]], target_recall: float) -> Tuning | None:
    """The tuning of an index whose parts were tuned on their own, each on a sample of its own vectors.

    A true neighbour of a query is in a part with a chance of that part's share of the items, and is found there with
    that part's recall: so the recall of a budget is about the mean of the parts', weighted with their items. The parts
    were measured as if all neighbours were in each, which asks for larger budgets, so the recall is rather larger.

    Parameters
    ----------
    parts : sequence of (Tuning or None, int)
        What was measured on each part, and its items.
    target_recall : float
    """
    measured = [(tuning.curves[0], items) for tuning, items in parts if tuning is not None and tuning.curves and items]
    if not measured:
        return None
    total = sum(items for _, items in measured)
    budgets = sorted({point.search_k for curve, _ in measured for point in curve.points})
    recalls = [sum(_recall_at(curve, budget) * items for curve, items in measured) / total for budget in budgets]
    points: list[RecallPoint] = []
    for level in (*_LEVELS, target_recall):
        place = min(int(np.searchsorted(recalls, level)), len(budgets) - 1)
        points.append(RecallPoint(search_k=budgets[place], recall=min(1.0, recalls[place])))
    chosen = points.pop()
    kept = sorted({point.search_k: point for point in points}.values(), key=lambda point: point.search_k)
    curve = RecallCurve(
        method=measured[0][0].method,
        k=measured[0][0].k,
        sample_rows=sum(curve.sample_rows for curve, _ in measured),
        points=tuple(kept),
    )
    return Tuning(target_recall=target_recall, search_k=chosen.search_k, recall=chosen.recall, curves=(curve,))


def _recall_at(curve: RecallCurve, search_k: int) -> float:
    """The recall of a budget, between the measured ones by its logarithm."""
    recalls = [point.recall for point in curve.points]
    budgets = [point.search_k for point in curve.points]
    if search_k < budgets[0]:
        return recalls[0] * search_k / budgets[0]
    return float(np.interp(np.log(search_k), np.log(budgets), recalls))


def _budgets_of_neighbours(traces: Sequence[RecallTrace], metric: str) -> npt.NDArray[np.int64]:
    """The budget of each true neighbour of each sampled row, over all shards; -1 for one that no search finds."""
    k = traces[0].k
    distances = np.concatenate([trace.distance_array() for trace in traces], axis=1)
    budgets = np.concatenate([trace.budget_array() for trace in traces], axis=1)
    order = np.argsort(-distances if larger_is_better(metric) else distances, axis=1, kind="stable")[:, :k]
    nearest = np.take_along_axis(distances, order, axis=1)
    needed: npt.NDArray[np.int64] = np.take_along_axis(budgets, order, axis=1)[np.isfinite(nearest)]
    return needed


def _budget(needed: npt.NDArray[np.int64], recall: float) -> tuple[int, float]:
    """The least budget with that recall, and the recall it has; the largest useful one if none reaches it."""
    found = np.sort(needed[needed >= 0])
    if found.size == 0:
        return 1, 0.0
    # Not recall * size rounded up: 0.55 * 100 is a little more than 55.
    rank = int(np.searchsorted(np.arange(1, needed.size + 1) / needed.size, recall))
    budget = int(found[min(rank, found.size - 1)])
    return budget, float(np.searchsorted(found, budget, side="right") / needed.size)


def _curve(needed: npt.NDArray[np.int64], method: Literal["forest", "cells"], k: int, sample_rows: int) -> RecallCurve:
    points: list[RecallPoint] = []
    for level in _LEVELS:
        budget, recall = _budget(needed, level)
        if not points or budget > points[-1].search_k:
            points.append(RecallPoint(search_k=budget, recall=recall))
    return RecallCurve(method=method, k=k, sample_rows=sample_rows, points=tuple(points))

"""Plans, estimates, budgets and recall: pure functions of what is known before and after a build."""

from __future__ import annotations

from dask_annoy.planning.differences import differences, identity_differences
from dask_annoy.planning.estimate import Estimate
from dask_annoy.planning.plan import BUILDER_VERSION, BuildPlan, Identity, SlotPlan, make_plan
from dask_annoy.planning.plan_file import read_plan, write_plan
from dask_annoy.planning.tuning import MOST_BUDGET, budget_for, mix, recall_within, tune

__all__ = [
    "BUILDER_VERSION",
    "MOST_BUDGET",
    "BuildPlan",
    "Estimate",
    "Identity",
    "SlotPlan",
    "budget_for",
    "differences",
    "identity_differences",
    "make_plan",
    "mix",
    "read_plan",
    "recall_within",
    "tune",
    "write_plan",
]

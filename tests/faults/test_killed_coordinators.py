"""The coordinator is killed before each change that it makes to storage: in steps of an index's life and in repairs."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from dask_annoy_fault_kills import Check, Kill, Take, check_step, count_changes, kill_and_finish
from dask_annoy_fault_life import STEPS
from dask_annoy_fault_repairs import REPAIRS, check_repair

pytestmark = pytest.mark.timeout(600)
BATCH = 8


def check_kills(source: Path | None, work: Path, take: Take, check: Check, *, is_full: bool) -> int:
    """Kill a coordinator at each change, or at some; return at how many. AssertionError if anything is wrong then."""
    context: Any = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(2, mp_context=context, max_tasks_per_child=1) as pool:
        changes = pool.submit(count_changes, source, work / "undisturbed", take).result(120)
        points = range(changes) if is_full else sorted({changes * part // 6 for part in range(6)} | {changes - 1})
        kills = [Kill(at, halve=at % 2 == 1) for at in points]
        batches = [kills[first : first + BATCH] for first in range(0, len(kills), BATCH)]
        results = [pool.submit(kill_and_finish, source, work, take, check, batch) for batch in batches]
        wrong = [trouble for result in results for trouble in result.result()]
    assert changes >= 3
    assert not wrong, "\n".join([f"{len(wrong)} of {len(kills)}:", *wrong[:5]])
    return len(kills)


@pytest.mark.parametrize("step", STEPS)
def test_a_coordinator_killed_anywhere_loses_nothing_and_the_same_command_finishes(
    step: str, lives: dict[str, Path], tmp_path: Path, is_full: bool, record_property: Any
) -> None:
    names = list(STEPS)
    place = names.index(step)
    source = lives[names[place - 1]] if place else None
    check = partial(check_step, step, lives[step])
    record_property("fault points", check_kills(source, tmp_path, STEPS[step], check, is_full=is_full))


@pytest.mark.parametrize("source", REPAIRS)
def test_a_repair_killed_anywhere_loses_nothing_and_the_same_command_finishes(
    source: str, lives: dict[str, Path], tmp_path: Path, is_full: bool, record_property: Any
) -> None:
    if not is_full and source != "memory":
        pytest.skip("runs with --faults=full")
    repair = REPAIRS[source]
    repair.prepare(lives[repair.after], tmp_path / "damaged")
    check = partial(check_repair, source)
    points = check_kills(tmp_path / "damaged", tmp_path, repair.take, check, is_full=is_full)
    record_property("fault points", points)

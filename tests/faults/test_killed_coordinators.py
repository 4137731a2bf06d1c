"""The coordinator is killed before each change that it makes to storage, in every step of an index's life."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from dask_annoy_fault_kills import Kill, count_changes, kill_and_finish
from dask_annoy_fault_life import STEPS

pytestmark = pytest.mark.timeout(600)
BATCH = 8


@pytest.mark.parametrize("step", STEPS)
def test_a_coordinator_killed_anywhere_loses_nothing_and_the_same_command_finishes(
    step: str, lives: dict[str, Path], tmp_path: Path, is_full: bool, record_property: Any
) -> None:
    names = list(STEPS)
    place = names.index(step)
    source = lives[names[place - 1]] if place else None
    context: Any = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(2, mp_context=context, max_tasks_per_child=1) as pool:
        changes = pool.submit(count_changes, source, tmp_path / "undisturbed", step).result(120)
        points = range(changes) if is_full else sorted({changes * part // 6 for part in range(6)} | {changes - 1})
        kills = [Kill(step, at, halve=at % 2 == 1) for at in points]
        batches = [kills[first : first + BATCH] for first in range(0, len(kills), BATCH)]
        results = [pool.submit(kill_and_finish, source, lives[step], tmp_path, batch) for batch in batches]
        wrong = [trouble for result in results for trouble in result.result()]
    record_property("fault points", len(kills))
    assert changes >= 3
    assert not wrong, "\n".join([f"{len(wrong)} of {len(kills)}:", *wrong[:5]])

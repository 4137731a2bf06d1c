"""Writers that are halted, late, or at the same time as others. Importable by processes that tests start."""

from __future__ import annotations

import datetime
import signal
import time
from typing import Any

import numpy as np
from dask_annoy_fault_kills import fingerprint
from dask_annoy_fault_life import ROWS, RULES, STEPS
from dask_annoy_fault_points import AtChange, watch

from dask_annoy import build_index, open_index
from dask_annoy.errors import CommitConflictError, IndexExistsError, InvalidIdsError
from dask_annoy.storage import IndexFolder


def halted_step(url: str, step: str, at: int, outcomes: Any) -> None:
    """Take a step, and stop this process before change number `at`, until somebody continues it."""
    watch(url, AtChange(at, signal.SIGSTOP))
    try:
        index = STEPS[step](IndexFolder(url), False)
    except Exception as error:
        outcomes.put(f"{type(error).__name__}: {error}")
    else:
        outcomes.put(fingerprint(index))


def step_by_another_clock(url: str, step: str, hours: float, at: int, outcomes: Any) -> None:
    """As `halted_step`, in a process whose clock is wrong."""
    right = time.time
    time.time = lambda: right() + hours * 3600
    halted_step(url, step, at, outcomes)


def step_at_once(url: str, step: str, barrier: Any, outcomes: Any) -> None:
    """The same step as others at the same time."""
    barrier.wait(100)
    try:
        index = STEPS[step](IndexFolder(url), False)
    except Exception as error:
        outcomes.put(f"{type(error).__name__}: {error}")
    else:
        outcomes.put(fingerprint(index))


def clean_up_by_another_clock(url: str, hours: float, outcomes: Any) -> None:
    """Delete what is older than an hour, in a process whose clock is wrong."""
    right = time.time
    time.time = lambda: right() + hours * 3600
    garbage = open_index(url, client=False).gc(datetime.timedelta(hours=1), dry_run=False)
    outcomes.put(garbage.files)


def coordinator(url: str, options: dict[str, Any], writer: int, rounds: int, barrier: Any, outcomes: Any) -> None:
    """Races another one: the same build, other builds, the same ids, other ids, deletions and compactions."""
    done: list[tuple[str, Any]] = []
    try:
        for turn in range(rounds):
            where = f"{url}/{turn // 5}"
            barrier.wait(100)
            done.append(_take_turn(where, options, writer, turn))
    except Exception as error:
        barrier.abort()
        outcomes.put((writer, f"{type(error).__name__}: {error}"))
    else:
        outcomes.put((writer, done))


def _take_turn(url: str, options: dict[str, Any], writer: int, turn: int) -> tuple[str, Any]:
    kind = ("build", "append", "claim", "delete", "upsert")[turn % 5]
    try:
        if kind == "build":
            same = turn // 5 % 2 == 0  # two builds of the same rows, or of others
            rows = ROWS[:60] if same else ROWS[60 * writer : 60 * writer + 60]
            build_index(rows, url, ids=np.arange(60), **RULES, storage_options=options, client=False)
            return kind, "same" if same else writer
        index = open_index(url, storage_options=options, client=False)
        if kind == "append":  # other ids: both succeed
            index.append(ROWS[200 + writer : 201 + writer], np.array([1000 + writer]))
        elif kind == "claim":  # the same id: one succeeds
            index.append(ROWS[210 + writer : 211 + writer], np.array([2000]))
        elif kind == "delete":  # partly the same: both succeed
            index.delete(np.arange(10 * writer, 10 * writer + 15), missing="ignore")
        else:  # the same id again: both succeed, the later one stays
            index.upsert(ROWS[220 + writer : 221 + writer], np.array([2000]))
    except (CommitConflictError, IndexExistsError, InvalidIdsError) as error:
        return kind, type(error).__name__
    return kind, True

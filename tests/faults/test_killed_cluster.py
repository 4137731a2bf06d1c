"""A worker, a nanny or the scheduler is killed while the steps of an index's life run on a cluster."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import dask
import pytest
from dask_annoy_fault_kills import check_nothing_half_done_is_seen, fingerprint
from dask_annoy_fault_life import CONTENTS, STEPS, check_holds, opened

from dask_annoy.storage import IndexFolder

from .dask_processes import DaskProcesses

pytestmark = pytest.mark.timeout(600)
SECONDS = 120
ON_WORKERS = [step for step in STEPS if step != "gc"]
#: Changes and readings of one worker, after which the victim is killed.
POINTS = {"build": (0, 13), "append": (9,), "upsert": (15,), "delete": (0,), "compact": (5, 16)}


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskProcesses]:
    made = DaskProcesses(tmp_path_factory.mktemp("cluster"))
    yield made
    made.close()


def prepared(processes: DaskProcesses, lives: dict[str, Path], step: str, label: str) -> IndexFolder:
    names = list(STEPS)
    place = names.index(step)
    path = processes.indexes / f"{step}-{label}"
    if place:
        shutil.copytree(lives[names[place - 1]], path)
    return IndexFolder(str(path))


def within(seconds: float, function: Any, *arguments: Any) -> Any:
    """Call a function that must not hang, in a thread that is given up if it does."""
    outcome: Future[Any] = Future()

    def call() -> None:
        try:
            outcome.set_result(function(*arguments))
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=call, daemon=True).start()
    return outcome.result(seconds)


@pytest.mark.parametrize("victim", ["worker", "nanny"])
@pytest.mark.parametrize("step", ON_WORKERS)
def test_a_step_survives_the_loss_of_a_worker_and_of_its_nanny(
    processes: DaskProcesses, lives: dict[str, Path], step: str, victim: str, is_full: bool
) -> None:
    if not is_full and (step, victim) not in {("build", "worker"), ("delete", "nanny")}:
        pytest.skip("runs with --faults=full")
    points = POINTS[step] if is_full else POINTS[step][:1]
    done = []
    for at in points:
        folder = prepared(processes, lives, step, f"{victim}-{at}")
        client = processes.start(2)
        order = processes.order(victim, at)
        index = within(SECONDS, STEPS[step], folder, client)
        done.append(processes.is_done(order))
        check_holds(opened(folder, False), CONTENTS[step])
        check_holds(opened(folder, processes.start(2)), CONTENTS[step])
        assert fingerprint(index) == fingerprint(opened(IndexFolder(str(lives[step])), False))
    assert any(done), "nobody was killed"


@pytest.mark.parametrize("step", ON_WORKERS)
def test_a_step_whose_scheduler_is_killed_ends_and_the_same_command_finishes_on_another_cluster(
    processes: DaskProcesses, lives: dict[str, Path], step: str, is_full: bool
) -> None:
    if not is_full and step != "append":
        pytest.skip("runs with --faults=full")
    folder = prepared(processes, lives, step, "scheduler")
    client = processes.start(2)
    order = processes.order("scheduler", POINTS[step][-1])
    ended: Exception | None = None
    try:
        # How long Dask tries to reach a scheduler that is gone; the other tests have a minute for slow starts.
        with dask.config.set({"distributed.comm.timeouts.connect": "5s"}):
            within(SECONDS, STEPS[step], folder, client)
    except Exception as error:
        ended = error
    assert type(ended) is not TimeoutError, "the coordinator hangs without its scheduler"
    assert processes.is_done(order)
    check_nothing_half_done_is_seen(folder, step)
    index = within(SECONDS, STEPS[step], folder, processes.start(2))
    check_holds(index, CONTENTS[step])
    check_holds(opened(folder, False), CONTENTS[step])
    assert fingerprint(index) == fingerprint(opened(IndexFolder(str(lives[step])), False)), ended

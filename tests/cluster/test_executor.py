"""Tasks on a cluster: what becomes of them when it is lost, and how many threads they use."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dask
import pytest
from distributed import Client, Future, LocalCluster

from dask_annoy.cluster.executor import ClusterExecutor, Place, run_at_place
from dask_annoy.cluster.settings import current_settings


def wait_for(gate: Path, place: Place) -> None:
    """Run until the gate is open."""
    gate.with_suffix(".begun").touch()
    while not gate.exists():
        time.sleep(0.01)


def threads_of(_: Any, place: Place) -> int:
    return place.n_jobs


def test_work_that_the_cluster_gives_up_is_an_error_and_no_answer(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        running = pool.submit(ClusterExecutor(client).run, wait_for, [gate, gate], label="wait")
        try:
            while not gate.with_suffix(".begun").exists():
                time.sleep(0.01)
            client.cancel([Future(key, client) for key in list(client.futures)], force=True)
            with pytest.raises(RuntimeError, match=r"gave up work that was under way.*run the same again"):
                running.result(timeout=60)
        finally:
            gate.touch()


def test_a_task_that_is_given_twice_is_refused(threaded_client: Client) -> None:
    task = dask.delayed(abs)(-3)
    executor = ClusterExecutor(threaded_client)
    assert executor.compute([task], label="one", weights=[1]) == [3]
    with pytest.raises(ValueError, match="given twice"):
        executor.compute([task, task], label="two", weights=[1, 1])


def test_a_task_uses_no_more_threads_than_its_worker_has(threaded_client: Client) -> None:
    asked = [threaded_client.submit(run_at_place, threads_of, n, current_settings(), n, pure=False) for n in (1, 2, 8)]
    assert threaded_client.gather(asked) == [1, 2, 2]

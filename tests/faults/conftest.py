"""Faults for real: how much of it runs, and a small index with a life behind it."""

from __future__ import annotations

import faulthandler
import multiprocessing
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dask_annoy.storage import IndexFolder, configure_cache

# Processes that tests start get this process's path, and so can import what stands there.
sys.path.append(str(Path(__file__).with_name("importable")))
# They start from one that has imported what they need, or each would take seconds.
multiprocessing.get_context("forkserver").set_forkserver_preload(["dask_annoy", "dask_annoy.cluster", "dask.array"])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--faults") != "large":
        skip = pytest.mark.skip(reason="runs with --faults=large")
        for item in items:
            if item.get_closest_marker("large"):
                item.add_marker(skip)


@pytest.fixture(scope="session")
def is_full(request: pytest.FixtureRequest) -> bool:
    """Whether all faults are tried, and not only some of each kind."""
    return request.config.getoption("--faults") != "short"


@pytest.fixture(autouse=True)
def _own_time_limit(request: pytest.FixtureRequest) -> None:
    """Tests with a limit of their own end, with all stacks, at that: not dumped before, from outside of Python."""
    if request.node.get_closest_marker("timeout"):
        faulthandler.cancel_dump_traceback_later()


@pytest.fixture(autouse=True)
def _cache_of_its_own() -> Iterator[None]:
    yield
    configure_cache()


@pytest.fixture(scope="session")
def lives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of an index as it is after each step of its life."""
    from dask_annoy_fault_life import STEPS

    folders: dict[str, Path] = {}
    root = tmp_path_factory.mktemp("lives")
    current = root / "index"
    for step, take in STEPS.items():
        take(IndexFolder(str(current)), False)
        folders[step] = root / step
        shutil.copytree(current, folders[step])
    return folders

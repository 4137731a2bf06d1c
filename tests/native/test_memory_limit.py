"""AnnoyIndex: memory that stays under a bound, and disks that fill up, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dask_annoy import AnnoyIndex

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and sets Linux's limits")

N, F = 50_000, 256  # 53 MB of items: half of it would not fit beside Python under the bounds below

PREAMBLE = f"""
import os, resource, sys
import numpy as np
from dask_annoy import AnnoyIndex, estimate_build

N, F = {N}, {F}
folder = sys.argv[1]

def status(name):
    return 1024 * int(open("/proc/self/status").read().split(name + ":")[1].split()[0])

def index_of(path=None):
    index = AnnoyIndex(F, "euclidean")
    if path:
        index.on_disk_build(path)
    for start in range(0, N, 1000):
        index.add_items(np.random.default_rng(start).normal(size=(1000, F)).astype(np.float32))
    return index
"""


def run_apart(code: str, folder: Path) -> None:
    done = subprocess.run([sys.executable, "-c", PREAMBLE + code, str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_adding_building_saving_and_loading_keep_to_the_bound_and_give_the_same_bytes(tmp_path: Path) -> None:
    run_apart(
        """
before = status("VmRSS")
limit = before + 30_000_000
with index_of(folder + "/bounded") as index:
    index.build(3, memory_limit=limit)
    index.save(folder + "/bounded")
with index_of(folder + "/copied") as index:
    index.build(3, memory_limit=limit)
    index.save(folder + "/copy")
with AnnoyIndex(F, "euclidean") as index:
    index.load(folder + "/copy")
assert status("VmHWM") < limit, (before, limit, status("VmHWM"))
with index_of() as index:
    index.build(3)
    index.save(folder + "/memory")
""",
        tmp_path,
    )
    expected = (tmp_path / "memory").read_bytes()
    assert {path.name for path in tmp_path.iterdir() if path.read_bytes() == expected} == {
        "bounded", "copied", "copy", "memory",
    }  # fmt: skip


def test_pages_that_a_load_has_checked_are_not_the_processs_memory_unless_it_asks_for_them(tmp_path: Path) -> None:
    run_apart(
        """
index = index_of()
index.build(1)
index.save(folder + "/forest")
size = os.path.getsize(folder + "/forest")
for prefault in (False, True):
    with AnnoyIndex(F, "euclidean") as index:
        before = status("RssFile")
        index.load(folder + "/forest", prefault=prefault)
        assert (status("RssFile") - before > 0.9 * size) == prefault
        assert (status("RssFile") - before < 0.1 * size) != prefault
""",
        tmp_path,
    )


def test_pages_that_searches_have_looked_at_are_let_go_and_come_back_when_they_are_needed(tmp_path: Path) -> None:
    run_apart(
        """
with index_of() as index:
    index.build(1)
    index.save(folder + "/forest")
    index.build_cells()
    (__import__("pathlib").Path(folder) / "cells").write_bytes(index._cells_to_bytes())
size = os.path.getsize(folder + "/forest") + os.path.getsize(folder + "/cells")
with AnnoyIndex(F, "euclidean") as index:
    before = status("RssFile")
    index.load(folder + "/forest")
    index._open_cells(folder + "/cells")
    def ask():
        return index.get_item_vectors().sum(), index.get_nns_by_item(7, 20, N, include_distances=True)
    answers = ask()
    assert status("RssFile") - before > 0.8 * size
    index._release_pages()
    assert status("RssFile") - before < 0.1 * size
    assert ask() == answers
""",
        tmp_path,
    )


@pytest.mark.parametrize(
    ("most", "limit", "named"),
    [(1.5, "before + 30_000_000", "the scratch file beside '{folder}/forest'"), (1.05, "None", "'{folder}/forest'")],
    ids=["scratch", "forest"],
)
def test_a_disk_that_is_full_is_an_os_error_that_names_the_file_and_the_build_can_be_repeated(
    tmp_path: Path, most: float, limit: str, named: str
) -> None:
    run_apart(
        f"""
before = status("VmRSS")
index = index_of(folder + "/forest")
size = os.path.getsize(folder + "/forest")
allowed = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (int({most} * size), allowed[1]))
try:
    index.build(12, memory_limit={limit})
except OSError as error:
    assert {named!r}.format(folder=folder) in str(error), error
    assert "File too large" in str(error), error
else:
    raise AssertionError("it fitted")
resource.setrlimit(resource.RLIMIT_FSIZE, allowed)
assert os.listdir(folder) == ["forest"]
assert os.path.getsize(folder + "/forest") == size
assert index.get_n_items() == N and index.get_n_trees() == 0
index.build(12, memory_limit={limit})
index.save(folder + "/forest")
""",
        tmp_path,
    )
    with AnnoyIndex(F, "euclidean") as index:
        index.load(str(tmp_path / "forest"))
        assert index.get_n_trees() == 12
        assert index.get_nns_by_item(7, 1) == [7]


def test_a_bound_that_no_build_keeps_to_is_refused_with_the_least_that_will_do(tmp_path: Path) -> None:
    run_apart(
        """
index = index_of(folder + "/forest")
try:
    index.build(3, memory_limit=status("VmRSS") + 1_000_000)
except ValueError as error:
    assert "needs at least" in str(error)
else:
    raise AssertionError("it kept to it")
assert index.get_n_trees() == 0
assert index.build(3)
""",
        tmp_path,
    )


def test_making_cells_keeps_to_the_bound_and_gives_the_same_bytes(tmp_path: Path) -> None:
    run_apart(
        """
with index_of(folder + "/forest") as index:
    index.build(1, memory_limit=status("VmRSS") + 30_000_000)
    index.save(folder + "/forest")
    # The mark of the build is wiped out, to see that of the cells.
    open("/proc/self/clear_refs", "w").write("5")
    limit = status("VmRSS") + 50_000_000  # the items alone have 53 MB, and a sample of theirs 17
    index.build_cells(memory_limit=limit)
    assert status("VmHWM") < limit, (limit, status("VmHWM"))
    index.save(folder + "/forest")
with AnnoyIndex(F, "euclidean") as index:
    index.load(folder + "/forest")
    index.build_cells()
    open(folder + "/unbounded", "wb").write(index._cells_to_bytes())
    try:
        index.build_cells(memory_limit=status("VmRSS") + 1_000_000)
        sys.exit("took a bound that it cannot keep to")
    except ValueError as error:
        assert "at least" in str(error), error
""",
        tmp_path,
    )
    assert (tmp_path / "forest.cells").read_bytes() == (tmp_path / "unbounded").read_bytes()

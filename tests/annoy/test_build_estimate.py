"""estimate_build, next to what builds take."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dask_annoy import AnnoyIndex, BuildEstimate, estimate_build
from dask_annoy._native import metric_names

MEASURE = """
import json, sys
import numpy as np
from dask_annoy import AnnoyIndex, estimate_build

n, f, metric, n_trees, on_disk, bound, path = json.loads(sys.argv[1])

def status(name):
    return 1024 * int(open("/proc/self/status").read().split(name + ":")[1].split()[0])

rng = np.random.default_rng(0)
packed = metric == "hamming"
rows = rng.integers(0, 256, (n, f // 8), dtype=np.uint8) if packed else rng.normal(size=(n, f)).astype(np.float32)
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # VmHWM counts from here
before = status("VmRSS")
limit = None if bound is None else before + bound
estimate = estimate_build(n, f, metric, n_trees, n_jobs=2, on_disk=on_disk, memory_limit=limit)
index = AnnoyIndex(f, metric)
if on_disk:
    index.on_disk_build(path)
for start in range(0, n, 1000):
    index.add_items(rows[start : start + 1000], packed=packed)
index.build(n_trees, n_jobs=2, memory_limit=limit)
print(json.dumps([estimate.memory_bytes, status("VmHWM") - before]))
"""


def file_size(n: int, f: int, metric: str, n_trees: int) -> int:
    rows = np.random.default_rng(0).normal(size=(n, f)).astype(np.float32)
    with AnnoyIndex(f, metric) as index:
        index.add_items(rows if metric != "hamming" else rows > 0)
        index.build(n_trees)
        return len(index.to_bytes())


@pytest.mark.parametrize("metric", metric_names())
@pytest.mark.parametrize(
    ("n", "f", "n_trees"), [(1000, 3, 20), (20_000, 10, 10), (5000, 64, 50), (3000, 300, 10), (2000, 40, -1)]
)
def test_the_file_is_predicted_within_a_fifth(metric: str, n: int, f: int, n_trees: int) -> None:
    size = file_size(n, f, metric, n_trees)
    assert estimate_build(n, f, metric, n_trees).file_bytes == pytest.approx(size, rel=0.2)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("n", "f", "metric", "n_trees", "on_disk", "bound"),
    [
        (200_000, 16, "angular", 20, False, None),
        (60_000, 256, "euclidean", 10, False, None),
        (60_000, 128, "dot", 20, False, None),
        (8000, 1500, "angular", 10, False, None),
        (400_000, 64, "hamming", 20, False, None),
        (100_000, 128, "manhattan", 10, True, None),
        (100_000, 128, "euclidean", 10, True, 30_000_000),
    ],
)
def test_memory_is_predicted_never_below_what_is_taken_nor_half_as_much_again_above(
    tmp_path: Path, n: int, f: int, metric: str, n_trees: int, on_disk: bool, bound: int | None
) -> None:
    job = json.dumps([n, f, metric, n_trees, on_disk, bound, str(tmp_path / "forest")])
    done = subprocess.run([sys.executable, "-c", MEASURE, job], capture_output=True, text=True, check=True)
    predicted, taken = json.loads(done.stdout)
    assert predicted <= 1.5 * taken
    if bound is None:
        assert taken <= predicted
    else:  # so little that what the allocator keeps of each thread's counts; it has its place under the bound
        assert max(taken, predicted) <= bound
        assert taken <= 1.3 * predicted


def test_a_bound_turns_pages_of_the_file_into_room_beside_it() -> None:
    free = estimate_build(1_000_000, 128, "euclidean", 10, on_disk=True)
    bound = estimate_build(
        1_000_000, 128, "euclidean", 10, on_disk=True, memory_limit=free.least_memory_limit + 50_000_000
    )
    assert free.scratch_bytes == 0 < bound.scratch_bytes
    assert bound.memory_bytes < free.memory_bytes
    assert bound.file_bytes == free.file_bytes


def test_the_least_bound_is_one_that_is_kept_to_and_less_is_refused() -> None:
    # Far above what this process's memory changes by between two calls.
    least = estimate_build(2_000_000, 512, "angular", 10, on_disk=True, n_jobs=1).least_memory_limit
    slack = 20_000_000
    assert estimate_build(2_000_000, 512, "angular", 10, on_disk=True, n_jobs=1, memory_limit=least + slack)
    with pytest.raises(ValueError, match="needs at least"):
        estimate_build(2_000_000, 512, "angular", 10, on_disk=True, n_jobs=1, memory_limit=least - slack)


def test_aliases_of_metrics_are_understood_and_estimates_do_not_change() -> None:
    estimate = estimate_build(1000, 8, "l2", 5, n_jobs=1)
    assert estimate.file_bytes == estimate_build(1000, 8, "euclidean", 5, n_jobs=1).file_bytes
    with pytest.raises(dataclasses.FrozenInstanceError):
        estimate.file_bytes = 1  # type: ignore[misc]
    assert isinstance(estimate, BuildEstimate)
    assert estimate_build(0, 8, "l2", 5).file_bytes >= 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"n_items": -1}, "n_items.*-1"),
        ({"f": 0}, "f must be at least 1"),
        ({"metric": "chebyshev"}, "chebyshev"),
        ({"n_trees": 0}, "n_trees.*0"),
        ({"n_jobs": 0}, "n_jobs.*0"),
        ({"memory_limit": -1}, "memory_limit"),
        ({"n_items": 2**31}, "2\\^31"),
    ],
    ids=str,
)
def test_a_bad_parameter_is_named(change: dict[str, Any], said: str) -> None:
    good: dict[str, Any] = {"n_items": 100, "f": 4, "metric": "angular", "n_trees": 3}
    with pytest.raises(ValueError, match=said):
        estimate_build(**{**good, **change})

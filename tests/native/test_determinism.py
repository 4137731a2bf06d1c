"""The same input and seed give the same bytes and the same answers, for any number of threads and any kernels."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dask_annoy import AnnoyIndex
from dask_annoy._native import ExactSearch, active_kernels, available_kernels, metric_names, use_kernels

METRICS = metric_names()


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    yield
    use_kernels("")


def fingerprint(metric: str, folder: Path, n_jobs: int = -1, on_disk: bool = False) -> str:
    """Of a forest's file and of what it answers."""
    vectors = np.random.default_rng(5).normal(size=(1500, 45)).astype(np.float32)
    index = AnnoyIndex(45, metric)
    if on_disk:
        index.on_disk_build(str(folder / "forest"))
    index.add_items(vectors)
    index.build(6, n_jobs)
    index.save(str(folder / "forest"))
    answers = index.get_nns_by_vectors(vectors[:50] + np.float32(0.01), 20, 300, True, n_jobs)
    exact = ExactSearch(vectors[:20], metric, 45, 7)
    exact.add(vectors, 0, n_jobs=n_jobs)
    digest = hashlib.sha256((folder / "forest").read_bytes())
    for array in (*answers, *exact.answers()):
        digest.update(array.tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("metric", METRICS)
def test_bytes_and_answers_do_not_depend_on_threads_kernels_or_where_the_forest_is_built(
    metric: str, tmp_path: Path
) -> None:
    expected = fingerprint(metric, tmp_path, n_jobs=1)
    for kernels in available_kernels():
        use_kernels(kernels)
        assert active_kernels() == kernels
        for n_jobs in (1, 2, 5):
            assert fingerprint(metric, tmp_path, n_jobs) == expected
        assert fingerprint(metric, tmp_path, on_disk=True) == expected
    assert fingerprint(metric, tmp_path, n_jobs=-1) == expected


CHILD = """
import importlib.util, pathlib, sys
spec = importlib.util.spec_from_file_location("test_determinism", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
print(module.active_kernels())
for metric in module.METRICS:
    print(module.fingerprint(metric, pathlib.Path(sys.argv[2])))
"""


def run_with_kernels(name: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CHILD, __file__, str(folder)],
        env={**os.environ, "DASK_ANNOY_KERNELS": name, "PYTHONHASHSEED": "random"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_environment_chooses_the_kernels_and_the_bytes_stay(tmp_path: Path) -> None:
    expected = [fingerprint(metric, tmp_path) for metric in METRICS]
    for kernels in available_kernels():
        child = run_with_kernels(kernels, tmp_path)
        assert child.returncode == 0, child.stderr
        assert child.stdout.split() == [kernels, *expected]


def test_unknown_kernels_in_the_environment_are_refused_by_name(tmp_path: Path) -> None:
    child = run_with_kernels("abacus", tmp_path)
    assert child.returncode != 0
    assert "ValueError: the environment variable DASK_ANNOY_KERNELS asks for the kernels 'abacus'" in child.stderr


def test_unknown_kernels_are_refused_and_those_in_use_stay() -> None:
    before = active_kernels()
    with pytest.raises(ValueError, match=r"'abacus'.*unknown.*baseline"):
        use_kernels("abacus")
    assert active_kernels() == before


def test_a_forest_built_after_unbuild_is_the_same(tmp_path: Path) -> None:
    vectors = np.random.default_rng(5).normal(size=(1500, 45)).astype(np.float32)
    saved = []
    for rounds in (1, 3):
        index = AnnoyIndex(45, "dot")
        index.add_items(vectors)
        for round_ in range(rounds):
            if round_ > 0:
                index.unbuild()
            index.build(4)
        index.save(str(tmp_path / "x"))
        saved.append((tmp_path / "x").read_bytes())
    assert saved[0] == saved[1]


def test_the_order_in_which_items_are_added_does_not_matter(tmp_path: Path) -> None:
    vectors = np.random.default_rng(6).normal(size=(800, 12)).astype(np.float32)
    order = np.random.default_rng(7).permutation(800)
    saved = []
    for ids in (np.arange(800), order):
        index = AnnoyIndex(12, "angular")
        index.add_items(vectors[ids], ids)
        index.build(4)
        index.save(str(tmp_path / "x"))
        saved.append((tmp_path / "x").read_bytes())
    assert saved[0] == saved[1]


def test_another_seed_grows_another_forest_and_finds_the_same_with_a_full_budget(tmp_path: Path) -> None:
    vectors = np.random.default_rng(6).normal(size=(800, 12)).astype(np.float32)
    saved, answers = [], []
    for seed in (1, 2):
        index = AnnoyIndex(12, "angular")
        index.set_seed(seed)
        index.add_items(vectors)
        index.build(4)
        answers.append(index.get_nns_by_vectors(vectors[:20], 10, -2))
        index.save(str(tmp_path / "x"))
        saved.append((tmp_path / "x").read_bytes())
    assert saved[0] != saved[1]
    np.testing.assert_array_equal(answers[0], answers[1])

"""Our forests against those of annoy 1.17.3: what a file is made of, and what its trees find."""

from __future__ import annotations

from pathlib import Path

import annoy
import numpy as np
import pytest

from dask_annoy import AnnoyIndex
from dask_annoy._native import node_size

from .conftest import ANNOYS_METRICS


@pytest.mark.parametrize("metric", ANNOYS_METRICS)
def test_annoy_finds_as_many_trees_as_we_wrote(tmp_path: Path, metric: str) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(500, 10)).astype(np.float32)
    for n_trees in (1, 2, 7):
        ours = AnnoyIndex(10, metric)
        ours.add_items(vectors)
        ours.build(n_trees)
        ours.save(str(tmp_path / "x.ann"))
        theirs = annoy.AnnoyIndex(10, metric)
        theirs.load(str(tmp_path / "x.ann"))
        assert theirs.get_n_trees() == ours.get_n_trees() == n_trees
        theirs.unload()


@pytest.mark.parametrize("metric", ANNOYS_METRICS)
def test_node_sizes_are_those_of_annoys_files(tmp_path: Path, metric: str) -> None:
    for width in (1, 3, 64, 65, 130):
        theirs = annoy.AnnoyIndex(width, metric)
        theirs.add_item(0, [1.0] * width)
        theirs.build(1)
        theirs.save(str(tmp_path / "x.ann"))
        # One item, one tree and the copy of its root.
        assert (tmp_path / "x.ann").stat().st_size == 3 * node_size(metric, width)


@pytest.mark.parametrize("metric", ANNOYS_METRICS)
def test_recall_is_no_worse_than_annoys(tmp_path: Path, metric: str) -> None:
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(40, 24))
    vectors = (centres[rng.integers(0, 40, 4000)] + 0.5 * rng.normal(size=(4000, 24))).astype(np.float32)
    if metric == "hamming":
        vectors = (vectors > 0).astype(np.float32)
    ours, theirs = AnnoyIndex(24, metric), annoy.AnnoyIndex(24, metric)
    ours.add_items(vectors)
    for i, vector in enumerate(vectors):
        theirs.add_item(i, vector)
    ours.build(8)
    theirs.build(8, 1)
    found = {"ours": 0, "theirs": 0}
    for query in range(0, 4000, 40):
        truth = ours.get_nns_by_item(query, 10, -2, include_distances=True)[1]
        for name, index in (("ours", ours), ("theirs", theirs)):
            # By distance, as hamming has many ties.
            distances = index.get_nns_by_item(query, 10, 400, include_distances=True)[1]
            worst = truth[-1] - 1e-3 if metric == "dot" else truth[-1] + 1e-3
            found[name] += sum(d >= worst if metric == "dot" else d <= worst for d in distances)
    assert found["ours"] >= 0.95 * found["theirs"]

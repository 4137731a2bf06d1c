"""`rebuild` makes another forest of the same vectors and leaves the source alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dask_annoy import Index

Vectors = NDArray[np.float32]
METRICS = ["angular", "euclidean", "manhattan", "hamming", "dot"]


@pytest.mark.parametrize("source", METRICS)
@pytest.mark.parametrize("target", METRICS)
def test_a_rebuilt_index_is_as_one_made_of_the_same_vectors(source: str, target: str, vectors: Vectors) -> None:
    ids = np.arange(500) * 3
    index = Index(metric=source, seed=2)
    index.add_items(vectors, ids)
    before = index.build(3).to_bytes()
    fresh = Index(metric=target, seed=2)
    fresh.add_items(index.to_numpy(), ids)
    rebuilt = index.rebuild(target)
    assert (rebuilt.metric, rebuilt.get_n_trees()) == (target, 3)
    assert rebuilt.to_bytes() == fresh.build(3).to_bytes()
    assert (index.metric, index.to_bytes()) == (source, before)


def test_labels_names_and_parameters_go_along(vectors: Vectors) -> None:
    index = Index(n_neighbors=3, pickle_mode="byte").fit(
        vectors, np.arange(500) % 4, feature_names=list("abcdefghijkl"), n_trees=2
    )
    rebuilt = index.rebuild("l1", n_trees=5, n_jobs=1)
    assert rebuilt.get_params() == {**index.get_params(), "metric": "manhattan"}
    np.testing.assert_array_equal(rebuilt.y, index.y)  # type: ignore[arg-type]
    assert rebuilt.feature_names_in_.tolist() == list("abcdefghijkl")
    assert rebuilt.get_n_trees() == 5


def test_an_index_that_is_not_built_is_rebuilt_with_a_forest(vectors: Vectors) -> None:
    index = Index()
    index.add_items(vectors)
    assert index.rebuild().to_bytes() == Index().fit(vectors).to_bytes()
    assert not index.is_built
    with pytest.raises(RuntimeError, match="without items"):
        Index().rebuild()


def test_the_file_of_the_source_is_never_written_over(vectors: Vectors, tmp_path: Path) -> None:
    index = Index(on_disk_path=tmp_path / "x.ann").fit(vectors, n_trees=3)
    content = (tmp_path / "x.ann").read_bytes()
    (tmp_path / "link.ann").symlink_to(tmp_path / "x.ann")
    for path in (tmp_path / "x.ann", tmp_path / "link.ann"):
        with pytest.raises(ValueError, match=r"uses .* itself: rebuild in another file"):
            index.rebuild("dot", on_disk_path=path)
    saved = Index().fit(vectors, n_trees=3).save(tmp_path / "y.ann")
    with pytest.raises(ValueError, match="itself"):
        saved.rebuild(on_disk_path=tmp_path / "y.ann")
    rebuilt = index.rebuild()  # in memory
    assert rebuilt.on_disk_path is None
    assert (tmp_path / "x.ann").read_bytes() == content
    on_disk = index.rebuild(on_disk_path=tmp_path / "z.ann")
    assert (tmp_path / "z.ann").read_bytes() == on_disk.to_bytes() == rebuilt.to_bytes()

"""`Index` is fitted, cloned and put in pipelines as scikit-learn's estimators are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import ParameterGrid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

from dask_annoy import Index

Vectors = NDArray[np.float32]


def test_fit_adds_and_builds(vectors: Vectors) -> None:
    by_hand = Index()
    by_hand.add_items(vectors)
    fitted = Index()
    assert fitted.fit(vectors, n_trees=4) is fitted
    assert fitted.to_bytes() == by_hand.build(4).to_bytes()
    only_built = Index()
    only_built.add_items(vectors)
    assert only_built.fit(y=np.arange(500), n_trees=4).to_bytes() == fitted.to_bytes()
    np.testing.assert_array_equal(only_built.y, np.arange(500))  # type: ignore[arg-type]


def test_a_fit_that_fails_leaves_the_index_as_it_was(vectors: Vectors, tmp_path: Path) -> None:
    path = tmp_path / "x"
    index = Index(on_disk_path=path).fit(vectors, np.arange(500), n_trees=3)
    before = index.to_bytes()
    bad = vectors.copy()
    bad[3, 3] = np.nan
    for wrong in (
        lambda: index.fit(bad),
        lambda: index.fit(vectors, y=[1]),
        lambda: index.fit(vectors, n_trees=0),
        lambda: index.fit(vectors, n_jobs=-7),
        lambda: index.fit(vectors, feature_names=["a"]),
        lambda: index.fit(reset=False, X=bad[:4], y=[1, 2]),
    ):
        with pytest.raises(ValueError):
            wrong()
        assert index.to_bytes() == before
        assert index.y is not None
        assert len(index.y) == 500


def test_fit_begins_anew_or_goes_on(vectors: Vectors, tmp_path: Path) -> None:
    index = Index().fit(vectors[:100], np.arange(100), n_trees=3)
    index.fit(vectors[100:300], np.arange(100, 300), n_trees=3, reset=False)
    assert index.to_bytes() == Index().fit(vectors[:300], n_trees=3).to_bytes()
    np.testing.assert_array_equal(index.y, np.arange(300))  # type: ignore[arg-type]
    index.fit(vectors[300:310], reset=False, start_index=400)
    assert list(index) == [*range(300), *range(400, 410)]
    found = index.transform([405], input_type="item", n_neighbors=1, return_labels=True, y_fill_value=-1)
    assert [answer.tolist() for answer in found] == [[[405]], [[-1]]]
    assert list(index.fit(vectors[:5], start_index=2)) == [2, 3, 4, 5, 6]
    assert index.y is None
    assert index.fit(vectors[:5, :3]).f == 3
    index.save(tmp_path / "x")
    with pytest.raises(RuntimeError, match="loaded"):
        index.fit(vectors[:5, :3], reset=False)
    assert index.fit(vectors).f == 12


def test_transform_returns_neighbours_then_distances_then_labels(vectors: Vectors) -> None:
    labels = np.array(["even", "odd"])[np.arange(500) % 2]
    index = Index(n_neighbors=4).fit(vectors, labels, n_trees=4)
    ids = index.transform(vectors[:9])
    assert ids.shape == (9, 4)
    np.testing.assert_array_equal(ids[:, 0], np.arange(9))
    neighbors, distances, names = index.transform(vectors[:9], include_distances=True, return_labels=True)
    np.testing.assert_array_equal(neighbors, ids)
    np.testing.assert_array_equal(names, labels[ids])
    np.testing.assert_array_equal(distances, index.kneighbors(vectors[:9])[0])
    np.testing.assert_array_equal(index.transform(np.arange(9), input_type="item"), ids)
    np.testing.assert_array_equal(index.transform(vectors[:9], output_type="vector"), vectors[ids])
    assert not np.isin(index.transform(vectors[:9], exclude_items=[1, 2]), [1, 2]).any()
    other: Any = "both"
    with pytest.raises(ValueError, match="input_type"):
        index.transform(vectors, input_type=other)
    with pytest.raises(ValueError, match="needs labels"):
        Index().fit(vectors).transform(vectors, return_labels=True)


def test_fit_transform_is_both_in_one_call(vectors: Vectors) -> None:
    ids, labels = Index().fit_transform(vectors, np.arange(500), n_trees=4, n_neighbors=3, return_labels=True)
    np.testing.assert_array_equal(ids, Index().fit(vectors, n_trees=4).transform(vectors, n_neighbors=3))
    np.testing.assert_array_equal(labels, ids)


@pytest.mark.parametrize("fill", [None, -1, "none", 0.5])
def test_items_without_a_label_get_the_fill_value(fill: Any, vectors: Vectors) -> None:
    index = Index().fit(vectors[:3], [10, 20, 30])
    index.unbuild().add_item(3, vectors[3])
    _, labels = index.build(2).transform(
        vectors[3:4], n_neighbors=4, return_labels=True, y_fill_value=fill, search_k=10_000
    )
    assert sorted(map(str, labels[0])) == sorted(map(str, [10, 20, 30, fill]))
    assert labels[0][0] == fill


def test_labels_can_be_set_and_taken_away(vectors: Vectors) -> None:
    index = Index()
    index.add_items(vectors[:3], [0, 5, 9])
    index.y = ["a", "b", "c"]
    assert index.build(2).transform([5], n_neighbors=1, input_type="item", return_labels=True)[1].tolist() == [["b"]]
    with pytest.raises(ValueError, match="y has 2 labels for 3 items"):
        index.y = [1, 2]
    index.y = None
    assert index.y is None


def test_a_clone_has_the_parameters_and_nothing_else(vectors: Vectors, tmp_path: Path) -> None:
    index = Index(metric="cosine", n_neighbors=768, seed=12345678, on_disk_path=str(tmp_path / "x")).fit(vectors)
    cloned = clone(index)
    assert type(cloned) is Index
    assert cloned.get_params() == index.get_params()
    assert cloned.is_empty
    assert cloned.set_params(**ParameterGrid({"metric": ["dot"], "n_neighbors": [3]})[0]).metric == "dot"
    assert index.metric == "angular"
    assert index.clone(seed=1).get_params() == {**index.get_params(), "seed": 1}


def test_scikit_learn_sees_whether_it_is_fitted(vectors: Vectors) -> None:
    index = Index()
    with pytest.raises(NotFittedError):
        check_is_fitted(index)
    index.add_items(vectors)
    with pytest.raises(NotFittedError):
        check_is_fitted(index)
    check_is_fitted(index.build(2))
    tags = get_tags(index)
    assert tags.estimator_type is None
    assert tags.transformer_tags is not None
    assert tags.target_tags.required is False


def test_an_index_is_the_last_step_of_a_pipeline(vectors: Vectors) -> None:
    pipeline = make_pipeline(StandardScaler(), Index(n_neighbors=3))
    pipeline.fit(vectors, np.arange(500), index__n_trees=6)
    scaled = StandardScaler().fit_transform(vectors)
    expected = Index(n_neighbors=3).fit(scaled, n_trees=6)
    np.testing.assert_array_equal(pipeline.transform(vectors), expected.transform(scaled))
    assert pipeline.named_steps["index"].get_n_trees() == 6
    assert pipeline.get_feature_names_out().tolist() == ["neighbor_0", "neighbor_1", "neighbor_2"]
    assert clone(pipeline).set_params(index__metric="l1").named_steps["index"].metric == "manhattan"
    assert pipeline.fit_transform(vectors).shape == (500, 3)
    assert "Index" in pipeline._repr_html_()


def test_no_metadata_is_asked_for(vectors: Vectors) -> None:
    index = Index().fit(vectors)
    assert index.get_metadata_routing().fit.requests == {}
    router = index.build_metadata_router(owner="Pipeline")
    assert router.consumes("fit", {"sample_weight"}) == set()


def test_nothing_optional_is_imported_until_it_is_used() -> None:
    code = """
import sys
import numpy as np
from dask_annoy import Index
index = Index(metric="l2").fit(np.eye(8), np.arange(8), n_trees=2)
index.kneighbors(np.eye(8)); index.transform(np.eye(8)); index.to_numpy(); index.to_yaml(); index.clone(); repr(index)
heavy = {"sklearn", "scipy", "pandas", "matplotlib", "dask", "distributed"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_annoy_index_alone_does_not_import_the_high_level_index() -> None:
    code = "import sys, dask_annoy; dask_annoy.AnnoyIndex(2, 'dot'); assert 'dask_annoy.annoy.index' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("package", "extra", "use"),
    [
        ("scipy", "sklearn", "index.kneighbors_graph()"),
        ("scipy", "sklearn", "index.to_scipy_csr()"),
        ("sklearn", "sklearn", "index.__sklearn_tags__()"),
        ("sklearn", "sklearn", "index.get_metadata_routing()"),
        ("pandas", "dataframe", "index.to_pandas()"),
        ("matplotlib", "plot", "index.plot_index()"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(package: str, extra: str, use: str) -> None:
    code = f"""
import importlib.abc, sys
class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {package!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
import numpy as np
from dask_annoy import Index
index = Index().fit(np.eye(9))
try:
    {use}
except ImportError as error:
    assert "pip install 'dask-annoy[{extra}]'" in str(error), error
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", code], check=True)

"""`AnnoyTransformer` in the place of scikit-learn's `KNeighborsTransformer`."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.cluster import DBSCAN, SpectralClustering
from sklearn.datasets import load_digits
from sklearn.manifold import TSNE, Isomap
from sklearn.metrics import adjusted_rand_score
from sklearn.metrics.pairwise import pairwise_distances
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier, KNeighborsTransformer, LocalOutlierFactor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

import dask_annoy
from dask_annoy import AnnoyTransformer

X, Y = load_digits(return_X_y=True)
# Without noise many would be equally near, and which of them is a neighbour would be anyone's choice.
FEW, FEW_Y = X[:300] + np.random.default_rng(1).normal(size=(300, 64)) / 10, Y[:300]
MANY = np.random.default_rng(3).normal(size=(3000, 24))

METRICS = ["euclidean", "l2", "minkowski", "manhattan", "l1", "cityblock", "cosine", "hamming"]


def samples_for(metric: str, rows: NDArray[Any] = FEW) -> NDArray[np.float64]:
    return (rows > 7).astype(np.float64) if metric == "hamming" else np.asarray(rows, np.float64)


@parametrize_with_checks(
    [
        AnnoyTransformer(),
        AnnoyTransformer(mode="connectivity"),
        AnnoyTransformer(metric="cosine"),
        AnnoyTransformer(metric="manhattan", n_jobs=-1),
    ]
)
def test_scikit_learns_own_checks_pass(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.parametrize("mode", ["distance", "connectivity"])
@pytest.mark.parametrize("metric", METRICS)
def test_the_graph_is_that_of_k_neighbors_transformer(metric: str, mode: Any) -> None:
    rows = samples_for(metric)
    expected = KNeighborsTransformer(n_neighbors=6, metric=metric, mode=mode, algorithm="brute")
    mine = AnnoyTransformer(n_neighbors=6, metric=metric, mode=mode)
    for theirs, ours in (
        (expected.fit_transform(rows[:250]), mine.fit_transform(rows[:250])),
        (expected.transform(rows[250:]), mine.transform(rows[250:])),
    ):
        assert isinstance(ours, csr_matrix)
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours.indptr, theirs.indptr)
        if mode == "connectivity" or metric == "hamming":  # whom of many at the same distance is free
            np.testing.assert_allclose(ours.data, theirs.data, atol=1e-12)
        else:
            np.testing.assert_allclose(ours.toarray(), theirs.toarray(), rtol=1e-5, atol=1e-5)  # theirs to itself: 2e-6
    synonyms = {"l2": "euclidean", "minkowski": "euclidean", "l1": "manhattan", "cityblock": "manhattan"}
    assert mine.effective_metric_ == synonyms.get(metric, metric)
    assert mine.n_samples_fit_ == 250
    assert mine.n_features_in_ == 64


def test_angular_is_annoys_distance() -> None:
    graph = AnnoyTransformer(metric="angular").fit_transform(FEW)
    cosine = AnnoyTransformer(metric="cosine").fit_transform(FEW)
    np.testing.assert_array_equal(graph.indices, cosine.indices)
    np.testing.assert_allclose(graph.data, np.sqrt(2 * cosine.data), atol=1e-12)


@pytest.mark.parametrize("n", [200, 3000])
@pytest.mark.parametrize("metric", METRICS)
def test_rows_are_complete_sorted_and_begin_with_the_sample_itself(metric: str, n: int) -> None:
    rows = (MANY[:n] > 0).astype(float) if metric == "hamming" else MANY[:n]
    graph = AnnoyTransformer(n_neighbors=10, metric=metric, search_k=1, n_trees=2, random_state=0).fit_transform(rows)
    np.testing.assert_array_equal(graph.indptr, np.arange(0, 11 * n + 1, 11))
    distances = graph.data.reshape(n, 11)
    neighbors = graph.indices.reshape(n, 11)
    assert (np.diff(distances, axis=1) >= 0).all()
    np.testing.assert_array_equal(neighbors[:, 0], np.arange(n))
    assert (distances[:, 0] == 0).all()
    assert all(len(set(row)) == 11 for row in neighbors.tolist())
    by_scikit_learn = metric if metric != "minkowski" else "euclidean"
    for i in range(0, n, 97):
        true = pairwise_distances(rows[i : i + 1], rows[neighbors[i]], metric=by_scikit_learn)[0]
        np.testing.assert_allclose(distances[i], true, rtol=1e-5, atol=1e-6)


def test_a_search_that_finds_too_few_is_completed_by_a_scan() -> None:
    transformer = AnnoyTransformer(n_neighbors=500, n_trees=1, search_k=1, random_state=0).fit(MANY)
    raw = transformer.index_.get_nns_by_vectors(MANY[:5], 501, 1)
    assert (raw[:, -1] == -1).all()  # else there is nothing to see here
    exact = KNeighborsTransformer(n_neighbors=500).fit(MANY).transform(MANY[:5])
    found = transformer.transform(MANY[:5])
    np.testing.assert_array_equal(found.indices, exact.indices)
    np.testing.assert_allclose(found.data, exact.data, rtol=1e-6, atol=1e-6)


def test_twins_are_each_their_own_first_neighbor() -> None:
    rows = np.repeat(MANY[:300], 20, axis=0)
    for metric in ("euclidean", "cosine"):
        graph = AnnoyTransformer(n_neighbors=4, metric=metric, random_state=0).fit_transform(rows)
        np.testing.assert_array_equal(graph.indices.reshape(-1, 5)[:, 0], np.arange(6000))
        np.testing.assert_array_equal(graph.data, 0)
        others = (
            AnnoyTransformer(metric=metric, random_state=0).fit(rows).kneighbors(n_neighbors=4, return_distance=False)
        )
        assert (others // 20 == np.arange(6000)[:, None] // 20).all()
        assert (others != np.arange(6000)[:, None]).all()


def test_zero_vectors_have_scikit_learns_cosine_distance() -> None:
    rows = np.vstack([np.zeros((2, 3)), np.eye(3), -np.eye(3)])
    queries = rows[::-1]
    distances, _ = AnnoyTransformer(metric="cosine").fit(rows).kneighbors(queries, 8)
    expected = np.sort(pairwise_distances(queries, rows, metric="cosine"), axis=1)
    np.testing.assert_allclose(distances, expected, atol=1e-12)
    assert AnnoyTransformer(n_neighbors=7, metric="cosine").fit_transform(rows).diagonal().tolist() == [0] * 8


def test_small_angles_do_not_drown_in_rounding() -> None:
    rows = np.array([[1, 0], [1, 2e-6], [1, 4e-6], [0, 1]], np.float64)
    distances, indices = AnnoyTransformer(metric="cosine").fit(rows).kneighbors(rows[:1], 3)
    assert indices.tolist() == [[0, 1, 2]]
    np.testing.assert_allclose(distances, [[0, 2e-12, 8e-12]], rtol=1e-5)


def test_kneighbors_and_its_graph_are_scikit_learns() -> None:
    mine = AnnoyTransformer(n_neighbors=4).fit(FEW[:200])
    theirs = KNeighborsTransformer(n_neighbors=4).fit(FEW[:200])
    for queries, k in ((FEW[200:], None), (FEW[200:], 7), (None, None), (None, 7)):
        for ours, expected in zip(mine.kneighbors(queries, k), theirs.kneighbors(queries, k), strict=True):
            np.testing.assert_allclose(ours, expected, rtol=1e-6)
        np.testing.assert_array_equal(
            mine.kneighbors(queries, k, return_distance=False), theirs.kneighbors(queries, k, return_distance=False)
        )
        for mode in ("connectivity", "distance"):
            np.testing.assert_allclose(
                mine.kneighbors_graph(queries, k, mode).toarray(),
                theirs.kneighbors_graph(queries, k, mode).toarray(),
                rtol=1e-6,
            )


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_single_precision_stays_single(dtype: Any) -> None:
    expected = np.float32 if dtype == np.float32 else np.float64
    rows = FEW.astype(dtype)
    for given_rows in (rows, pd.DataFrame(rows)):
        transformer = AnnoyTransformer()
        assert transformer.fit_transform(given_rows).dtype == expected
        assert transformer.transform(given_rows).dtype == expected
        assert transformer.kneighbors()[0].dtype == expected


def test_names_come_in_and_out() -> None:
    table = pd.DataFrame(FEW[:20, :3], columns=["a", "b", "c"])
    transformer = AnnoyTransformer().fit(table)
    assert transformer.feature_names_in_.tolist() == ["a", "b", "c"]
    assert transformer.get_feature_names_out()[[0, -1]].tolist() == ["annoytransformer0", "annoytransformer19"]
    with pytest.warns(UserWarning, match="feature names"):
        transformer.transform(table.to_numpy())


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"metric": "dot"}, "no distance.*cosine"),
        ({"metric": "jaccard"}, "metric must be one of angular, cityblock"),
        ({"mode": "distances"}, "mode must be"),
        ({"n_neighbors": 0}, "n_neighbors must be a positive integer"),
        ({"n_neighbors": 2.5}, "n_neighbors must be a positive integer"),
        ({"n_neighbors": True}, "n_neighbors must be a positive integer"),
        ({"n_trees": 0}, "n_trees must be a positive integer or -1"),
        ({"search_k": 0}, "search_k must be a positive integer, -1 or None"),
        ({"metric": "hamming"}, "other than 0 and 1"),
    ],
)
def test_parameters_out_of_range_are_refused_when_fitting(parameters: dict[str, Any], message: str) -> None:
    transformer = AnnoyTransformer(**parameters)
    with pytest.raises(ValueError, match=message):
        transformer.fit(FEW)


def test_more_neighbors_than_samples_are_refused() -> None:
    assert AnnoyTransformer(n_neighbors=9).fit_transform(FEW[:10]).nnz == 100
    with pytest.raises(ValueError, match="n_neighbors = 11, n_samples_fit = 10"):
        AnnoyTransformer(n_neighbors=10).fit_transform(FEW[:10])
    fitted = AnnoyTransformer(n_neighbors=10, mode="connectivity").fit(FEW[:10])
    assert fitted.transform(FEW[:3]).nnz == 30
    with pytest.raises(ValueError, match="n_neighbors < n_samples_fit"):
        fitted.kneighbors()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("huge", [1e300, -1e39])
def test_numbers_too_large_for_single_precision_are_refused(huge: float) -> None:
    rows = FEW.copy()
    rows[5, 7] = huge
    with pytest.raises(ValueError, match="row 5"):
        AnnoyTransformer().fit(rows)
    with pytest.raises(ValueError, match="row 5"):
        AnnoyTransformer().fit(FEW).transform(rows)


def test_the_same_random_state_gives_the_same_forest_on_any_number_of_threads() -> None:
    def forest(seed: Any, n_jobs: int | None = None) -> bytes:
        return AnnoyTransformer(random_state=seed, n_jobs=n_jobs).fit(MANY).index_.to_bytes()

    assert forest(0) == forest(0, 2) == forest(0, -1) == forest(np.random.RandomState(0))
    assert forest(0) != forest(1)
    np.random.seed(5)  # noqa: NPY002
    drawn = forest(None)
    assert forest(None) != drawn
    np.random.seed(5)  # noqa: NPY002
    assert forest(None) == drawn


def test_a_fitted_transformer_is_pickled_and_cloned() -> None:
    transformer = AnnoyTransformer(n_neighbors=3, metric="cosine", n_trees=7, random_state=1).fit(MANY)
    again = pickle.loads(pickle.dumps(transformer))
    assert (again.transform(MANY[:50]) != transformer.transform(MANY[:50])).nnz == 0
    fresh = clone(transformer)
    assert fresh.get_params() == transformer.get_params()
    assert not hasattr(fresh, "index_")


@given(st.integers(1, 40), st.integers(1, 6), st.integers(1, 40), st.integers(0, 3), st.sampled_from(METRICS))
def test_few_samples_are_answered_exactly(n: int, width: int, k: int, spread: int, metric: str) -> None:
    rows = np.random.default_rng(n * 7 + width).integers(0, 2 if metric == "hamming" else 1 + 10**spread, (n, width))
    k = min(k, n)
    distances, indices = AnnoyTransformer(metric=metric, n_trees=1, search_k=1).fit(rows).kneighbors(rows, k)
    # Given the rows twice: of one array it would call a zero vector's cosine distance to itself 0, and 1 to its equals.
    queries, metric = rows.astype(float), "euclidean" if metric == "minkowski" else metric
    true = pairwise_distances(queries, rows.astype(float), metric=metric)
    np.testing.assert_allclose(distances, np.sort(true, axis=1)[:, :k], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(np.take_along_axis(true, indices, 1), distances, rtol=1e-6, atol=1e-7)


def test_most_neighbors_of_many_samples_are_found() -> None:
    exact = KNeighborsTransformer(n_neighbors=10).fit_transform(X)
    found = AnnoyTransformer(n_neighbors=10, random_state=0).fit_transform(X)
    common = found.astype(bool).multiply(exact.astype(bool)).sum()
    assert common >= 0.98 * 10 * len(X)


# --- what follows in a pipeline


def both(n_neighbors: int, **parameters: Any) -> list[Any]:
    return [
        KNeighborsTransformer(n_neighbors=n_neighbors, **parameters),
        AnnoyTransformer(n_neighbors=n_neighbors, search_k=100_000, **parameters),
    ]


def test_isomap_unfolds_the_same_map() -> None:
    theirs, ours = (
        make_pipeline(step, Isomap(n_neighbors=25, metric="precomputed")).fit_transform(FEW) for step in both(25)
    )
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), rtol=1e-3, atol=1e-3)


def test_tsne_draws_a_map_as_good() -> None:
    parameters = {"metric": "precomputed", "init": "random", "perplexity": 10, "max_iter": 500, "random_state": 0}
    theirs, ours = (make_pipeline(step, TSNE(**parameters)).fit(FEW)[-1] for step in both(40))
    assert ours.embedding_.shape == (300, 2)
    assert ours.kl_divergence_ == pytest.approx(theirs.kl_divergence_, rel=0.1)  # it magnifies roundings


def test_clusters_are_the_same() -> None:
    for make in (
        lambda: DBSCAN(eps=22, min_samples=5, metric="precomputed"),
        lambda: LocalOutlierFactor(n_neighbors=10, metric="precomputed"),
    ):
        theirs, ours = (make_pipeline(step, make()).fit_predict(FEW) for step in both(20))
        np.testing.assert_array_equal(ours, theirs)
    theirs, ours = (
        make_pipeline(
            step, SpectralClustering(5, n_neighbors=25, affinity="precomputed_nearest_neighbors", random_state=0)
        ).fit_predict(FEW)
        for step in both(25)
    )
    assert adjusted_rand_score(ours, theirs) > 0.95  # its clusters have no fixed order


def test_a_classifier_predicts_the_same_and_parameters_are_searched(tmp_path: Path) -> None:
    scores = []
    for step in both(12):
        pipeline = Pipeline(
            [("graph", step), ("classifier", KNeighborsClassifier(metric="precomputed"))], memory=str(tmp_path)
        )
        search = GridSearchCV(
            pipeline,
            {"graph__metric": ["euclidean", "manhattan"], "classifier__n_neighbors": [1, 5, 11]},
            cv=3,
        ).fit(FEW, FEW_Y)
        scores.append(search.cv_results_["mean_test_score"])
        again = clone(pipeline).fit(FEW[:200], FEW_Y[:200])  # now from the cache
        np.testing.assert_array_equal(
            again.predict(FEW[200:]), clone(pipeline).fit(FEW[:200], FEW_Y[:200]).predict(FEW[200:])
        )
    np.testing.assert_allclose(scores[1], scores[0])
    assert scores[0].max() > 0.8


# --- without scikit-learn


def test_a_missing_scikit_learn_is_named_with_its_extra(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "sys.modules['sklearn'] = None\n"
        "import dask_annoy\n"
        "from dask_annoy import *\n"
        "AnnoyIndex(1, 'dot')\n"
        "try:\n"
        "    dask_annoy.AnnoyTransformer\n"
        "except ImportError as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ))
    assert ran.stdout.startswith("MissingExtraError AnnoyTransformer needs")
    assert "dask-annoy[sklearn]" in ran.stdout


def test_it_is_listed_and_scikit_learn_is_loaded_only_for_it() -> None:
    assert "AnnoyTransformer" in dir(dask_annoy)
    code = "import sys, dask_annoy; dir(dask_annoy); print('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"

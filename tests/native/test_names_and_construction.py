"""AnnoyIndex: its names, arguments and construction, subclasses, what goes for all calls."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import annoy
import pytest

import dask_annoy
from dask_annoy import Annoy, AnnoyIndex
from dask_annoy._native import list_capacity, node_size

from .conftest import METRICS

ANNOYS_METHODS = {
    "add_item": ["i", "vector"],
    "build": ["n_trees", "n_jobs"],
    "get_distance": ["i", "j"],
    "get_item_vector": ["i"],
    "get_n_items": [],
    "get_n_trees": [],
    "get_nns_by_item": ["i", "n", "search_k", "include_distances"],
    "get_nns_by_vector": ["vector", "n", "search_k", "include_distances"],
    "load": ["fn", "prefault"],
    "on_disk_build": ["fn"],
    "save": ["fn", "prefault"],
    "set_seed": ["seed"],
    "unbuild": [],
    "unload": [],
    "verbose": ["v"],
}


# --- names and arguments


def test_every_public_method_of_annoy_is_there() -> None:
    public = {name for name in dir(annoy.AnnoyIndex) if not name.startswith("_")}
    assert public - {"f"} == set(ANNOYS_METHODS)
    assert public <= set(dir(AnnoyIndex))


@pytest.mark.parametrize(("name", "arguments"), ANNOYS_METHODS.items())
def test_arguments_have_annoys_names_and_order(name: str, arguments: list[str]) -> None:
    method = getattr(AnnoyIndex, name)
    if inspect.isfunction(method):
        by_name_only = inspect.Parameter.KEYWORD_ONLY
        parts = [p.name for p in inspect.signature(method).parameters.values() if p.kind is not by_name_only]
    else:
        signature = re.match(rf"{name}\((.*)\) -> ", method.__doc__)
        assert signature is not None
        positional = signature[1].split(", *,")[0]  # what we add is taken by name only
        parts = [part.split(":")[0].strip() for part in positional.split(",")]
    assert [part for part in parts if part not in ("self", "/")] == arguments


def test_every_method_says_what_it_does() -> None:
    for name, method in inspect.getmembers(AnnoyIndex, callable):
        if not name.startswith("_"):
            assert len((method.__doc__ or "").strip().splitlines()) > 1, name


def test_arguments_are_taken_by_name_where_annoy_takes_them(tmp_path: Path) -> None:
    index = AnnoyIndex(f=2, metric="angular")
    assert index.add_item(i=0, vector=[1, 0]) is None
    assert index.build(n_trees=2, n_jobs=1) is True
    assert index.get_nns_by_item(i=0, n=1, search_k=-1, include_distances=False) == [0]
    assert index.get_nns_by_vector(vector=[1, 0], n=1, search_k=-1, include_distances=True) == ([0], [0.0])
    assert index.save(fn=str(tmp_path / "x"), prefault=False) is True
    assert index.load(fn=str(tmp_path / "x"), prefault=True) is True


def test_annoy_is_another_name_of_the_index() -> None:
    assert Annoy is AnnoyIndex
    assert "Annoy" in dask_annoy.__all__


# --- construction


def test_the_metric_is_angular_with_a_warning_if_not_given() -> None:
    with pytest.warns(FutureWarning, match="metric"):
        index = AnnoyIndex(3)
    assert (index.f, index.metric) == (3, "angular")


@pytest.mark.parametrize("metric", METRICS)
def test_the_width_and_metric_are_kept_and_cannot_be_changed(metric: str) -> None:
    index = AnnoyIndex(7, metric)
    assert (index.f, index.metric) == (7, metric)
    for name in ("f", "metric"):
        with pytest.raises(AttributeError):
            setattr(index, name, 8)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((3, "cosine"), ValueError),
        ((3, ""), ValueError),
        ((3, 5), TypeError),
        ((3, b"angular"), TypeError),
        ((0, "angular"), ValueError),
        ((-1, "angular"), ValueError),
        ((2**40, "angular"), ValueError),
        ((2**70, "angular"), TypeError),
        (("3", "angular"), TypeError),
        ((3.0, "angular"), TypeError),
        ((), TypeError),
    ],
)
def test_widths_and_metrics_that_make_no_sense_are_refused(arguments: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        AnnoyIndex(*arguments)


# --- the rest


def test_verbose_and_set_seed_are_accepted() -> None:
    index = AnnoyIndex(2, "angular")
    assert index.verbose(True) is True
    assert index.set_seed(5) is None
    assert index.set_seed(-5) is None
    for method, argument in (("verbose", "v"), ("set_seed", "seed"), ("get_item_vector", "i")):
        with pytest.raises(TypeError):
            getattr(index, method)(**{argument: 1})


def test_the_index_can_be_subclassed() -> None:
    class Named(AnnoyIndex):
        def __init__(self, name: str, f: int) -> None:
            super().__init__(f, "euclidean")
            self.name = name

        def get_n_items(self) -> int:
            return 100 + super().get_n_items()

    index = Named("mine", 2)
    index.add_item(0, [1, 2])
    index.build(1)
    assert index.get_n_items() == 101
    assert index.name == "mine"
    assert index.get_nns_by_vector([1, 2], 1) == [0]


def test_a_subclass_that_forgets_to_construct_is_told_so() -> None:
    class Forgetful(AnnoyIndex):
        def __init__(self) -> None:
            pass

    with pytest.raises(TypeError, match="__init__"):
        Forgetful()


@pytest.mark.parametrize("metric", METRICS)
def test_list_capacities_follow_from_the_node_size(metric: str) -> None:
    children = 8 if metric in ("euclidean", "manhattan") else 4
    for width in (1, 5, 64, 100):
        assert list_capacity(metric, width) == (node_size(metric, width) - children) // 4

"""Annoy 1.17.3 and ours through the same story: whatever calls in whatever order, they agree all the way.

Calls that take annoy where it crashes, hangs or loses data are left out, and shown in test_documented_differences:
items after ``build``, numbers of trees or threads below one, ``on_disk_build`` with items there, holes after
``unbuild``, a refused file over a loaded one.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import annoy
import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import dask_annoy

from .conftest import ANNOYS_METRICS
from .reference_search import ForestFile
from .test_differential_answers import as_stored

numbers = st.integers(0, 60)


class SameStory(RuleBasedStateMachine):
    """Two indexes and what is known about them."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.saved: list[Path] = []

    @initialize(metric=st.sampled_from(ANNOYS_METRICS), width=st.integers(1, 70), seed=st.integers(0, 2**32))
    def begin(self, metric: str, width: int, seed: int) -> None:
        self.metric, self.width = metric, width
        self.random = np.random.default_rng(seed)
        self.ours = dask_annoy.AnnoyIndex(width, metric)
        self.theirs = annoy.AnnoyIndex(width, metric)
        self.forget()

    def forget(self) -> None:
        self.vectors: dict[int, np.ndarray] = {}
        self.state = "growing"  # built, loaded
        self.was_unbuilt = self.on_disk = False
        self.file: bytes | None = None  # what both have open

    def teardown(self) -> None:
        if hasattr(self, "theirs"):
            self.theirs.unload()
        shutil.rmtree(self.folder)

    # --- what may happen

    def vector(self) -> np.ndarray:
        kind = self.random.integers(0, 4)
        if kind == 0:
            return np.zeros(self.width, np.float32)
        if kind == 1:
            return self.random.integers(-1, 3, self.width).astype(np.float32)
        if kind == 2 and self.vectors:
            return next(iter(self.vectors.values()))
        return self.random.normal(size=self.width).astype(np.float32)

    @precondition(lambda self: self.state == "growing")
    @rule(i=numbers, count=st.integers(1, 12))
    def add(self, i: int, count: int) -> None:
        if self.was_unbuilt:  # annoy takes the nodes of old trees for items if there are holes
            i = min(i, self.n_items)
        for item in range(i, i + count):
            vector = self.vector()
            assert self.ours.add_item(item, vector) is self.theirs.add_item(item, vector) is None
            self.vectors[item] = vector

    @precondition(lambda self: self.state == "growing" and not self.vectors and not self.on_disk)
    @rule()
    def go_on_disk(self) -> None:
        for name, index in (("ours", self.ours), ("theirs", self.theirs)):
            assert index.on_disk_build(str(self.folder / f"disk of {name}")) is True
        self.on_disk = True

    @precondition(lambda self: self.state == "growing" and self.vectors)
    @rule(n_trees=st.integers(1, 5), n_jobs=st.sampled_from([1, 2, -1]))
    def build(self, n_trees: int, n_jobs: int) -> None:
        assert self.ours.build(n_trees, n_jobs) is self.theirs.build(n_trees, n_jobs) is True
        assert self.ours.get_n_trees() == self.theirs.get_n_trees() == n_trees
        self.state = "built"

    @precondition(lambda self: self.state != "loaded")
    @rule()
    def unbuild(self) -> None:
        assert self.ours.unbuild() is self.theirs.unbuild() is True
        self.was_unbuilt |= self.state == "built"
        self.state = "growing"

    @rule()
    def unload(self) -> None:
        assert self.ours.unload() is self.theirs.unload() is True
        self.theirs.unbuild()  # or annoy takes the empty index for a built one
        self.forget()

    @rule(seed=st.integers(-(2**31), 2**31 - 1))
    def set_seed(self, seed: int) -> None:
        assert self.ours.set_seed(seed) is self.theirs.set_seed(seed) is None

    @rule(loud=st.booleans())
    def be_verbose(self, loud: bool) -> None:
        assert self.ours.verbose(loud) is self.theirs.verbose(loud) is True
        self.theirs.verbose(False)

    @precondition(lambda self: self.state == "built" and not self.on_disk)
    @rule(prefault=st.booleans(), mine=st.booleans())
    def save(self, prefault: bool, mine: bool) -> None:
        """Each writes its own, and goes on with one of the two files, so that their trees are the same from here."""
        paths = [self.folder / f"{len(self.saved)} of {name}" for name in ("ours", "theirs")]
        for index, path in zip((self.ours, self.theirs), paths, strict=True):
            assert index.save(str(path), prefault) is True
        self.saved += paths
        self.open(paths[0] if mine else paths[1], prefault)

    @precondition(lambda self: self.saved)
    @rule(data=st.data(), prefault=st.booleans())
    def load(self, data: st.DataObject, prefault: bool) -> None:
        self.open(data.draw(st.sampled_from(self.saved)), prefault)

    def open(self, path: Path, prefault: bool) -> None:
        assert self.ours.load(str(path), prefault) is self.theirs.load(str(path), prefault) is True
        self.forget()
        self.state, self.file = "loaded", path.read_bytes()
        reference = ForestFile(self.file, self.metric, self.width, 1)
        for i in reference.present:
            self.vectors[i] = np.array(self.theirs.get_item_vector(i), np.float32)
        self.width_of_file = reference.n_items

    # --- what must fail

    @precondition(lambda self: self.state == "loaded")
    @rule()
    def a_loaded_index_cannot_change(self) -> None:
        for index in (self.ours, self.theirs):
            for change in (lambda i: i.add_item(0, [0] * self.width), lambda i: i.build(1), lambda i: i.unbuild()):
                self.must_raise(Exception, lambda index=index, change=change: change(index))

    @precondition(lambda self: self.state == "built")
    @rule()
    def a_built_index_is_not_built_again(self) -> None:
        for index in (self.ours, self.theirs):
            self.must_raise(Exception, lambda index=index: index.build(1))

    @precondition(lambda self: self.state == "growing")
    @rule()
    def what_has_no_trees_is_not_saved(self) -> None:
        for index in (self.ours, self.theirs):
            self.must_raise(OSError, lambda index=index: index.save(str(self.folder / "never")))
        assert not (self.folder / "never").exists()

    @rule(over=st.sampled_from([-1, 0, 1]))
    def numbers_that_are_no_items_are_refused(self, over: int) -> None:
        item = -1 if over < 0 else self.n_items + over
        for index in (self.ours, self.theirs):
            for ask in (
                lambda index: index.get_item_vector(item),
                lambda index: index.get_distance(item, 0),
                lambda index: index.get_nns_by_item(item, 1),
            ):
                self.must_raise(IndexError, lambda index=index, ask=ask: ask(index))

    @rule(change=st.sampled_from([-1, 1]))
    def vectors_of_another_width_are_refused(self, change: int) -> None:
        wrong = [0.0] * (self.width + change)
        for index in (self.ours, self.theirs):
            self.must_raise(IndexError, lambda index=index: index.get_nns_by_vector(wrong, 1))
            if self.state == "growing":
                self.must_raise(IndexError, lambda index=index: index.add_item(0, wrong))

    def must_raise(self, kind: type[Exception], call: Any) -> None:
        try:
            call()
        except kind:
            return
        raise AssertionError("nothing was raised")

    # --- what can be asked

    @property
    def n_items(self) -> int:
        return self.width_of_file if self.file else max(self.vectors, default=-1) + 1

    @rule(n=st.integers(0, 80), search_k=st.sampled_from([-1, -2, 0, 1, 7, 40, 10**6]), by_item=st.booleans())
    def ask(self, n: int, search_k: int, by_item: bool) -> None:
        if by_item and self.n_items:
            item = int(self.random.integers(0, self.n_items))
            query = np.array(self.ours.get_item_vector(item), np.float32)
            answers = [i.get_nns_by_item(item, n, search_k, True) for i in (self.ours, self.theirs)]
        else:
            query = self.vector()
            answers = [i.get_nns_by_vector(query, n, search_k, True) for i in (self.ours, self.theirs)]
        if self.state == "growing":
            assert answers == [([], [])] * 2
            return
        for index, answer in zip((self.ours, self.theirs), answers, strict=True):
            if self.file is not None:
                reference = ForestFile(self.file, self.metric, self.width, index.get_n_trees())
                fault = reference.why_not(as_stored(self.metric, query), n, search_k, answer)
                assert fault is None, f"{type(index)}: {fault}"
        if self.file is None and search_k not in (-2, 10**6):
            return  # trees of their own
        for ids, distances in answers:
            assert len(ids) == len(distances) == len(set(ids))
            assert set(ids) <= set(self.vectors)
        if search_k in (-2, 10**6):
            assert len(answers[0][0]) == len(answers[1][0]) == min(n, len(self.vectors))
            self.assert_close(query, answers[0][1], answers[1][1])

    @precondition(lambda self: len(self.vectors) > 1)
    @rule(data=st.data())
    def compare(self, data: st.DataObject) -> None:
        a, b = (data.draw(st.integers(0, self.n_items - 1)) for _ in range(2))
        self.assert_close(
            np.array(self.ours.get_item_vector(a)), [self.ours.get_distance(a, b)], [self.theirs.get_distance(a, b)]
        )

    def assert_close(self, query: np.ndarray, mine: list[float], its: list[float]) -> None:
        power = 2 if self.metric == "angular" else 1  # the root of a difference near zero magnifies its rounding
        scale = float(np.abs(query).sum()) * 10 if self.metric == "dot" else 10
        np.testing.assert_allclose(np.array(mine) ** power, np.array(its) ** power, rtol=2e-6, atol=1e-6 * scale)

    @invariant()
    def both_tell_the_same_of_themselves(self) -> None:
        if not hasattr(self, "ours"):
            return
        assert self.ours.get_n_items() == self.theirs.get_n_items() == self.n_items
        assert self.ours.f == self.theirs.f == self.width
        for item in {0, self.n_items // 2, self.n_items - 1} if self.n_items else ():
            mine = self.ours.get_item_vector(item)
            assert mine == self.theirs.get_item_vector(item)
            expected = self.vectors.get(item, np.zeros(self.width, np.float32))
            assert mine == ((expected > 0.5) if self.metric == "hamming" else expected).astype(float).tolist()


TestSameStory = SameStory.TestCase
TestSameStory.settings = settings(max_examples=max(100, settings.default.max_examples))  # stories are short

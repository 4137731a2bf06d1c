"""Any life of an index, with crashes as moves of it, against a dictionary of what it must hold."""

from __future__ import annotations

import contextlib
import datetime
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from dask_annoy import ShardedIndex, build_index, open_index
from dask_annoy.errors import InvalidIdsError
from dask_annoy.storage import IndexFolder

ROWS = np.random.default_rng(9).normal(size=(2000, 4)).astype(np.float32)
RULES: dict[str, Any] = {"shard_rows": 12, "n_trees": 1, "metric": "euclidean", "client": False}
FIRST = 20
EVERYTHING = 10**6
IDS = st.lists(st.integers(0, 60), min_size=1, max_size=15, unique=True)
#: None: no crash; else the storage call that is the last, and whether it was carried out.
CRASHES = st.none() | st.tuples(st.integers(0, 40), st.booleans())
CALLS = (
    "write_bytes",
    "upload",
    "create",
    "delete",
    "delete_found",
    "delete_tree",
    "read_bytes",
    "download",
    "list",
    "size",
)


class Crash(BaseException):
    """The process is gone: nothing that it does now reaches storage."""


@contextlib.contextmanager
def crashing(at: int, carried_out: bool) -> Iterator[None]:
    """Let storage call number `at` be the last one."""
    lock, seen = threading.Lock(), 0
    originals = {name: getattr(IndexFolder, name) for name in CALLS}

    def wrapped(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal seen
            with lock:
                number, seen = seen, seen + 1
            if number < at:
                return original(*arguments, **options)
            if number == at and carried_out:
                original(*arguments, **options)
            raise Crash

        return call

    try:
        for name, original in originals.items():
            setattr(IndexFolder, name, wrapped(original))
        yield
    finally:
        for name, original in originals.items():
            setattr(IndexFolder, name, original)


Content = dict[int, int]
"""Which row each id has."""


class Life(RuleBasedStateMachine):
    """What is done to an index, and what it must hold then."""

    def __init__(self) -> None:
        super().__init__()
        self.url = tempfile.mkdtemp(prefix="dask-annoy-life-")
        self.used = FIRST
        self.versions: dict[int, Content] = {}
        self.tags: dict[str, int] = {}

    def teardown(self) -> None:
        shutil.rmtree(self.url)

    @property
    def content(self) -> Content:
        return self.versions[max(self.versions)]

    def open(self, version: int | str | None = None) -> ShardedIndex:
        return open_index(self.url, version=version, client=False)

    def do(self, action: Callable[[], object], expected: Content, crash: tuple[int, bool] | None) -> None:
        """Take an action; if it crashes on its way, look what is there, and take it again."""
        before = max(self.versions, default=0)
        if crash is not None:
            with crashing(*crash), contextlib.suppress(Crash):
                action()
            if before:
                self.find_versions(before, expected)
                self.check()
        action()
        self.find_versions(before, expected)

    def find_versions(self, before: int, expected: Content) -> None:
        for version in range(before + 1, self.open().version + 1):
            self.versions[version] = expected

    def new_rows(self, count: int) -> tuple[Any, range]:
        numbers = range(self.used, self.used + count)
        self.used += count
        return ROWS[numbers.start : numbers.stop], numbers

    @initialize(crash=CRASHES)
    def build(self, crash: tuple[int, bool] | None) -> None:
        self.do(self.build_it, {row: row for row in range(FIRST)}, crash)
        assert self.open().version == 1

    def build_it(self) -> ShardedIndex:
        return build_index(ROWS[:FIRST], self.url, ids=np.arange(FIRST), **RULES)

    @rule()
    def build_again(self) -> None:
        version = max(self.versions)
        assert self.build_it().version == version

    @rule(ids=IDS, on_duplicate=st.sampled_from(["raise", "keep", "replace"]), crash=CRASHES)
    def append(self, ids: list[int], on_duplicate: Any, crash: tuple[int, bool] | None) -> None:
        rows, numbers = self.new_rows(len(ids))
        new = dict(zip(ids, numbers, strict=True))
        if on_duplicate == "raise" and new.keys() & self.content.keys():
            with pytest.raises(InvalidIdsError, match="are in the index"):
                self.open().append(rows, np.array(ids))
            return
        expected = new | self.content if on_duplicate == "keep" else self.content | new
        self.do(lambda: self.open().append(rows, np.array(ids), on_duplicate=on_duplicate), expected, crash)

    @rule(ids=IDS, crash=CRASHES)
    def delete(self, ids: list[int], crash: tuple[int, bool] | None) -> None:
        expected = {key: row for key, row in self.content.items() if key not in ids}
        self.do(lambda: self.open().delete(np.array(ids), missing="ignore"), expected, crash)

    @rule(max_deleted=st.sampled_from([0.0, 0.2]), crash=CRASHES)
    def compact(self, max_deleted: float, crash: tuple[int, bool] | None) -> None:
        self.do(lambda: self.open().compact(max_deleted=max_deleted), self.content, crash)

    @rule(data=st.data(), crash=CRASHES)
    def roll_back(self, data: st.DataObject, crash: tuple[int, bool] | None) -> None:
        version = data.draw(st.sampled_from(sorted(self.versions)))
        self.do(lambda: self.open().rollback(version), self.versions[version], crash)

    @rule(data=st.data(), name=st.sampled_from(["a", "b", "c"]))
    def tag(self, data: st.DataObject, name: str) -> None:
        if name in self.tags:
            self.open().untag(name)
        self.tags[name] = data.draw(st.sampled_from(sorted(self.versions)))
        self.open(self.tags[name]).tag(name)

    @precondition(lambda self: self.tags)
    @rule(data=st.data())
    def untag(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.tags)))
        self.open().untag(name)
        del self.tags[name]

    @rule(crash=CRASHES)
    def clean_up(self, crash: tuple[int, bool] | None) -> None:
        kept = {max(self.versions), *self.tags.values()}
        if crash is not None:
            with crashing(*crash), contextlib.suppress(Crash):
                self.open().gc(datetime.timedelta(0), dry_run=False)
            there = {info.version for info in self.open().versions()}
            assert kept <= there <= set(self.versions)
            self.versions = {version: self.versions[version] for version in there}
            self.check()
        self.open().gc(datetime.timedelta(0), dry_run=False)
        self.versions = {version: self.versions[version] for version in kept}
        folder = IndexFolder(self.url)
        named = {shard.uuid for version in kept for shard in self.open(version).manifest.shards}
        assert {file.name.split("/")[1] for file in folder.files("shards")} == named
        assert not folder.files("work")

    @rule(data=st.data())
    def open_an_old_one(self, data: st.DataObject) -> None:
        version = data.draw(st.sampled_from(sorted(self.versions)))
        holds(self.open(version), self.versions[version])
        for name, tagged in self.tags.items():
            assert self.open(name).version == tagged

    @invariant()
    def check(self) -> None:
        if self.versions:
            holds(self.open(), self.content)
            assert [info.version for info in self.open().versions()] == sorted(self.versions)


def holds(index: ShardedIndex, content: Content) -> None:
    assert len(index) == len(content)
    query = ROWS[list(content.values())] if content else ROWS[:1]
    nearest = index.query(query, k=1, search_k=EVERYTHING)
    assert nearest.ids[:, 0].tolist() == (list(content) or [-1])
    everything = index.query(query[0], k=len(content) + 1, search_k=EVERYTHING).ids.tolist()
    assert sorted(everything) == [-1, *sorted(content)]


@pytest.mark.timeout(900)
def test_any_life_with_crashes_holds_what_a_dictionary_holds(is_full: bool) -> None:
    run_state_machine_as_test(
        Life,
        settings=settings(
            max_examples=40 if is_full else 8,
            stateful_step_count=20 if is_full else 12,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )

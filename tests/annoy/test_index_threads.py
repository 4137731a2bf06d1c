"""Queries run side by side; what changes an index waits for them, and they for it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import numpy as np
import pytest
from numpy.typing import NDArray

from dask_annoy import Index
from dask_annoy._native import set_stop_check
from dask_annoy.annoy.locks import SharedLock

Vectors = NDArray[np.float32]
PATIENCE = 60  # seconds until a test that hangs is a failure


def test_readers_share_and_writers_do_not() -> None:
    lock = SharedLock()
    together = threading.Barrier(3, timeout=PATIENCE)
    inside: list[str] = []
    most: list[int] = []

    def read(_: int) -> None:
        with lock.shared():
            together.wait()  # all three are inside at once, or this breaks

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(read, range(3)))

    def write(number: int) -> None:
        for _ in range(200):
            with lock.exclusive():
                inside.append(str(number))
                most.append(len(inside))
                inside.pop()

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(write, range(3)))
    assert set(most) == {1}


@pytest.mark.parametrize("held", ["shared", "exclusive"])
def test_a_writer_waits_and_goes_before_later_readers(held: str) -> None:
    lock = SharedLock()
    order: list[str] = []
    take: Callable[[], AbstractContextManager[None]] = getattr(lock, held)

    def run(name: str, take: Callable[[], AbstractContextManager[None]]) -> threading.Thread:
        def body() -> None:
            with take():
                order.append(name)

        thread = threading.Thread(target=body)
        thread.start()
        return thread

    with take():
        writer = run("writer", lock.exclusive)
        while not lock._waiting_writers:  # it has come to wait
            assert writer.is_alive()
        reader = run("reader", lock.shared)
        with lock.shared():  # who is in already is not kept from going on
            order.append("first")
        assert order == ["first"]
    writer.join(PATIENCE)
    reader.join(PATIENCE)
    assert order == ["first", "writer", "reader"]


def test_a_thread_takes_again_what_it_holds_but_does_not_wait_for_itself() -> None:
    lock = SharedLock()
    with lock.exclusive(), lock.exclusive(), lock.shared(), lock.shared(), lock.exclusive():
        pass
    with lock.shared(), pytest.raises(RuntimeError, match="in the middle of asking"), lock.exclusive():
        pass
    with ThreadPoolExecutor(1) as pool:  # nothing is left held
        pool.submit(lambda: lock.exclusive().__enter__()).result(PATIENCE)


def test_a_signal_handler_does_not_wait_for_what_it_interrupts() -> None:
    lock = SharedLock()
    reading, handled = threading.Event(), threading.Event()

    def handle(*_: object) -> None:
        with lock.shared():  # passes this thread's own wait to write
            handled.set()

    def read() -> None:
        with lock.shared():
            reading.set()
            while not lock._waiting_writers:  # the main thread has come to wait
                assert threading.main_thread().is_alive()
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
            assert handled.wait(PATIENCE)

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        with ThreadPoolExecutor(1) as pool:
            reader = pool.submit(read)
            assert reading.wait(PATIENCE)
            with lock.exclusive():
                assert handled.is_set()
            reader.result(PATIENCE)
        with lock._changed, lock.shared():  # as from a handler while its thread looks at the lock's state
            pass
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_query_does_not_wait_for_another_and_a_change_waits_for_both(vectors: Vectors) -> None:
    rows = np.tile(vectors, (1000, 1))  # more than it takes until the search asks whether to stop
    index = Index().fit(vectors, n_trees=4)
    expected = index.kneighbors(vectors, return_distance=False)
    under_way, may_end = threading.Event(), threading.Event()
    ends: list[str] = []

    def hold() -> bool:
        under_way.set()
        return may_end.wait(PATIENCE)

    def ask_slowly() -> None:
        set_stop_check(hold)  # of this thread
        try:
            index.kneighbors(rows, search_k=2000, n_jobs=1)
        except KeyboardInterrupt:
            ends.append("stopped")

    slow = threading.Thread(target=ask_slowly)
    slow.start()
    assert under_way.wait(PATIENCE)
    # The slow query is inside the native search; others are answered meanwhile.
    with ThreadPoolExecutor(2) as pool:
        for found in pool.map(lambda _: index.kneighbors(vectors, return_distance=False), range(4)):
            np.testing.assert_array_equal(found, expected)
    change = threading.Thread(target=index.fit, args=(vectors[:7],))
    change.start()
    while not index._lock._waiting_writers:
        assert change.is_alive()
    assert len(index) == 500
    assert ends == []
    may_end.set()
    slow.join(PATIENCE)
    change.join(PATIENCE)
    assert len(ends) == 1
    assert len(index) == 7


def test_queries_see_one_fit_or_the_next_and_never_a_mixture(vectors: Vectors) -> None:
    fits = [(vectors, np.full(500, 0)), (vectors[:300, :5], np.full(300, 1))]
    index = Index(metric="l2").fit(*fits[0], n_trees=2)
    done = threading.Event()
    failures: list[str] = []

    def ask() -> None:
        items = np.arange(300)
        while not done.is_set():
            found, labels = index.transform(items, input_type="item", output_type="vector", return_labels=True)
            width, label = found.shape[2], set(np.unique(labels).tolist())
            if (width, label) not in [(12, {0}), (5, {1})]:
                failures.append(f"{width} {label}")

    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(ask) for _ in range(3)]
        for turn in range(30):
            index.fit(*fits[turn % 2], n_trees=2)
        done.set()
        for one in asked:
            one.result(PATIENCE)
    assert failures == []


def test_items_added_from_many_threads_are_all_there(vectors: Vectors) -> None:
    index = Index()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: index.add_item(i, vectors[i]), range(500)))
    np.testing.assert_array_equal(index.to_numpy(), vectors)


def test_the_width_may_come_and_go_under_questions(vectors: Vectors) -> None:
    index = Index()
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            assert len(index) in (0, 500)
            assert index.get_n_trees() in (0, 1)
            assert index.is_built in (False, True)
            assert 7 not in index or 7 in range(500)
            assert len(list(index)) in (0, 500)
            assert index.info()["n_items"] in (0, 500)

    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(ask) for _ in range(2)]
        for _ in range(50):
            index.fit(vectors, n_trees=1).unload()
        done.set()
        for one in asked:
            one.result(PATIENCE)

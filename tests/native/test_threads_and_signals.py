"""Long calls let other threads run, and stop when asked to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from dask_annoy import AnnoyIndex
from dask_annoy._native import ExactSearch, node_size, set_stop_check, thread_count

ENDLESS = 10**8  # trees: more than any test waits for


@pytest.fixture(autouse=True)
def no_stop_check() -> Iterator[None]:
    yield
    set_stop_check(None)


def filled(n_items: int = 2000, width: int = 3) -> AnnoyIndex:
    index = AnnoyIndex(width, "euclidean")
    index.add_items(np.random.default_rng(0).normal(size=(n_items, width)))
    return index


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_python_threads_make_progress_while_a_forest_is_built(n_jobs: int) -> None:
    ticks = 0
    done = threading.Event()

    def tick() -> None:
        nonlocal ticks
        while not done.is_set():
            ticks += 1

    at_last_check = None
    advanced = 0

    def enough_progress() -> bool:
        """Compares with the end of the last call, so that only ticks outside of these calls count."""
        nonlocal at_last_check, advanced
        if at_last_check is not None and ticks > at_last_check + 100:
            advanced += 1
        at_last_check = ticks
        return advanced >= 3

    ticker = threading.Thread(target=tick)
    ticker.start()
    try:
        set_stop_check(enough_progress)
        with pytest.raises(KeyboardInterrupt):
            filled().build(ENDLESS, n_jobs)
    finally:
        done.set()
        ticker.join()
    assert advanced >= 3


CHILD = """
import os
import sys
import numpy as np
from dask_annoy import AnnoyIndex
from dask_annoy._native import ExactSearch, set_stop_check

told = False
def tell():
    global told
    if not told:
        told = True
        print("working", flush=True)
    return False

vectors = np.random.default_rng(0).normal(size=(200_000, 4)).astype("f4")
index = AnnoyIndex(4, "euclidean")
index.add_items(vectors[:2000])
if sys.argv[1] in ("batch", "budgets"):
    index.build(10)
elif sys.argv[1] == "save":
    index.add_items(vectors[2000:])
    index.build(10, int(sys.argv[2]))
exact = ExactSearch(vectors, "euclidean", 4, 1)
set_stop_check(tell)
try:
    if sys.argv[1] == "build":
        index.build(10**8, int(sys.argv[2]))
    elif sys.argv[1] == "batch":
        while True:
            index.get_nns_by_vectors(vectors, 10, 10**6, n_jobs=int(sys.argv[2]))
    elif sys.argv[1] == "load":
        index.load(sys.argv[3])
    elif sys.argv[1] == "save":
        while True:
            index.save(sys.argv[3] + ".saved")
    elif sys.argv[1] == "budgets":
        while True:
            index.budgets_to_find(vectors, np.full((len(vectors), 1), 5), n_jobs=int(sys.argv[2]))
    else:
        while True:
            exact.add(vectors, 0, n_jobs=int(sys.argv[2]))
except KeyboardInterrupt:
    print("stopped", flush=True)
    set_stop_check(None)
    if sys.argv[1] in ("build", "load"):
        assert index.get_n_trees() == 0
        index.build(2)
    assert index.get_nns_by_vector(vectors[7], 1, 10**6) == [7] or sys.argv[1] == "exact"
    if sys.argv[1] == "save":
        folder, name = os.path.split(sys.argv[3])
        assert set(os.listdir(folder)) <= {name, name + ".saved"}
        index.save(sys.argv[3] + ".saved")
    print("usable", flush=True)
"""


@pytest.mark.parametrize("n_jobs", ["1", "2"])
@pytest.mark.parametrize("call", ["build", "batch", "budgets", "exact", "load", "save"])
def test_ctrl_c_stops_a_long_call_and_leaves_the_index_usable(call: str, n_jobs: str, tmp_path: Path) -> None:
    # A file of zeros that takes no room on the disk: 2^31 - 2 nodes to look at.
    huge = tmp_path / "huge"
    with huge.open("wb") as file:
        file.truncate(node_size("euclidean", 4) * (2**31 - 2))
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, call, n_jobs, str(huge)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": n_jobs},
    ) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "working\n"  # said from within the call
            child.send_signal(signal.SIGINT)
            output, errors = child.communicate(timeout=60)
        finally:
            child.kill()
    assert output == "stopped\nusable\n", errors
    assert child.returncode == 0


@pytest.mark.parametrize(
    ("under_way", "use", "message"),
    [
        ("build", len, "being changed"),
        ("build", lambda index: index.unload(), "being changed"),
        ("batch", lambda index: index.unbuild(), "being asked"),
        ("batch", lambda index: index.close(), "being asked"),
    ],
)
def test_a_signal_handler_that_would_wait_for_the_call_it_interrupts_is_refused(
    under_way: str, use: Callable[[AnnoyIndex], object], message: str
) -> None:
    index = filled(20_000)
    if under_way == "batch":
        index.build(10)
    queries = np.zeros((20_000, 3), np.float32)

    def work() -> None:
        if under_way == "build":
            index.build(ENDLESS)
        while True:
            index.get_nns_by_vectors(queries, 10, 10**6, n_jobs=1)

    def is_asked_to_stop() -> bool:  # from within the call: Python runs the handler at the next chance
        signal.raise_signal(signal.SIGUSR1)
        return False

    before = signal.signal(signal.SIGUSR1, lambda *_: use(index))
    set_stop_check(is_asked_to_stop)
    try:
        with pytest.raises(RuntimeError, match=message):
            work()
    finally:
        set_stop_check(None)
        signal.signal(signal.SIGUSR1, before)
    assert len(index) == 20_000  # nothing has changed


def test_a_signal_handler_may_ask_what_is_being_asked_and_change_what_is_loaded(tmp_path: Path) -> None:
    index = filled()
    index.build(3)
    queries = np.zeros((10**6, 3), np.float32)
    seen: list[int] = []
    uses: list[Callable[[], object]] = [lambda: seen.append(index.get_nns_by_item(5, 1)[0])]

    def interrupt() -> bool:
        signal.raise_signal(signal.SIGUSR1)
        return len(seen) > 0

    before = signal.signal(signal.SIGUSR1, lambda *_: [use() for use in uses])
    set_stop_check(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            index.get_nns_by_vectors(queries, 10, 10**6, n_jobs=1)
        assert set(seen) == {5}
        set_stop_check(None)
        index.save(str(tmp_path / "x"))
        seen.clear()
        uses.append(index.close)
        set_stop_check(interrupt)
        with pytest.raises(KeyboardInterrupt):
            index.get_nns_by_vectors(queries, 10, 10**6, n_jobs=1)
    finally:
        set_stop_check(None)
        signal.signal(signal.SIGUSR1, before)
    assert index.closed


def test_a_stop_check_stops_a_build_in_another_thread_and_no_other() -> None:
    asked, stop = threading.Event(), threading.Event()

    def build_until_stopped() -> str:
        def check() -> bool:
            asked.set()
            return stop.is_set()

        set_stop_check(check)
        try:
            filled().build(ENDLESS)
        except KeyboardInterrupt:
            return "stopped"
        return "ended"

    with ThreadPoolExecutor(1) as pool:
        building = pool.submit(build_until_stopped)
        assert asked.wait(60)
        assert filled().build(3)  # this thread has no check
        assert not building.done()
        stop.set()
        assert building.result(60) == "stopped"


def test_an_exception_in_a_stop_check_is_the_one_that_is_raised() -> None:
    def check() -> bool:
        raise LookupError("from the check")

    set_stop_check(check)
    with pytest.raises(LookupError, match="from the check"):
        filled().build(ENDLESS)


def test_a_stop_check_may_remove_itself() -> None:
    calls = []

    def install() -> None:
        def check() -> bool:
            set_stop_check(None)
            calls.append(len(calls))
            if len(calls) < 3:
                install()
            return len(calls) >= 3

        set_stop_check(check)

    install()
    with pytest.raises(KeyboardInterrupt):
        filled().build(ENDLESS)
    assert calls == [0, 1, 2]


def test_a_stop_check_that_cannot_be_called_is_refused() -> None:
    with pytest.raises(TypeError, match="callable"):
        set_stop_check(5)  # type: ignore[arg-type]


def test_queries_from_many_threads_agree_with_one() -> None:
    index = filled()
    index.build(5)
    queries = np.random.default_rng(1).normal(size=(64, 3))
    expected = [index.get_nns_by_vector(query, 10) for query in queries]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            assert list(pool.map(lambda query: index.get_nns_by_vector(query, 10), queries)) == expected


def test_queries_go_on_while_the_index_is_loaded_anew(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = str(tmp_path_factory.mktemp("forest") / "forest.ann")
    index = filled()
    index.build(5)
    index.save(path)
    expected = index.get_nns_by_item(3, 10)
    rounds = 50

    def reload() -> None:
        for _ in range(rounds):
            index.load(path)

    with ThreadPoolExecutor(3) as pool:
        reloading = pool.submit(reload)
        answers = [pool.submit(index.get_nns_by_item, 3, 10) for _ in range(500)]
        assert all(answer.result(60) == expected for answer in answers)
        reloading.result(60)


def test_queries_and_loads_on_many_threads_end_well_when_the_index_is_closed(tmp_path: Path) -> None:
    path = str(tmp_path / "forest.ann")
    index = filled()
    index.build(5)
    index.save(path)
    expected = index.get_nns_by_item(3, 10)
    queries = np.random.default_rng(1).normal(size=(64, 3))
    batch = index.get_nns_by_vectors(queries, 5)
    answered = threading.Semaphore(0)

    def until_closed(use: Callable[[], object], wanted: object) -> str:
        try:
            while True:
                found = use()
                assert np.array_equal(np.asarray(found), np.asarray(wanted))
                answered.release()
        except RuntimeError as error:
            return str(error)

    with ThreadPoolExecutor(5) as pool:
        running = [
            pool.submit(until_closed, lambda: index.get_nns_by_item(3, 10), expected),
            pool.submit(until_closed, lambda: index.get_nns_by_vectors(queries, 5), batch),
            pool.submit(until_closed, lambda: len(index), 2000),
            pool.submit(until_closed, lambda: index.load(path), True),
            pool.submit(until_closed, lambda: index.load(path, prefault=True), True),
        ]
        for _ in range(200):
            assert answered.acquire(timeout=60)
        index.close()
        for each in running:
            assert "the index is closed" in each.result(60)


def test_one_exact_search_may_be_fed_by_many_threads() -> None:
    rng = np.random.default_rng(2)
    rows, queries = rng.normal(size=(4000, 8)), rng.normal(size=(20, 8))
    alone, together = ExactSearch(queries, "angular", 8, 5), ExactSearch(queries, "angular", 8, 5)
    alone.add(rows, 0)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda first: together.add(rows[first : first + 100], first), range(0, 4000, 100)))
    for a, b in zip(alone.answers(), together.answers(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_all_threads_are_no_more_than_the_environment_grants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as Dask does for its workers
    assert thread_count() == 1
    assert thread_count(5) == 5
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert thread_count(-1) == len(os.sched_getaffinity(0))

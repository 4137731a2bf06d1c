"""One AnnoyIndex takes the place of another, while calls on the former one are under way."""

from __future__ import annotations

import gc
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from dask_annoy._native import AnnoyIndex


def built(width: int, metric: str = "euclidean", n_items: int = 200) -> AnnoyIndex:
    index = AnnoyIndex(width, metric)
    index.add_items(np.random.default_rng(width).normal(size=(n_items, width)))
    index.build(3)
    return index


def test_an_index_becomes_another_one_with_its_width_and_metric() -> None:
    index, other = built(3), built(7, "angular")
    index._adopt(other)
    assert (index.f, index.metric, index.get_n_trees()) == (7, "angular", 3)
    query = np.ones(7)
    assert index.get_nns_by_vector(query, 5) == other.get_nns_by_vector(query, 5)


def test_what_is_adopted_is_shared() -> None:
    index, other = AnnoyIndex(3, "euclidean"), AnnoyIndex(2, "dot")
    index._adopt(other)
    other.add_item(0, [1, 2])
    assert index.get_item_vector(0) == [1, 2]


def test_an_index_of_no_width_says_so() -> None:
    index = built(3)
    index._adopt(None)
    with pytest.raises(RuntimeError, match="no width yet"):
        index.get_nns_by_vector([1, 2, 3], 1)
    index._adopt(built(2))
    assert len(index.get_nns_by_vector([1, 2], 1)) == 1


def test_an_object_that_was_never_initialised_is_refused() -> None:
    index = AnnoyIndex.__new__(AnnoyIndex)
    with pytest.raises(TypeError, match="__init__"):
        index.get_n_items()


def test_queries_under_way_end_on_the_index_they_began_with() -> None:
    narrow, wide = built(4), built(200, n_items=40)
    index = AnnoyIndex(4, "euclidean")
    index._adopt(narrow)
    query = np.zeros((500, 4))
    expected = narrow.get_nns_by_vectors(query, 5).tolist()
    failures: list[object] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            try:
                if index.get_nns_by_vectors(query, 5).tolist() != expected:
                    failures.append("other answers")
            except ValueError:
                pass  # asked while it was the wide one

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(300):
        index._adopt(wide)
        index._adopt(narrow)
    done.set()
    for thread in threads:
        thread.join()
    assert failures == []


def resident_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmRSS:")[1].split()[0])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_former_index_is_freed() -> None:
    index = AnnoyIndex(1000, "euclidean")
    rows = np.zeros((10_000, 1000), np.float32)  # 40 MB

    def fill() -> None:
        fresh = AnnoyIndex(1000, "euclidean")
        fresh.add_items(rows)
        index._adopt(fresh)

    fill()
    fill()
    gc.collect()
    before = resident_bytes()
    for _ in range(20):
        fill()
    assert resident_bytes() - before < 5 * rows.nbytes

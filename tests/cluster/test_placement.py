from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from dask_annoy.cluster.placement import preferred_workers

KEYS = st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=40, unique=True)
WORKERS = st.lists(st.integers(1, 10**6).map("tcp://10.0.0.1:{}".format), min_size=1, max_size=9, unique=True)


@given(keys=KEYS, workers=WORKERS, order=st.randoms(use_true_random=False))
def test_every_key_has_one_worker_whatever_the_order_of_workers(
    keys: list[str], workers: list[str], order: object
) -> None:
    chosen = preferred_workers(keys, workers)
    assert set(chosen) <= set(workers)
    order.shuffle(workers)  # type: ignore[attr-defined]
    assert preferred_workers(keys, workers) == chosen
    assert preferred_workers(keys * 3, workers) == chosen * 3


@given(keys=KEYS, workers=WORKERS)
def test_no_worker_has_more_than_its_share(keys: list[str], workers: list[str]) -> None:
    assert max(Counter(preferred_workers(keys, workers)).values()) <= -(-len(keys) // len(workers))


@given(workers=WORKERS.filter(lambda workers: len(workers) > 1), number=st.integers(0, 10**6))
def test_most_keys_keep_their_worker_when_another_leaves(workers: list[str], number: int) -> None:
    keys = [f"{number}-{key}" for key in range(400)]
    before = preferred_workers(keys, workers)
    after = preferred_workers(keys, workers[1:])
    stayed = [old == new for old, new in zip(before, after, strict=True) if old != workers[0]]
    assert sum(stayed) > 0.6 * len(stayed)

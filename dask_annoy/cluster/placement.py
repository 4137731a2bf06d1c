"""Which worker had better search which shard, so that a cluster downloads each remote shard about once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

__all__ = ["preferred_workers"]


def preferred_workers(keys: Sequence[str], workers: Sequence[str]) -> list[str]:
    """A worker for each key: the same for the same key while that worker lives, and evenly spread.

    Highest random weight (Thaler and Ravishankar, 1998), where a worker that has its share is passed over.

    Parameters
    ----------
    keys : sequence of str
        May repeat; all tasks of a key get one worker.
    workers : sequence of str
        Addresses; at least one.
    """
    distinct = list(dict.fromkeys(keys))
    share = -(-len(distinct) // len(workers))
    load = dict.fromkeys(workers, 0)
    chosen: dict[str, str] = {}
    for key in distinct:
        ranked = sorted(workers, key=lambda worker: _weight(key, worker), reverse=True)
        chosen[key] = next(worker for worker in ranked if load[worker] < share)
        load[chosen[key]] += 1
    return [chosen[key] for key in keys]


def _weight(key: str, worker: str) -> bytes:
    return hashlib.blake2b(f"{key}\n{worker}".encode(), digest_size=8).digest()

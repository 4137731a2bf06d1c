"""The client's program in a test of several hosts: builds and asks; says on its output when a worker is busy.

Arguments: the scheduler's address, the S3 server's URL. Reads on its input which worker's host is to be cut off.
"""

from __future__ import annotations

import io
import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import s3fs
from distributed import Client

from dask_annoy import build_index, open_index

ROWS = 40_000
WIDTH = 32
SHARD_ROWS = 2000


def rows() -> Any:
    return np.random.default_rng(3).normal(size=(ROWS, WIDTH)).astype(np.float32)


def say(**what: object) -> None:
    print(json.dumps(what), flush=True)


def while_busy(client: Client, host: str, work: Callable[[], Any]) -> Any:
    """Do some work, and say once when a host has tasks of it; wait for it to be cut off."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.is_set():
            if any(tasks for address, tasks in client.processing().items() if f"//{host}:" in address):
                say(busy=host)
                return
            time.sleep(0.01)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        return work()
    finally:
        ended.set()
        watcher.join()


def main(scheduler: str, endpoint: str) -> None:
    options = {"endpoint_url": endpoint, "key": "K", "secret": "S"}
    fs = s3fs.S3FileSystem(**options)
    fs.mkdir("bucket")
    vectors = rows()
    buffer = io.BytesIO()
    np.save(buffer, vectors)
    fs.pipe_file("bucket/rows.npy", buffer.getvalue())
    with Client(scheduler, set_as_default=False, timeout=60) as client:
        client.wait_for_workers(3, timeout=60)
        say(workers=sorted(client.nthreads()))
        cut = json.loads(sys.stdin.readline())
        index = while_busy(
            client, cut["in_build"],
            lambda: build_index(
                "s3://bucket/rows.npy", "s3://bucket/index", metric="euclidean", n_trees=4, shard_rows=SHARD_ROWS,
                storage_options=options, client=client,
            ),
        )  # fmt: skip
        say(built=len(index), shards=len(index.manifest.shards), workers=sorted(client.nthreads()))
        json.loads(sys.stdin.readline())
        chosen = np.arange(0, ROWS, 8)
        index = open_index("s3://bucket/index", storage_options=options, client=client)
        found = while_busy(client, cut["in_query"], lambda: index.query(vectors[chosen], k=5, search_k=20 * SHARD_ROWS))
        wrong = int((found.ids[:, 0] != chosen).sum())
        local = open_index("s3://bucket/index", storage_options=options, client=False)
        alone = local.query(vectors[chosen[:500]], k=5, search_k=20 * SHARD_ROWS)
        say(asked=len(chosen), wrong=wrong, same=bool((alone.ids == found.ids[:500]).all()))


if __name__ == "__main__":
    main(*sys.argv[1:])

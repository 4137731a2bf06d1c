"""A program that does what it is told and halts at one point, for good, so that it can be killed there.

``python dask_annoy_test_halting.py POINT COUNT TOLD WHAT ARGUMENT…`` halts when POINT is reached for the COUNT-th time,
after it has made the file TOLD. WHAT is ``annoy`` (the command line), or the form of input of a build: ``array`` or
``collection``, with the arguments ROWS URL STORAGE-OPTIONS, or ``cluster``: a collection on two worker processes.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np

from dask_annoy import build_index
from dask_annoy.cluster import copying, staging
from dask_annoy.shard import build as shard_build
from dask_annoy.storage import IndexFolder, versions

SHARD_ROWS = 250
TREES = 4

#: Where each point is, and whether it is reached before or after the call.
POINTS: dict[str, tuple[Any, str, str]] = {
    "a part is staged": (staging, "_write", "after"),
    "a shard is half uploaded": (IndexFolder, "upload", "after"),
    "a receipt is about to be written": (shard_build, "write_receipt", "before"),
    "a receipt is written": (shard_build, "write_receipt", "after"),
    "a shard is copied": (copying, "write_copy_receipt", "after"),
    "the commit is near": (versions, "put_if_absent", "before"),
    "the commit is done": (versions, "put_if_absent", "after"),
}


def halt_at(point: str, count: int, told: Path) -> None:
    """Wrap the function of a point: all who come there after the one that halts halt, too."""
    owner, name, when = POINTS[point]
    wrapped: Callable[..., Any] = getattr(owner, name)
    lock, reached = threading.Lock(), [0]

    def halting(*arguments: Any, **keywords: Any) -> Any:
        with lock:
            result = wrapped(*arguments, **keywords) if when == "after" else None
            reached[0] += 1
            if reached[0] == count:
                told.touch()
                threading.Event().wait()
        return result if when == "after" else wrapped(*arguments, **keywords)

    setattr(owner, name, halting)


def build(form: str, rows: str, url: str, storage_options: str) -> None:
    """Build from rows in memory."""
    array = np.load(rows)
    options: dict[str, Any] = {"shard_rows": SHARD_ROWS, "n_trees": TREES}
    options["storage_options"] = json.loads(storage_options)
    if form == "array":
        build_index(array, url, **options, client=False)
    elif form == "collection":
        build_index(da.from_array(array, chunks=(300, -1)), url, **options, client=False)
    else:
        from distributed import Client, LocalCluster

        with (
            LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
            Client(cluster) as client,
        ):
            build_index(da.from_array(array, chunks=(300, -1)), url, **options, client=client)


def main() -> None:
    """Run."""
    point, count, told, what, *arguments = sys.argv[1:]
    halt_at(point, int(count), Path(told))
    if what == "annoy":
        from dask.__main__ import main as dask_main

        sys.argv = ["dask", "annoy", *arguments]
        dask_main()
    else:
        build(what, *arguments)


if __name__ == "__main__":
    main()

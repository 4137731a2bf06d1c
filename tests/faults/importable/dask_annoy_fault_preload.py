"""Preloaded by Dask workers: kills the worker, its nanny or the scheduler at a change or a reading, when told."""

from __future__ import annotations

import json
import os
import signal
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from dask_annoy_fault_points import watch

ORDER = "order.json"


def dask_setup(worker: Any) -> None:  # the name that Dask calls
    """Watch the indexes of a test from within a worker."""
    control = Path(os.environ["DASK_ANNOY_FAULT_CONTROL"])
    if not hasattr(worker, "nanny") or type(worker).__name__ == "Nanny":
        return  # only the worker's own process works on shards
    lock = threading.Lock()
    seen: dict[str, int] = {}

    def carry_out(_path: str, _source: str | None) -> None:
        with suppress(FileNotFoundError, ValueError):
            order = json.loads((control / ORDER).read_text())
            with lock:
                number = seen[order["name"]] = seen.get(order["name"], -1) + 1
            if number == order["at"]:
                # Who can take the order away carries it out: once, however many workers there are.
                (control / ORDER).rename(control / f"{order['name']}.done")
                victims = {"worker": os.getpid(), "nanny": os.getppid(), "scheduler": order["scheduler"]}
                os.kill(victims[order["victim"]], getattr(signal, order["signal"]))

    watch(str(control / "indexes"), carry_out, reads=True)

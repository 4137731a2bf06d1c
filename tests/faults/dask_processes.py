"""A Dask scheduler and workers with nannies, each a process of its own that can be killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

from dask_annoy_fault_preload import ORDER
from distributed import Client

import dask_annoy

_PACKAGE = Path(dask_annoy.__file__).parents[1]


class DaskProcesses:
    """Started by `start`; all that was started is killed by `close`.

    Parameters
    ----------
    directory : Path
        Of the test's own. Indexes below ``indexes`` are watched: see `order`.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.indexes = directory / "indexes"
        self.indexes.mkdir(parents=True)
        self.scheduler: subprocess.Popen[bytes] | None = None
        self.nannies: list[subprocess.Popen[bytes]] = []
        self.client: Client | None = None

    def start(self, workers: int) -> Client:
        """Start what is not running, and return a client once all workers are there."""
        if self.scheduler is None or self.scheduler.poll() is not None:
            self.close()
            self.file = self.directory / f"scheduler-{uuid.uuid4().hex}.json"
            self.scheduler = self._run("scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", str(self.file))
            self.client = Client(scheduler_file=str(self.file), set_as_default=False, timeout=60)
        assert self.client is not None
        self.nannies = [nanny for nanny in self.nannies if nanny.poll() is None]
        while len(self.nannies) < workers:
            self.nannies.append(
                self._run(
                    "worker", "--scheduler-file", str(self.file), "--nthreads", "1", "--no-dashboard",
                    "--preload", "dask_annoy_fault_preload", "--local-directory", str(self.directory / "scratch"),
                )
            )  # fmt: skip
        self.client.wait_for_workers(workers, timeout=60)
        return self.client

    def order(self, victim: str, at: int, signal_name: str = "SIGKILL") -> str:
        """Have the first worker that makes its change or reading number `at` from now on kill somebody.

        Returns the order's name, for `is_done`.
        """
        assert self.scheduler is not None
        name = uuid.uuid4().hex
        order = {"name": name, "victim": victim, "at": at, "signal": signal_name, "scheduler": self.scheduler.pid}
        unfinished = self.directory / f"{name}.order"
        unfinished.write_text(json.dumps(order))
        unfinished.rename(self.directory / ORDER)
        return name

    def is_done(self, name: str) -> bool:
        """Whether an order was carried out; withdraws it if not."""
        (self.directory / ORDER).unlink(missing_ok=True)
        return (self.directory / f"{name}.done").exists()

    def close(self) -> None:
        """Kill all processes that were started."""
        if self.client is not None:
            self.client.close(timeout=2)
            self.client = None
        running = [process for process in [self.scheduler, *self.nannies] if process is not None]
        for process in running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # a session of its own: with the worker of a nanny
            process.wait(20)
        self.scheduler, self.nannies = None, []

    def _run(self, command: str, *arguments: str) -> subprocess.Popen[bytes]:
        path = [str(_PACKAGE), str(Path(__file__).with_name("importable")), os.environ.get("PYTHONPATH", "")]
        with (self.directory / "log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "dask", command, *arguments],
                env=os.environ | {"PYTHONPATH": os.pathsep.join(path), "DASK_ANNOY_FAULT_CONTROL": str(self.directory)},
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

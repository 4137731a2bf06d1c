"""Scheduler, workers, client and S3 on hosts of their own, two of which are cut off amid a build and amid a query."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dask_annoy

from .network_hosts import Hosts, NotPermitted

pytestmark = pytest.mark.timeout(400)
WORKERS = ("worker1", "worker2", "worker3")
S3_PROGRAM = """
import sys
from werkzeug.serving import run_simple
from moto.server import DomainDispatcherApplication, create_backend_app
run_simple(sys.argv[1], 5000, DomainDispatcherApplication(create_backend_app), threaded=True)
"""
#: How soon Dask takes a silent host for lost; its own default is five minutes.
PATIENCE = {
    "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "6s",
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "12s",
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "6s",
}


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    pytest.importorskip("moto.server")
    if shutil.which("ip") is None:
        pytest.skip("the command ip is not there, so no network namespaces can be made")
    try:
        made = Hosts(tmp_path, "storage", "scheduler", *WORKERS, "client")
    except NotPermitted as reason:
        pytest.skip(f"network namespaces are not permitted here: {reason}")
    yield made
    made.close()


def environment() -> dict[str, str]:
    path = [str(Path(dask_annoy.__file__).parents[1]), str(Path(__file__).with_name("importable"))]
    return PATIENCE | {"PYTHONPATH": os.pathsep.join([*path, os.environ.get("PYTHONPATH", "")])}


class Conversation:
    """Lines of JSON with a program; reading has an end."""

    def __init__(self, process: subprocess.Popen[str], hosts: Hosts) -> None:
        self.process, self.hosts = process, hosts

    def hear(self, key: str, seconds: float = 150) -> dict[str, Any]:
        """The next line that has a key."""
        assert self.process.stdout is not None
        timer = threading.Timer(seconds, self.process.kill)
        timer.start()
        try:
            for line in self.process.stdout:
                said: dict[str, Any] = json.loads(line)
                if key in said:
                    return said
        finally:
            timer.cancel()
        raise AssertionError(f"the client ended, or was silent for {seconds} s: {self.hosts.log('client')[-3000:]}")

    def tell(self, **what: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()


def test_a_build_and_a_query_end_right_though_hosts_are_cut_off_in_their_middle(hosts: Hosts, is_full: bool) -> None:
    if not is_full:
        pytest.skip("runs with --faults=full")
    of, env = hosts.addresses, environment()
    scheduler, endpoint = f"tcp://{of['scheduler']}:8786", f"http://{of['storage']}:5000"
    hosts.run("storage", sys.executable, "-c", S3_PROGRAM, of["storage"], environment=env)
    hosts.run("scheduler", sys.executable, "-m", "dask", "scheduler", "--host", of["scheduler"], "--no-dashboard",
              environment=env)  # fmt: skip
    for worker in WORKERS:
        hosts.run(worker, sys.executable, "-m", "dask", "worker", scheduler, "--host", of[worker], "--nthreads", "1",
                  "--no-dashboard", environment=env)  # fmt: skip
    program = Path(__file__).with_name("importable") / "dask_annoy_fault_client.py"
    client = Conversation(
        hosts.run("client", sys.executable, str(program), scheduler, endpoint, environment=env,
                  stdin=subprocess.PIPE, stdout=subprocess.PIPE), hosts,
    )  # fmt: skip
    workers = client.hear("workers")["workers"]
    assert {address.rpartition(":")[0] for address in workers} == {f"tcp://{of[worker]}" for worker in WORKERS}
    client.tell(in_build=of["worker1"], in_query=of["worker2"])
    client.hear("busy")
    hosts.cut_off("worker1")
    built = client.hear("built")
    assert (built["built"], built["shards"]) == (40_000, 20)
    assert not [address for address in built["workers"] if of["worker1"] in address], "worker1 was not lost"
    client.tell(go_on=True)
    assert client.hear("busy")["busy"] == of["worker2"]
    hosts.cut_off("worker2")
    asked = client.hear("asked")
    assert (asked["wrong"], asked["same"]) == (0, True)

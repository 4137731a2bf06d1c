"""Hosts of a network in namespaces of one machine: own addresses, own scratch disks, links that can be cut."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import uuid
from pathlib import Path
from typing import Any

NETWORK = "10.213.57"


class NotPermitted(Exception):
    """This machine does not let us make namespaces."""


def _ip(*arguments: str) -> None:
    made = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if made.returncode:
        raise NotPermitted(f"ip {' '.join(arguments)}: {made.stderr.strip()}")


class Hosts:
    """A switch and hosts named by the caller; nothing of this machine's own network is touched.

    Parameters
    ----------
    directory : Path
        Where each host's output goes.
    names : str
        Of the hosts. Their addresses are `NETWORK` + ".1", ".2" …
    """

    def __init__(self, directory: Path, *names: str) -> None:
        self.directory = directory
        self.addresses = {name: f"{NETWORK}.{number}" for number, name in enumerate(names, start=1)}
        self._prefix = f"da{uuid.uuid4().hex[:6]}"
        self._processes: list[subprocess.Popen[str]] = []
        self._namespaces: list[str] = []
        try:
            self._make("switch")
            _ip("-n", self._of("switch"), "link", "add", "br0", "type", "bridge")
            _ip("-n", self._of("switch"), "link", "set", "br0", "up")
            for number, name in enumerate(names, start=1):
                self._make(name)
                port, inside = f"port{number}", self._of(name)
                _ip(
                    "-n",
                    inside,
                    "link",
                    "add",
                    "eth0",
                    "type",
                    "veth",
                    "peer",
                    "name",
                    port,
                    "netns",
                    self._of("switch"),
                )
                _ip("-n", self._of("switch"), "link", "set", port, "master", "br0", "up")
                _ip("-n", inside, "address", "add", f"{self.addresses[name]}/24", "dev", "eth0")
                _ip("-n", inside, "link", "set", "lo", "up")
                _ip("-n", inside, "link", "set", "eth0", "up")
        except BaseException:
            self.close()
            raise

    def run(self, name: str, *command: str, environment: dict[str, str], **options: Any) -> subprocess.Popen[str]:
        """Start a program on a host. Its temporary folder and working folder are a disk that only it sees."""
        disk = self.directory / "disk"  # the same place on each host, and another disk
        disk.mkdir(exist_ok=True)
        place = shlex.quote(str(disk))
        script = f"mount -t tmpfs tmpfs {place} && cd {place} && exec {shlex.join(command)}"
        with (self.directory / f"{name}.log").open("ab") as log:
            process: subprocess.Popen[str] = subprocess.Popen(
                ["ip", "netns", "exec", self._of(name), "sh", "-c", script],
                env=os.environ | environment | {"TMPDIR": str(disk)},
                stderr=log, text=True, start_new_session=True, **({"stdout": log} | options),
            )  # fmt: skip
        self._processes.append(process)
        return process

    def cut_off(self, name: str) -> None:
        """Take a host's link down: nothing comes through any more, and nobody is told."""
        _ip("-n", self._of(name), "link", "set", "eth0", "down")

    def log(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text()

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(20)
        for namespace in self._namespaces:
            subprocess.run(["ip", "netns", "delete", namespace], capture_output=True, check=False)

    def _of(self, name: str) -> str:
        return f"{self._prefix}-{name}"

    def _make(self, name: str) -> None:
        _ip("netns", "add", self._of(name))
        self._namespaces.append(self._of(name))

"""Where and with what a figure was taken."""

from __future__ import annotations

import datetime
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dask_annoy import _native

PACKAGES = ("dask-annoy", "numpy", "annoy", "hnswlib", "faiss-cpu", "usearch", "voyager")
INSTRUCTIONS = ("avx2", "fma", "avx512f", "avx512bw", "avx512_vnni", "avx512_vpopcntdq")


def describe() -> dict[str, Any]:
    """Processor, memory, load, versions, kernels, and the time."""
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "processor": _cpuinfo("model name") or platform.processor(),
        "instructions": [name for name in INSTRUCTIONS if name in _cpuinfo("flags").split()],
        "processors": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "load": os.getloadavg()[0],
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "kernels": {"used": _native.active_kernels(), "available": _native.available_kernels()},
    }


def in_words(machine: dict[str, Any]) -> str:
    """A sentence for the head of a page of figures."""
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items() if number)
    return (
        f"{machine['processor']}, {machine['processors']} processors, {machine['memory'] / 2**30:.0f} GiB, "
        f"load {machine['load']:.1f} at the start, {machine['time'][:10]}; "
        f"kernels {machine['kernels']['used']}; {versions}"
    )


def _cpuinfo(field: str) -> str:
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == field:
                return value.strip()
    return ""


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None

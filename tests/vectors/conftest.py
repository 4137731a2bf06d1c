from __future__ import annotations

import tracemalloc
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem


@pytest.fixture
def memory_url() -> Iterator[str]:
    """A folder of its own in fsspec's memory."""
    url = f"memory://{uuid.uuid4().hex}"
    yield url
    filesystem = fsspec.filesystem("memory")
    if filesystem.exists(url):
        filesystem.rm(url, recursive=True)


@pytest.fixture
def bytes_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The length of each range that is read from fsspec's memory."""
    lengths: list[int] = []
    original = MemoryFileSystem.cat_file

    def counting(self, path, start=None, end=None, **kwargs):
        data = original(self, path, start, end, **kwargs)
        lengths.append(len(data))
        return data

    monkeypatch.setattr(MemoryFileSystem, "cat_file", counting)
    return lengths


@pytest.fixture
def peak_memory() -> Callable[[], object]:
    """Measure what numpy and Python allocate, in bytes: ``with peak_memory() as peak: …; peak()``."""

    @contextmanager
    def measure():
        tracemalloc.start()
        try:
            yield lambda: tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    return measure


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)

"""Marks: what cannot be taken away again is left, whatever the client of the storage calls its error."""

from __future__ import annotations

from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from dask_annoy.storage import IndexFolder, at_work, collect_garbage, commit, put_if_absent
from dask_annoy.storage.work import announced_clean_up

from .conftest import manifest


class ClientError(Exception):
    """As the clients of Azure and Google raise them."""

    status_code = 500


@pytest.fixture
def undeletable(memory_folder: IndexFolder, monkeypatch: Any) -> IndexFolder:
    """A folder in which nothing can be deleted."""

    def fail(*_: object, **__: object) -> None:
        raise ClientError("https://account/x?sig=secret")

    monkeypatch.setattr(MemoryFileSystem, "rm_file", fail)
    return memory_folder


def test_a_change_is_no_error_because_its_mark_stays(undeletable: IndexFolder) -> None:
    with at_work(undeletable, "build"):
        commit(undeletable, manifest())
    with announced_clean_up(undeletable, [1]):
        pass
    assert len(undeletable.list("work")) == 2
    assert undeletable.now() > 0
    assert collect_garbage(undeletable, 0).kept_versions == (1,)


def test_deletions_that_fail_are_os_errors_without_secrets(undeletable: IndexFolder) -> None:
    undeletable.write_bytes("shards/a", b"a")
    with pytest.raises(OSError, match=r"^memory://.*ClientError, status 500$"):
        undeletable.delete(["shards/a"])


def test_a_put_that_a_client_throttles_is_tried_again(memory_folder: IndexFolder, monkeypatch: Any) -> None:
    create, calls = IndexFolder.create, []

    def throttled(self: IndexFolder, name: str, payload: bytes) -> None:
        calls.append(name)
        if len(calls) == 1:
            try:
                raise RuntimeError("wrapped") from ClientError("slow down")
            except RuntimeError as error:
                raise OSError("the client of the storage failed") from error
        create(self, name, payload)

    monkeypatch.setattr(IndexFolder, "create", throttled)
    monkeypatch.setattr("dask_annoy.storage.publish._FIRST_PAUSE", 0.001)
    assert put_if_absent(memory_folder, "versions/x", b"x")
    assert len(calls) == 2

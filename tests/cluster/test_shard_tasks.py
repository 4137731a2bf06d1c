"""A build that goes on beside a clean-up, which looked for marks before the build left its own, lacks nothing after."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dask_annoy import build_index
from dask_annoy.cluster import shard_tasks
from dask_annoy.storage import IndexFolder

from .conftest import TREES, fingerprint

OPTIONS: dict[str, Any] = {"shard_rows": 250, "n_trees": TREES, "client": False}


def taken_from(folder: IndexFolder) -> list[str]:
    """What a clean-up takes of an old build: it deletes plan, sample and receipts, and leaves the shards."""
    taken = [file.name for file in folder.files("builds")]
    folder.delete(taken)
    return taken


@pytest.fixture
def killed(npy: Path, tmp_path: Path, monkeypatch: Any) -> IndexFolder:
    """What a build leaves that was killed after its first shard."""
    build = shard_tasks.build_shard
    is_built = threading.Event()

    def build_one(task: Any, **options: Any) -> Any:
        if task.slot:
            is_built.wait()
            raise KeyboardInterrupt
        receipt = build(task, **options)
        is_built.set()
        return receipt

    with monkeypatch.context() as patched:
        patched.setattr(shard_tasks, "build_shard", build_one)
        with pytest.raises(KeyboardInterrupt):
            build_index(npy, tmp_path / "index", **OPTIONS)
    return IndexFolder(str(tmp_path / "index"))


def before(name: str, act: Callable[[], object], monkeypatch: Any) -> None:
    """Act once, before the function of this name in `shard_tasks` is called."""
    function = getattr(shard_tasks, name)
    pending = [act]

    def call(*arguments: Any, **options: Any) -> Any:
        while pending:
            pending.pop()()
        return function(*arguments, **options)

    monkeypatch.setattr(shard_tasks, name, call)


@pytest.mark.parametrize("moment", ["list_receipts", "sound_receipt", "write_sample", "build_shard", "_put_back"])
def test_a_build_from_which_a_clean_up_takes_names_is_finished_and_can_be_repaired(
    killed: IndexFolder, npy: Path, tmp_path: Path, moment: str, monkeypatch: Any
) -> None:
    undisturbed = build_index(npy, tmp_path / "undisturbed", **OPTIONS)
    taken: list[str] = []
    before(moment, lambda: taken.extend(taken_from(killed)), monkeypatch)
    index = build_index(npy, killed.url, **OPTIONS)
    assert any(name.endswith("plan.json") for name in taken)
    assert fingerprint(index) == fingerprint(undisturbed)
    folder = killed.local_path(f"builds/{index.manifest.build_id}")
    assert {"plan.json", "sample.npy"} < {file.name for file in folder.iterdir()}
    for shard in index.manifest.shards:
        killed.local_path(f"shards/{shard.uuid}/forest.ann").unlink()
    report = index.repair()
    assert len(report.mended) == len(index.manifest.shards) > 1


def test_another_error_of_a_shard_is_raised_at_once(npy: Path, tmp_path: Path, monkeypatch: Any) -> None:
    called: list[int] = []

    def fail(task: Any, **_: Any) -> Any:
        called.append(task.slot)
        raise FileNotFoundError("the vectors are gone")

    monkeypatch.setattr(shard_tasks, "build_shard", fail)
    with pytest.raises(FileNotFoundError, match="the vectors are gone"):
        build_index(npy, tmp_path / "index", **OPTIONS)
    assert len(called) == len(set(called))

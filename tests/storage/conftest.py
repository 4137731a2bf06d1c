from __future__ import annotations

import hashlib
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dask_annoy.storage import DeletionEntry, FileEntry, IndexFolder, Manifest, Rules, ShardEntry, Totals


@pytest.fixture
def s3_folder(s3_options: dict[str, Any]) -> IndexFolder:
    return IndexFolder(f"s3://bucket/{uuid.uuid4().hex}", s3_options)


@pytest.fixture
def memory_folder() -> IndexFolder:
    return IndexFolder(f"memory://{uuid.uuid4().hex}")


@pytest.fixture
def local_folder(tmp_path: Path) -> IndexFolder:
    return IndexFolder(str(tmp_path / "index"))


@pytest.fixture(params=["local", "memory", "s3"])
def folder(request: pytest.FixtureRequest) -> IndexFolder:
    """An empty index folder on each kind of storage."""
    made: IndexFolder = request.getfixturevalue(f"{request.param}_folder")
    return made


def entry(name: str, payload: bytes) -> FileEntry:
    return FileEntry(name=name, bytes=len(payload), sha256=hashlib.sha256(payload).hexdigest())


def manifest(version: int = 1, *, writer: str | None = None, items: tuple[int, ...] = (5, 3)) -> Manifest:
    deleted = DeletionEntry(uuid="d" * 32, items=1, bytes=132, sha256="e" * 64)
    shards, row = [], 0
    for slot, count in enumerate(items):
        files = (entry("forest.ann", b"forest%d" % slot), entry("ids.npy", b"ids%d" % slot))
        shards.append(
            ShardEntry(
                slot=slot, uuid=f"{slot:032x}", items=count, row_start=row, row_stop=row + count, n_trees=10,
                seed=2**64 - 1, files=files, deletions=deleted if slot == 0 else None,
            )
        )  # fmt: skip
        row += count
    return Manifest(
        index_id="a" * 32, version=version, parent=version - 1 or None, writer=writer or uuid.uuid4().hex,
        build_id="b" * 64, created=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        library="dask-annoy 0.1.0",
        metric="angular", width=8, packed=False, source="array", source_dtype="float32", id_type="int64",
        rules=Rules(n_trees=10, shard_rows=5, seed=0, target_recall=0.9),
        partition="rows", shards=tuple(shards), tuning=None,
        totals=Totals.of(shards),
    )  # fmt: skip

from __future__ import annotations

import dataclasses
import hashlib
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dask_annoy.planning import make_plan
from dask_annoy.shard import ShardTask, write_sample
from dask_annoy.storage import IndexFolder
from dask_annoy.vectors import ArrayIds, ArraySource, RowNumberIds, encode_rows

MakeTask = Callable[..., ShardTask]


@pytest.fixture
def folder(tmp_path: Path) -> IndexFolder:
    return IndexFolder(str(tmp_path / "index"))


@pytest.fixture
def make_task(folder: IndexFolder) -> MakeTask:
    """Plan a build of rows, write its sample, and make the task of one slot."""

    def make(
        rows: Any, *, slot: int = 0, metric: str = "angular", ids: Any = None, shard_rows: Any = "auto",
        n_trees: int = 5, into: IndexFolder = folder, **changes: Any,
    ) -> ShardTask:  # fmt: skip
        rows = np.asarray(rows)
        id_source = RowNumberIds(len(rows)) if ids is None else ArrayIds(ids)
        plan = make_plan(
            source="test rows", source_dtype=str(rows.dtype), n_rows=len(rows), metric=metric, width=rows.shape[1],
            packed=False, id_type=id_source.id_type, identity={"n": len(rows)}, n_trees=n_trees,
            shard_rows=shard_rows, block_bytes=1 << 20,
        )  # fmt: skip
        build_id = str(plan.build_id)
        sample = rows[list(plan.sample_rows)]
        width = rows.shape[1]
        write_sample(into, build_id, encode_rows(sample, source="s", first_row=0, metric=metric, width=width))
        part = plan.slots[slot]
        task = ShardTask(
            folder=into, build_id=build_id, slot=slot, row_start=part.row_start, row_stop=part.row_stop,
            vectors=ArraySource(rows), vectors_start=part.row_start, ids=id_source, ids_start=part.row_start,
            source_name="test rows", metric=metric, width=width, packed=False, n_trees=n_trees, seed=0,
            sample_rows=plan.sample_rows, k=plan.k, block_bytes=1 << 20,
        )  # fmt: skip
        return dataclasses.replace(task, **changes)

    return make


@pytest.fixture
def other_folder(tmp_path: Path) -> IndexFolder:
    return IndexFolder(str(tmp_path / uuid.uuid4().hex))


def digests(folder: IndexFolder) -> dict[str, set[str]]:
    """The SHA-256 of all shard files in a local folder, by name: one each if all attempts agree."""
    found: dict[str, set[str]] = {}
    for path in Path(folder.url, "shards").glob("*/*"):
        found.setdefault(path.name, set()).add(hashlib.sha256(path.read_bytes()).hexdigest())
    return found

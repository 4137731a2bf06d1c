"""The plan of a build: which rows go to which shard, with how many trees. A pure function of data and parameters."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import numpy as np
from pydantic import Field

from dask_annoy._native import node_size
from dask_annoy.planning.estimate import Estimate, estimate_shard
from dask_annoy.storage.document import Document
from dask_annoy.units import duration_text, size_text

__all__ = ["BUILDER_VERSION", "BuildPlan", "Identity", "PlannedOperation", "SlotPlan", "build_id_of", "make_plan"]

#: Counts up when the same input and parameters give other bytes than before.
BUILDER_VERSION: Final = 5

_K: Final = 10  # neighbours that recall is measured on
_SAMPLE_ROWS: Final = 1000
_AUTO_TREES: Final = 20  # beyond, queries at recall 0.9 gain little on real data; see docs/architecture.md
_AUTO_SHARD_BYTES: Final = 256 * 2**20
_MOST_SHARD_ROWS: Final = 2**28

Identity = Mapping[str, str | int]
PlannedOperation = Literal["build", "append", "compact"]


class SlotPlan(Document):
    """One shard to be: a slot and its rows, ``row_start`` to ``row_stop`` (excluded)."""

    slot: int
    row_start: int
    row_stop: int

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.row_stop - self.row_start


class BuildPlan(Document):
    """What a build will do. Print it before anything runs.

    ``build_id`` is None for a Dask collection that was not computed yet: it follows from the rows. ``shard_rows_rule``
    is the bound on the rows of a shard, "auto" resolved. ``identity`` tells the input from any other, ``context`` the
    work on it: the index that is appended to, and the like; both are hashed in the build id.
    """

    build_id: str | None
    operation: PlannedOperation = "build"
    identity: dict[str, str | int] | None = None
    context: dict[str, str | int] = Field(default_factory=dict)
    builder_version: int
    source: str
    source_dtype: str
    n_rows: int
    metric: str
    width: Annotated[int, Field(ge=1)]
    packed: bool
    id_type: Literal["int64", "string"]
    n_trees: int
    seed: int
    target_recall: float
    k: int
    sample_rows: tuple[int, ...]
    shard_rows_rule: int
    cells: Literal["auto", False] | Annotated[int, Field(ge=1, lt=2**31)] = "auto"
    slots: tuple[SlotPlan, ...]
    estimate: Estimate

    @property
    def shard_rows(self) -> int:
        """Rows of the largest shard."""
        return max(slot.rows for slot in self.slots)

    @property
    def tuned_method(self) -> Literal["forest", "cells"]:
        """How the shards will be searched: what search budgets count."""
        return "forest" if self.cells is False else "cells"

    def __str__(self) -> str:
        estimate = self.estimate
        cells = {"auto": "by the number of items", False: "none"}.get(self.cells, f"about {self.cells} a shard")
        lines = [
            f"source          {self.source} ({self.n_rows:,} rows × {self.width:,}, {self.source_dtype}"
            f"{', packed bits' if self.packed else ''})",
            f"metric          {self.metric}",
            f"shards          {len(self.slots):,} of up to {self.shard_rows:,} rows",
            f"trees           {self.n_trees} a shard",
            f"cells           {cells}",
            f"target          recall@{self.k} of {self.target_recall:.2f}, measured on "
            f"{len(self.sample_rows):,} sampled rows",
            f"size            about {size_text(estimate.total_bytes)} ({size_text(estimate.shard_bytes)} a shard)",
            f"memory          about {size_text(estimate.task_memory_bytes)} a shard task, of which "
            f"{size_text(estimate.task_mapped_bytes)} mapped",
            f"time            about {duration_text(estimate.core_seconds)} on one core of 2025",
            f"build id        {self.build_id or 'known once the rows are read'}",
        ]
        return "\n".join(lines)


def make_plan(
    *,
    source: str,
    source_dtype: str,
    n_rows: int,
    metric: str,
    width: int,
    packed: bool,
    id_type: Literal["int64", "string"],
    identity: Identity | None,
    operation: PlannedOperation = "build",
    context: Identity | None = None,
    n_trees: int | Literal["auto"] = "auto",
    shard_rows: int | Literal["auto"] = "auto",
    target_recall: float = 0.9,
    seed: int = 0,
    cells: int | Literal["auto", False] = "auto",
    block_bytes: int,
) -> BuildPlan:
    """Plan a build.

    Parameters
    ----------
    source, source_dtype : str
        Name and element type of the input, for people.
    n_rows, width : int
        Vectors and their dimensions.
    metric : str
    packed : bool
        Whether the input holds packed bits.
    id_type : {"int64", "string"}
    identity : mapping or None
        What tells this input from another; None if it is not known yet.
    operation : {"build", "append", "compact"}
        What the shards are built for.
    context : mapping, optional
        What else tells this build from others of the same input.
    n_trees, shard_rows : int or "auto"
    target_recall : float
        Recall@10 that the search budget is chosen for.
    seed : int
    cells : "auto", int or False
        How many cells each shard gets, or that it gets none.
    block_bytes : int
        Bound on the rows that a shard task reads at a time.

    Raises
    ------
    ValueError
        If a parameter is out of its range; names it.
    """
    node_size(metric, width)  # refuses an unknown metric
    if n_rows < 1:
        raise ValueError(f"{source} has no rows: an index needs at least one vector")
    # The same number of another type is the same build.
    target_recall, seed = _recall(target_recall), _seed(seed)
    cells = _cells(cells)
    trees = _AUTO_TREES if n_trees == "auto" else _positive("n_trees", n_trees)
    most = _auto_shard_rows(metric, width) if shard_rows == "auto" else _positive("shard_rows", shard_rows)
    if most > _MOST_SHARD_ROWS:
        raise ValueError(f"shard_rows must be at most {_MOST_SHARD_ROWS:,}, not {most:,}: a shard is one Annoy file")
    n_slots = -(-n_rows // most)
    bounds = [n_rows * slot // n_slots for slot in range(n_slots + 1)]
    slots = tuple(SlotPlan(slot=slot, row_start=bounds[slot], row_stop=bounds[slot + 1]) for slot in range(n_slots))
    parameters: dict[str, Any] = {
        "builder_version": BUILDER_VERSION,
        "n_rows": n_rows,
        "metric": metric,
        "width": width,
        "packed": packed,
        "id_type": id_type,
        "n_trees": trees,
        "seed": seed,
        "target_recall": target_recall,
        "k": _K,
        "cells": cells,
        "bounds": bounds,
    }
    return BuildPlan(
        build_id=None if identity is None else build_id_of(parameters | _beside(operation, context), identity),
        operation=operation,
        identity=None if identity is None else dict(identity),
        context=dict(context or {}),
        builder_version=BUILDER_VERSION,
        source=source,
        source_dtype=source_dtype,
        n_rows=n_rows,
        metric=metric,
        width=width,
        packed=packed,
        id_type=id_type,
        n_trees=trees,
        seed=seed,
        target_recall=target_recall,
        k=_K,
        sample_rows=_sample(n_rows, seed),
        shard_rows_rule=most,
        cells=cells,
        slots=slots,
        estimate=estimate_shard(
            metric,
            width,
            max(slot.rows for slot in slots),
            n_rows,
            trees,
            len(_sample(n_rows, seed)),
            block_bytes,
            with_cells=cells is not False,
        ),
    )


def build_id_of(parameters: Mapping[str, Any], identity: Identity) -> str:
    """The hash that tells this build from any other: parameters, input, builder version."""
    text = json.dumps({"parameters": parameters, "identity": dict(identity)}, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _beside(operation: PlannedOperation, context: Identity | None) -> dict[str, Any]:
    return {} if operation == "build" and not context else {"operation": operation, "context": dict(context or {})}


def _sample(n_rows: int, seed: int) -> tuple[int, ...]:
    """Rows drawn without repeats, the same for the same number of rows and seed; ascending."""
    count = min(n_rows, _SAMPLE_ROWS)
    rows = np.random.Generator(np.random.PCG64(seed)).choice(n_rows, count, replace=False, shuffle=False)
    return tuple(sorted(int(row) for row in rows))


def _auto_shard_rows(metric: str, width: int) -> int:
    return min(_MOST_SHARD_ROWS, max(1000, _AUTO_SHARD_BYTES // node_size(metric, width)))


def _recall(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not 0 < value <= 1:
        raise ValueError(f"target_recall must be above 0 and at most 1, not {value!r}")
    return float(value)


def _seed(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 0 <= value < 2**63:
        raise ValueError(f"seed must be an integer from 0 to 2**63 - 1, not {value!r}")
    return int(value)


def _cells(value: object) -> int | Literal["auto", False]:
    if value is False or value == "auto":
        return "auto" if value == "auto" else False
    if isinstance(value, (bool, np.bool)) or not isinstance(value, (int, np.integer)) or not 1 <= value < 2**31:
        raise ValueError(f'cells must be "auto", False or a positive number of cells a shard, not {value!r}')
    return int(value)


def _positive(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f'{name} must be a positive integer or "auto", not {value!r}')
    return int(value)

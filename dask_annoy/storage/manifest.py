"""The manifest: the immutable JSON document of one version, and all that is checked before it is believed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, AwareDatetime, Field, model_validator

from dask_annoy._native import metric_names
from dask_annoy.storage.document import SEAL_FIELD, Document, parse_versioned, sealed

__all__ = [
    "CELLS_FILE",
    "FOREST_FILE",
    "FORMAT_VERSION",
    "MAX_MANIFEST_BYTES",
    "Count",
    "DeletionEntry",
    "FileEntry",
    "Manifest",
    "Operation",
    "RecallCurve",
    "RecallPoint",
    "Rules",
    "ShardEntry",
    "Totals",
    "Tuning",
    "manifest_schema",
]

#: The newest format that this release reads, and the one that it writes.
FORMAT_VERSION: Final = 1
#: A manifest of 40 000 shards has about this size.
MAX_MANIFEST_BYTES: Final = 32 * 2**20
#: The Annoy file that every shard has.
FOREST_FILE: Final = "forest.ann"
CELLS_FILE: Final = "cells.bin"

Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
Positive = Annotated[int, Field(ge=1, le=2**63 - 1)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Uuid = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[str, Field(max_length=4096)]
#: A receipt's budgets are at most 2^62, and a tuning adds a share to them; more would not fit an int64 search budget.
Budget = Annotated[int, Field(ge=1, le=3 * 2**61)]


def _known_metric(name: str) -> str:
    if name not in metric_names():
        raise ValueError(f"{name!r} is no metric that this release knows ({', '.join(metric_names())})")
    return name


Metric = Annotated[
    str, Field(max_length=32, json_schema_extra={"enum": list(metric_names())}), AfterValidator(_known_metric)
]

#: How many cells a shard gets: by the number of its items, about so many, or none.
Cells = Literal["auto", False] | Annotated[int, Field(ge=1, lt=2**31)]
BuildId = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=128)]
Operation = Literal["build", "append", "delete", "upsert", "compact", "rollback", "copy", "repair"]


class FileEntry(Document):
    """A file of a shard: its name in the shard's folder, its size and its SHA-256 in hexadecimal."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$", max_length=128)]
    bytes: Count
    sha256: Sha256


class DeletionEntry(Document):
    """The deleted items of one shard: a set of item numbers in the file ``deletions/<uuid>.npy``."""

    uuid: Uuid
    items: Positive
    bytes: Count
    sha256: Sha256

    @property
    def file(self) -> FileEntry:
        """The file, in the folder of deletions."""
        return FileEntry(name=f"{self.uuid}.npy", bytes=self.bytes, sha256=self.sha256)


class ShardEntry(Document):
    """A shard, in the folder of its uuid: rows ``row_start`` to ``row_stop`` (excluded) of what it was built from.

    `items` counts deleted items too, which `deletions` names.
    """

    slot: Annotated[int, Field(ge=0, lt=2**31)]  # with an item number, a key of 63 bits
    uuid: Uuid
    items: Annotated[int, Field(ge=1, lt=2**31)]
    row_start: Count
    row_stop: Positive
    n_trees: Annotated[int, Field(ge=1, lt=2**31)]
    seed: Annotated[int, Field(ge=0, lt=2**64)]
    files: tuple[FileEntry, ...]
    deletions: DeletionEntry | None = None

    @property
    def contents(self) -> tuple[str, str | None]:
        """What tells it from the same shard with other deletions: the uuids of both."""
        return self.uuid, None if self.deletions is None else self.deletions.uuid

    @property
    def live_items(self) -> int:
        """Items that are not deleted."""
        return self.items - (self.deletions.items if self.deletions else 0)

    @property
    def bytes(self) -> int:
        """Bytes of the shard's files."""
        return sum(file.bytes for file in self.files)

    @property
    def has_cells(self) -> bool:
        """Whether it has cells to be searched by."""
        return any(file.name == CELLS_FILE for file in self.files)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.live_items < 0:
            raise ValueError(f"more items are deleted than the {self.items} that there are")
        if self.items != self.row_stop - self.row_start:
            raise ValueError(f"{self.items} items do not fill the rows {self.row_start} to {self.row_stop}")
        names = [file.name for file in self.files]
        if len(set(names)) != len(names):
            raise ValueError("a file is named twice")
        if FOREST_FILE not in names:
            raise ValueError(f"there is no {FOREST_FILE} among the files")
        return self


class RecallPoint(Document):
    """The recall that was measured with one search budget per shard."""

    search_k: Budget
    recall: Share


class RecallCurve(Document):
    """Recall of the best `k` against the search budget, measured on sampled rows; budgets ascend."""

    method: Literal["forest", "cells"]
    k: Positive
    sample_rows: Positive
    points: Annotated[tuple[RecallPoint, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        budgets = [point.search_k for point in self.points]
        if any(later <= earlier for earlier, later in pairwise(budgets)):
            raise ValueError("the search budgets do not ascend")
        return self


class Tuning(Document):
    """The search budget that was chosen for a target recall, and the curves it was chosen from."""

    target_recall: Share
    search_k: Budget
    recall: Share
    curves: Annotated[tuple[RecallCurve, ...], Field(min_length=1)]


class Rules(Document):
    """What shards that are added later are built with: the parameters of the first build, "auto" resolved."""

    n_trees: Annotated[int, Field(ge=1, lt=2**31)]
    shard_rows: Annotated[int, Field(ge=1, lt=2**31)]
    seed: Count
    target_recall: Share
    cells: Cells = "auto"


class Totals(Document):
    """Sums over the shards: `items` that can be found, and those that are deleted."""

    shards: Positive
    items: Count
    deleted: Count = 0
    bytes: Count

    @classmethod
    def of(cls, shards: Sequence[ShardEntry]) -> Self:
        """Add up."""
        return cls(
            shards=len(shards),
            items=sum(shard.live_items for shard in shards),
            deleted=sum(shard.items - shard.live_items for shard in shards),
            bytes=sum(shard.bytes for shard in shards),
        )


class Manifest(Document):
    """One version of an index. Building one checks it as strictly as reading one from storage.

    `parent` is None for the first version, `tuning` is None where no recall was measured. `build_id` is that of the
    build that the index began with, and `change_id` that of the append, compaction or copy that made this version.
    `next_id` is the id of the next item where ids are row numbers, else None. Uuids are 32 hexadecimal digits. `source`
    and `library` are for people; nothing is opened or decided by them.
    """

    format_version: Annotated[int, Field(ge=1, le=FORMAT_VERSION)] = FORMAT_VERSION  # Literal[1] takes true
    index_id: Uuid
    version: Positive
    parent: Positive | None
    writer: Uuid
    operation: Operation = "build"
    build_id: BuildId
    change_id: BuildId | None = None
    created: AwareDatetime
    library: Annotated[str, Field(max_length=128)]
    metric: Metric
    width: Annotated[int, Field(ge=1, lt=2**31)]
    packed: bool
    source: Text
    source_dtype: Annotated[str, Field(max_length=128)]
    id_type: Literal["int64", "string"]
    next_id: Count | None = None
    rules: Rules
    partition: Literal["rows"]
    shards: Annotated[tuple[ShardEntry, ...], Field(min_length=1)]
    tuning: Tuning | None
    totals: Totals

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.parent is not None and self.version <= self.parent:
            raise ValueError(f"version {self.version} does not follow its parent {self.parent}")
        for earlier, later in pairwise(self.shards):
            if later.slot <= earlier.slot:
                raise ValueError(f"the slot {later.slot} stands after the slot {earlier.slot}: slots ascend")
        if len({shard.uuid for shard in self.shards}) != len(self.shards):
            raise ValueError("two shards have the same uuid")
        if self.totals != Totals.of(self.shards):
            raise ValueError(f"the totals say {self.totals}, but the shards add up to {Totals.of(self.shards)}")
        return self

    def to_json(self) -> bytes:
        """The manifest as indented JSON that ends with its checksum: the same manifest gives the same bytes."""
        payload = sealed(self)
        if len(payload) > MAX_MANIFEST_BYTES:
            raise ValueError(
                f"the manifest of {len(self.shards)} shards has {len(payload)} bytes, more than the "
                f"{MAX_MANIFEST_BYTES} that readers accept: build with more rows a shard"
            )
        return payload

    @classmethod
    def parse(cls, payload: bytes, *, where: str) -> Self:
        """Read a manifest from bytes that are not trusted.

        Parameters
        ----------
        payload : bytes
        where : str
            The file's address without credentials, for the messages.

        Raises
        ------
        FormatVersionError
            If it is in a newer format.
        CorruptIndexError
            If it is damaged, cut or forged; names the file and the first problem.
        """
        return parse_versioned(
            cls,
            payload,
            where=where,
            what="manifest",
            newest=FORMAT_VERSION,
            max_bytes=MAX_MANIFEST_BYTES,
            is_sealed=True,
        )


def manifest_schema() -> dict[str, Any]:
    """The JSON schema of manifests, for other readers of the format."""
    schema = Manifest.model_json_schema()
    schema["properties"][SEAL_FIELD] = {
        "description": "SHA-256 of all bytes before the comma in front of this field, the last of the file.",
        "pattern": "^[0-9a-f]{64}$",
        "type": "string",
    }
    schema["required"] = [*schema["required"], SEAL_FIELD]
    return schema

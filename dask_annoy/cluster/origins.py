"""Where a shard came from: the build that made it, and whether that build's input is still there and unchanged."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from dask_annoy.cluster.compact import items_of
from dask_annoy.cluster.executor import Executor, Progress
from dask_annoy.cluster.inputs import Inputs, VectorForm, open_inputs
from dask_annoy.cluster.places import options_for
from dask_annoy.cluster.staging import StagingDamagedError
from dask_annoy.errors import (
    CorruptIndexError,
    DaskAnnoyError,
    FormatVersionError,
    IndexNotFoundError,
    InvalidIdsError,
    InvalidVectorsError,
)
from dask_annoy.planning import BUILDER_VERSION, BuildPlan, identity_differences, read_plan
from dask_annoy.storage import (
    IndexFolder,
    Manifest,
    list_versions,
    parse_receipt_name,
    read_manifest,
)

__all__ = [
    "GivenSource",
    "Origin",
    "SourceGoneError",
    "find_origins",
    "gone_if_it_fails",
    "open_origin",
    "origin_plan",
]


@dataclass(frozen=True)
class Origin:
    """The build, and the slot in its plan, that a shard was built as."""

    build_id: str
    slot: int


@dataclass(frozen=True)
class GivenSource:
    """The vectors and ids that the user gave to build shards from again; None for those that the builds had."""

    vectors: Any
    ids: Any
    column: str | None
    options: Mapping[str, Any] | None


class SourceGoneError(Exception):
    """What shards were built from cannot be had again, or is not what it was. Says why; never leaves the package."""


def find_origins(folder: IndexFolder, uuids: Collection[str]) -> dict[str, Origin]:
    """The origins of shards by their uuids, from the names of receipts; those that have none are left out."""
    found = {}
    for file in folder.files("builds"):
        parts = file.name.split("/")
        parsed = parse_receipt_name(file.name) if len(parts) == 3 else None
        if parsed is not None and parsed[1] in uuids and not parts[1].startswith("copy-"):
            found[parsed[1]] = Origin(parts[1], parsed[0])
    return found


def origin_plan(folder: IndexFolder, build_id: str) -> BuildPlan:
    """The plan of a build that can be repeated byte by byte; SourceGoneError if it cannot."""
    with gone_if_it_fails("the plan of its build cannot be read"):
        plan = read_plan(folder, build_id)
    if plan.builder_version != BUILDER_VERSION:
        raise SourceGoneError(
            f"it was built by builder version {plan.builder_version}, and this release is version {BUILDER_VERSION}, "
            "which makes other bytes of the same vectors"
        )
    return plan


def open_origin(
    folder: IndexFolder,
    manifest: Manifest,
    plan: BuildPlan,
    given: GivenSource,
    executor: Executor,
    progress: Progress | None,
) -> Inputs:
    """Open what a build was made from: as given or as the plan names it, or the shards that were compacted.

    What was given may be meant for another build: it must be what this one was made from, or it does not count.

    Raises
    ------
    SourceGoneError
        If it is not there any more, or not what it was: names the difference.
    """
    if plan.operation == "compact":
        with gone_if_it_fails("the shards that were compacted cannot be read"):
            return _same(_compacted(folder, str(plan.build_id)), plan)
    form = VectorForm(manifest.metric, manifest.width, plan.packed)
    reasons = []
    for source in _candidates(plan, given):
        try:
            return _opened(folder, source, form, plan, executor, progress)
        except SourceGoneError as error:
            reasons.append(str(error))
    raise SourceGoneError("; ".join(reasons))


def _candidates(plan: BuildPlan, given: GivenSource) -> list[GivenSource]:
    """Where what a build was made from may be, the likeliest first."""
    if given.vectors is None:
        return [_named_source(plan, given)]
    try:
        named = _named_source(plan, given)
    except SourceGoneError:
        return [given]
    return [given, named] if isinstance(given.vectors, str | os.PathLike) else [named, given]


def _opened(
    folder: IndexFolder,
    source: GivenSource,
    form: VectorForm,
    plan: BuildPlan,
    executor: Executor,
    progress: Progress | None,
) -> Inputs:
    is_file = isinstance(source.vectors, str | os.PathLike)
    with gone_if_it_fails("its source cannot be opened", None if is_file else _nothing):
        inputs = open_inputs(
            source.vectors,
            source.ids,
            form,
            column=source.column,
            source_options=options_for(source.vectors, folder) if source.options is None else source.options,
            folder=folder,
            executor=executor,
            progress=progress,
        )
    try:
        _same(inputs, plan)
        if inputs.ids_are_row_numbers and "next_id" in plan.context:
            inputs.number_rows_from(int(plan.context["next_id"]))
    except BaseException:
        inputs.remove_staging()
        raise
    return inputs


@contextmanager
def gone_if_it_fails(what: str, look: Callable[[], object] | None = None) -> Iterator[None]:
    """Turn errors of the body that say that the source is not what it was, or not there, into a `SourceGoneError`.

    Others pass, as what is behind them may be there all the same, and nothing is to be given up for them: a server that
    is silent, overloaded or refuses, a full disk, a package that is not installed, staged rows that were damaged.

    Parameters
    ----------
    what : str
        What failed, for the message.
    look : callable, optional
        Looks at the source, where the body uses other files, too: a missing file is the source's if this fails as well.
    """
    try:
        yield
    except StagingDamagedError:
        raise
    except (InvalidVectorsError, InvalidIdsError, CorruptIndexError, FormatVersionError, IndexNotFoundError) as error:
        raise SourceGoneError(f"{what}: {error}") from error
    except (FileNotFoundError, NotADirectoryError) as error:
        if look is not None:
            try:
                look()
            except (FileNotFoundError, NotADirectoryError, InvalidVectorsError, InvalidIdsError):
                pass
            else:
                raise
        raise SourceGoneError(f"{what}: {error}") from error


def _nothing() -> None:
    """Looks at a source in memory: it is there."""


def _same(inputs: Inputs, plan: BuildPlan) -> Inputs:
    """The inputs, if they are what the plan was made for."""
    with gone_if_it_fails("its source cannot be read"):
        identity = inputs.identity()
    if identity != plan.identity or inputs.n_rows != plan.n_rows:
        changed = "; ".join(identity_differences(plan.identity, identity)) or "it is not the same"
        raise SourceGoneError(f"its source, {plan.source}, is not what it was built from: {changed}")
    return inputs


def _named_source(plan: BuildPlan, given: GivenSource) -> GivenSource:
    """The files that a plan names."""
    identity = plan.identity or {}
    vectors = identity.get("vectors.url")
    if vectors is None:
        raise SourceGoneError(f"it was built from a {plan.source}, which no file holds: give the vectors again")
    column = identity.get("vectors.column")
    ids = identity.get("ids.column", identity.get("ids.url"))
    if ids is None and "ids.row_numbers" not in identity:
        raise SourceGoneError("its ids were in memory, and no file holds them: give the vectors and the ids again")
    return GivenSource(
        vectors=str(vectors),
        ids=None if ids is None else str(ids),
        column=None if column is None else str(column),
        options=given.options,
    )


def _compacted(folder: IndexFolder, build_id: str) -> Inputs:
    """The items that a compaction rewrote, from the shards that it left behind."""
    for version in list_versions(folder):
        try:
            manifest = read_manifest(folder, version)
            if manifest.change_id != build_id or manifest.parent is None:
                continue
            parent = read_manifest(folder, manifest.parent)
        except (DaskAnnoyError, FileNotFoundError):
            continue
        kept = {entry.uuid for entry in manifest.shards}
        return items_of(folder, parent, [entry for entry in parent.shards if entry.uuid not in kept])
    raise SourceGoneError("it came of a compaction, and the version that was compacted has been cleaned up")

"""What an earlier run into the same folder was about, and what is different now: noticed, and said by name."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from dask_annoy.errors import DaskAnnoyError, UnfinishedBuildWarning
from dask_annoy.planning import BuildPlan, differences, read_plan
from dask_annoy.storage import IndexFolder, Manifest, parse_receipt_name, version_name

__all__ = ["changes_since", "warn_of_unfinished"]

_PLAN: Final = re.compile(r"builds/([a-z0-9][a-z0-9_-]*)/plan\.json")
_MOST_LOOKED_AT: Final = 8


def changes_since(folder: IndexFolder, build_id: str, plan: BuildPlan) -> str:
    """How `plan` differs from an earlier build, as words; a general sentence if that one's plan cannot be read."""
    try:
        found = differences(read_plan(folder, build_id), plan)
    except (DaskAnnoyError, OSError):
        found = []
    return _joined(found) if found else "the input or a parameter differs"


def warn_of_unfinished(folder: IndexFolder, plan: BuildPlan, standing: Manifest | None) -> None:
    """Warn if the folder holds an unfinished build that is not continued as its input or parameters were others.

    Of the plans that were written after the newest version was published, those count that are for the same work: a
    build; an append of a file with the same URL. Nothing is said if this very build has begun already.

    Parameters
    ----------
    folder : IndexFolder
    plan : BuildPlan
        Of the work that is about to begin.
    standing : Manifest or None
        The newest version.
    """
    if plan.operation == "append" and "vectors.url" not in (plan.identity or {}):
        return  # nothing to know it by
    files = {file.name: file for file in folder.files("builds")}
    plans = {file: match[1] for name, file in files.items() if (match := _PLAN.fullmatch(name)) is not None}
    if plan.build_id in plans.values():
        return
    published = _published(folder, standing)
    recent = sorted((file for file in plans if file.modified >= published), key=lambda file: -file.modified)
    for file in recent[:_MOST_LOOKED_AT]:
        build_id = plans[file]
        if standing is not None and build_id in (standing.build_id, standing.change_id):
            continue
        with suppress(DaskAnnoyError, OSError):
            earlier = read_plan(folder, build_id)
            if _is_same_work(earlier, plan):
                _warn(folder, earlier, plan, _finished_slots(build_id, list(files)))


def _published(folder: IndexFolder, standing: Manifest | None) -> float:
    """When the newest version was published, by the storage's clock."""
    if standing is None:
        return float("-inf")
    name = version_name(standing.version)
    return next((file.modified for file in folder.files("versions") if file.name == name), float("inf"))


def _is_same_work(earlier: BuildPlan, plan: BuildPlan) -> bool:
    if earlier.operation != plan.operation:
        return False
    if plan.operation == "build":
        return True
    url = "vectors.url"
    return bool(plan.identity and earlier.identity and plan.identity.get(url, 0) == earlier.identity.get(url, 1))


def _finished_slots(build_id: str, names: Sequence[str]) -> int:
    prefix = f"builds/{build_id}/"
    parsed = (parse_receipt_name(name) for name in names if name.startswith(prefix))
    return len({slot_and_attempt[0] for slot_and_attempt in parsed if slot_and_attempt is not None})


def _warn(folder: IndexFolder, earlier: BuildPlan, plan: BuildPlan, finished: int) -> None:
    changed = differences(earlier, plan)
    if changed:
        warnings.warn(
            f"an unfinished {earlier.operation} of {earlier.source} in {folder}, with {finished:,} of its "
            f"{len(earlier.slots):,} shards, is not continued: {_joined(changed)}. Repeat it with what it had to go on "
            "with it; gc deletes what is left of it once it is old",
            UnfinishedBuildWarning,
            stacklevel=4,
        )


def _joined(found: Sequence[str]) -> str:
    return "; ".join(found)

"""The plan of a build as a file in the index folder: by it a later run knows what an earlier one was about."""

from __future__ import annotations

from typing import Final

from dask_annoy.errors import CorruptIndexError
from dask_annoy.planning.plan import BuildPlan
from dask_annoy.storage import IndexFolder, plan_name, put_if_absent
from dask_annoy.storage.document import parse_sealed, sealed

__all__ = ["read_plan", "write_plan"]

#: A plan of a million slots has about this size.
_MAX_BYTES: Final = 128 * 2**20


def write_plan(folder: IndexFolder, plan: BuildPlan) -> None:
    """Publish a plan that has a build id, unless it is there already. A damaged one is replaced."""
    payload, name = sealed(plan), plan_name(str(plan.build_id))
    if not put_if_absent(folder, name, payload):
        try:
            read_plan(folder, str(plan.build_id))
        except (CorruptIndexError, FileNotFoundError):
            folder.delete([name])
            put_if_absent(folder, name, payload)


def read_plan(folder: IndexFolder, build_id: str) -> BuildPlan:
    """The plan of a build.

    Raises
    ------
    FileNotFoundError
        If it is not there: the index was copied here, or files were deleted.
    CorruptIndexError
        If it is damaged, of another build, or by another release that writes other plans.
    """
    name = plan_name(build_id)
    where, payload = folder.where(name), folder.read_bytes(name, max_bytes=_MAX_BYTES)
    plan = parse_sealed(BuildPlan, payload, where=where, what="plan", max_bytes=_MAX_BYTES)
    if plan.build_id != build_id:
        raise CorruptIndexError(f"{where} says that it is the plan of another build")
    return plan

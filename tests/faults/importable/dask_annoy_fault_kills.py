"""Kills a coordinator at a point, then lets another one finish. Importable by processes that tests start."""

from __future__ import annotations

import datetime
import os
import shutil
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dask_annoy_fault_life import CONTENTS, STEPS, check_holds, opened
from dask_annoy_fault_points import AtChange, watch

from dask_annoy import ShardedIndex
from dask_annoy.errors import IndexNotFoundError
from dask_annoy.storage import IndexFolder, list_versions, shard_folder

_SECONDS = 120


Take = Callable[[IndexFolder, Any], ShardedIndex]
"""What the coordinator does to an index: importable."""
Check = Callable[[Path], None]
"""Looks at an index after a kill and lets another coordinator finish; AssertionError if anything is wrong."""


@dataclass(frozen=True)
class Kill:
    """A coordinator is killed before change number `at`."""

    at: int
    halve: bool


def count_changes(source: Path | None, work: Path, take: Take) -> int:
    """How many changes an undisturbed run makes. For a process of its own."""
    folder = _copied(source, work)
    counter = AtChange(-1)
    watch(str(folder), counter)
    take(IndexFolder(str(folder)), False)
    return counter.seen


def kill_and_finish(source: Path | None, work: Path, take: Take, check: Check, kills: list[Kill]) -> list[str]:
    """Try each kill; say what is wrong afterwards. For a process of its own, which has no threads yet."""
    folders = [_copied(source, work / f"{kill.at}-{kill.halve}") for kill in kills]
    wrong = []
    for kill, folder in zip(kills, folders, strict=True):
        child = os.fork()
        if child == 0:
            _die(kill, folder, take)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status not in (0, -signal.SIGKILL):
            wrong.append(f"{kill}: ended with {status} before it was killed")
    for kill, folder in zip(kills, folders, strict=True):
        try:
            check(folder)
        except Exception:
            wrong.append(f"{kill}: {traceback.format_exc()}")
        shutil.rmtree(folder)
    return wrong


def _die(kill: Kill, folder: Path, take: Take) -> None:
    status = 1
    try:
        signal.alarm(_SECONDS)
        watch(str(folder), AtChange(kill.at, halve=kill.halve))
        take(IndexFolder(str(folder)), False)
        status = 0  # threads have come in another order, and fewer changes were made
    finally:
        os._exit(status)


def check_step(step: str, reference: Path, path: Path) -> None:
    """Check an index whose coordinator was killed in a step of its life."""
    folder = IndexFolder(str(path))
    check_nothing_half_done_is_seen(folder, step)
    finished = STEPS[step](folder, False)
    check_holds(finished, CONTENTS[step])
    check_holds(opened(folder, False), CONTENTS[step])
    undisturbed = opened(IndexFolder(str(reference)), False)
    assert fingerprint(finished) == fingerprint(undisturbed), "other bytes than in an undisturbed run"
    check_nothing_is_left_behind(folder)
    check_holds(opened(folder, False), CONTENTS[step])


def check_nothing_is_left_behind(folder: IndexFolder) -> None:
    """Clean up; raise AssertionError if files stay that the newest version does not name."""
    garbage = opened(folder, False).gc(datetime.timedelta(0), dry_run=False)
    assert not garbage.unknown, f"nobody knows {garbage.unknown}"
    named = {shard_folder(shard.uuid) for shard in opened(folder, False).manifest.shards}
    there = {file.name.rpartition("/")[0] for file in folder.files("shards")}
    assert there == named, f"left behind: {there - named}, missing: {named - there}"
    assert not folder.files("staging"), "row parts are left behind"


def check_nothing_half_done_is_seen(folder: IndexFolder, step: str) -> None:
    """Raise AssertionError unless what is published is as before a step, or as after it."""
    try:
        index = opened(folder, False)
    except IndexNotFoundError:
        assert step == "build", "the versions are gone"
        return
    names = list(STEPS)
    assert index.version in (names.index(step), names.index(step) + 1), f"version {index.version} is the newest"
    check_holds(index, CONTENTS[names[index.version - 1]])
    if step != "gc":
        for version, name in zip(list_versions(folder), STEPS, strict=False):
            check_holds(opened(folder, False, version), CONTENTS[name])


def fingerprint(index: ShardedIndex) -> list[tuple[object, ...]]:
    """What must be equal for equal input: the files of every shard."""
    return [
        (shard.slot, shard.seed, shard.deletions and shard.deletions.sha256,
         *((file.name, file.sha256) for file in shard.files))
        for shard in index.manifest.shards
    ]  # fmt: skip


def _copied(source: Path | None, work: Path) -> Path:
    """A copy of a folder, or the place for a new one."""
    if source is not None:
        shutil.copytree(source, work)
    return work

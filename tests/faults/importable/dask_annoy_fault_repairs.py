"""Repairs of a small damaged index, and what each must come to. Importable by processes that tests start."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from dask_annoy_fault_kills import check_nothing_is_left_behind, fingerprint
from dask_annoy_fault_life import CONTENTS, ROWS, STEPS, WIDTH, Content, check_holds, opened

from dask_annoy import ShardedIndex
from dask_annoy.errors import CorruptIndexError
from dask_annoy.storage import IndexFolder, list_versions, shard_folder


@dataclass(frozen=True)
class Repair:
    """An index after a step of its life, with damaged shards, and the command that deals with them.

    Attributes
    ----------
    after : str
        The step.
    damaged : dict of int to str
        By slot the file that is damaged.
    lost : tuple of int
        The slots that are given up.
    content : Content
        What the version holds that the command commits.
    """

    after: str
    damaged: dict[int, str]
    lost: tuple[int, ...]
    content: Content
    take: Callable[[IndexFolder, Any], ShardedIndex]

    @property
    def before(self) -> int:
        """The damaged version."""
        return list(STEPS).index(self.after) + 1

    def prepare(self, sound: Path, path: Path) -> None:
        """Make a damaged copy of a sound folder: files gone, cut, and with a flipped bit, in turn."""
        shutil.copytree(sound, path)
        index = opened(IndexFolder(str(path)), False)
        for number, (slot, name) in enumerate(self.damaged.items()):
            file = path / shard_folder(index.manifest.shards[self.place(index, slot)].uuid) / name
            payload = bytearray(file.read_bytes())
            if number == 0:
                file.unlink()
            elif number == 1:
                payload[len(payload) // 2] ^= 4
                file.write_bytes(payload)
            else:
                file.write_bytes(payload[: len(payload) // 2])

    @staticmethod
    def place(index: ShardedIndex, slot: int) -> int:
        """Where a slot stands in a manifest."""
        return [entry.slot for entry in index.manifest.shards].index(slot)


def mended_from_memory(folder: IndexFolder, client: Any) -> ShardedIndex:
    """The shards of the build, from the Dask collection given again, so that parts are staged, too."""
    report = opened(folder, client).repair(da.from_array(ROWS[:120], chunks=(50, WIDTH)), np.arange(120))
    assert report.ok, str(report)
    return report.index


def mended_from_shards(folder: IndexFolder, client: Any) -> ShardedIndex:
    """Compacted shards, from those that they replaced."""
    report = opened(folder, client).repair()
    assert report.ok, str(report)
    return report.index


def given_up(folder: IndexFolder, client: Any) -> ShardedIndex:
    """A shard whose rows nobody has any more."""
    report = opened(folder, client).repair(drop=True)
    assert report.ok, str(report)
    return report.index


REPAIRS: dict[str, Repair] = {
    "memory": Repair("upsert", {0: "forest.ann", 1: "ids.npy"}, (), CONTENTS["upsert"], mended_from_memory),
    "shards": Repair(
        "compact", {6: "cells.bin", 5: "forest.ann"}, (), CONTENTS["compact"], mended_from_shards
    ),
    "none": Repair(
        "delete", {1: "forest.ann"}, (1,),
        {key: row for key, row in CONTENTS["delete"].items() if not 60 <= row < 120}, given_up,
    ),
}  # fmt: skip
"""By what the damaged shards are built again from."""


def check_repair(kind: str, path: Path) -> None:
    """Check a damaged index whose coordinator was killed in a repair."""
    repair, folder = REPAIRS[kind], IndexFolder(str(path))
    _check_nothing_half_done_is_seen(repair, folder)
    finished = repair.take(folder, False)
    assert list_versions(folder) == list(range(1, repair.before + 2)), "more or less than one version was committed"
    sound = [entry for entry in fingerprint(opened(folder, False, repair.before)) if entry[0] not in repair.lost]
    assert fingerprint(finished) == sound, "other bytes than before the damage"
    check_holds(finished, repair.content)
    check_holds(opened(folder, False), repair.content)
    check_nothing_is_left_behind(folder)
    assert opened(folder, False).verify("full").ok
    check_holds(opened(folder, False), repair.content)


def _check_nothing_half_done_is_seen(repair: Repair, folder: IndexFolder) -> None:
    """Raise AssertionError unless each version is whole, or refused for the shards that were damaged."""
    newest = opened(folder, False).version
    assert newest in (repair.before, repair.before + 1), f"version {newest} is the newest"
    damaged = opened(folder, False, repair.before)
    broken = {damaged.manifest.shards[repair.place(damaged, slot)].uuid for slot in repair.damaged}
    contents = [*list(CONTENTS.values())[: repair.before], repair.content]
    for version, content in zip(list_versions(folder), contents, strict=False):
        index = opened(folder, False, version)
        if broken.isdisjoint(entry.uuid for entry in index.manifest.shards):
            check_holds(index, content)
        else:
            try:
                check_holds(index, content)
            except CorruptIndexError as error:
                assert any(uuid in str(error) for uuid in broken), str(error)  # noqa: PT017 - no pytest here
            else:
                raise AssertionError(f"version {version} is read with damaged files")

"""Writers that come back from the dead, the same work at the same time, races, listings and clocks that are wrong."""

from __future__ import annotations

import datetime
import multiprocessing
import os
import shutil
import signal
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dask_annoy_fault_kills import check_nothing_half_done_is_seen, count_changes, fingerprint
from dask_annoy_fault_life import CONTENTS, EVERYTHING, ROWS, STEPS, check_holds, opened, use_fresh_cache
from dask_annoy_fault_writers import (
    clean_up_by_another_clock,
    coordinator,
    halted_step,
    step_at_once,
    step_by_another_clock,
)

from dask_annoy import open_index
from dask_annoy.errors import CommitConflictError, IndexExistsError
from dask_annoy.storage import IndexFolder, list_versions, read_manifest

pytestmark = pytest.mark.timeout(300)
SECONDS = 100
WRITING = [step for step in STEPS if step not in ("gc", "delete")]


class Writers:
    """Processes that are ended with the test, and what they say."""

    def __init__(self) -> None:
        self.context: Any = multiprocessing.get_context("forkserver")
        self.outcomes: Any = self.context.Queue()
        self.processes: list[Any] = []

    def start(self, function: Any, *arguments: Any) -> Any:
        process = self.context.Process(target=function, args=(*arguments, self.outcomes))
        process.start()
        self.processes.append(process)
        return process

    def outcome(self) -> Any:
        return self.outcomes.get(timeout=SECONDS)

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.join(10)


@pytest.fixture
def writers() -> Any:
    made = Writers()
    yield made
    made.close()


def is_halted(process: Any) -> bool:
    """Wait until a process has stopped itself, or has ended; say which."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return False
        if state in "TZX":
            return state == "T"
        time.sleep(0.01)
    raise TimeoutError(f"process {process.pid} neither stops nor ends")


def placed(lives: dict[str, Path], step: str, path: Path) -> IndexFolder:
    """An index as it is before a step."""
    names = list(STEPS)
    if names.index(step):
        shutil.copytree(lives[names[names.index(step) - 1]], path)
    return IndexFolder(str(path))


@pytest.mark.parametrize("step", WRITING)
def test_a_writer_presumed_lost_that_goes_on_after_another_has_committed_harms_nothing(
    step: str, lives: dict[str, Path], tmp_path: Path, writers: Writers, is_full: bool
) -> None:
    if not is_full and step != "build":
        pytest.skip("runs with --faults=full")
    with writers.context.Pool(1) as pool:
        names = list(STEPS)
        source = lives[names[names.index(step) - 1]] if names.index(step) else None
        changes = pool.apply_async(count_changes, (source, tmp_path / "undisturbed", STEPS[step])).get(SECONDS)
    points = range(2, changes, max(1, changes // (5 if is_full else 2)))
    for at in points:
        folder = placed(lives, step, tmp_path / str(at))
        late = writers.start(halted_step, folder.url, step, at)
        if is_halted(late):
            check_holds(STEPS[step](folder, False), CONTENTS[step])
            os.kill(late.pid, signal.SIGCONT)
        outcome = writers.outcome()
        newest = opened(folder, False)
        # It is told that it came late, or that its work is done: never that it failed, with its work half done.
        assert outcome == fingerprint(newest) or str(outcome).startswith("CommitConflictError"), outcome
        check_holds(newest, CONTENTS[step])
        newest.gc(datetime.timedelta(0), dry_run=False)
        use_fresh_cache(tmp_path / f"cache-{at}")
        check_holds(opened(folder, False), CONTENTS[step])


@pytest.mark.parametrize("step", STEPS)
def test_the_same_step_taken_by_three_at_the_same_time_is_taken_once(
    step: str, lives: dict[str, Path], tmp_path: Path, writers: Writers, is_full: bool
) -> None:
    if not is_full and step != "append":
        pytest.skip("runs with --faults=full")
    for turn in range(3 if is_full else 1):
        folder = placed(lives, step, tmp_path / str(turn))
        barrier = writers.context.Barrier(3)
        for _ in range(3):
            writers.start(step_at_once, folder.url, step, barrier)
        outcomes = [writers.outcome() for _ in range(3)]
        failed = [outcome for outcome in outcomes if isinstance(outcome, str)]
        assert len(failed) < 3, failed
        assert all(error.startswith(("CommitConflictError", "InvalidIdsError")) for error in failed), failed
        check_holds(opened(folder, False), CONTENTS[step])


ROUNDS = {"short": 5, "full": 50}


@pytest.mark.parametrize("storage", ["local", "azurite"])
def test_of_two_coordinators_that_race_none_overwrites_or_loses_anything(
    storage: str, tmp_path: Path, writers: Writers, is_full: bool, request: pytest.FixtureRequest
) -> None:
    rounds = ROUNDS["full" if is_full else "short"]
    options = {} if storage == "local" else request.getfixturevalue("azurite")
    url = str(tmp_path) if storage == "local" else f"abfs://indexes/{uuid.uuid4().hex}"
    barrier = writers.context.Barrier(2)
    for writer in range(2):
        writers.start(coordinator, url, options, writer, rounds, barrier)
    found = dict(writers.outcomes.get(timeout=250) for _ in range(2))
    assert not [outcome for outcome in found.values() if isinstance(outcome, str)], found
    for turn in range(0, rounds, 5):
        build, append, claim, delete, upsert = (
            [found[writer][turn + kind][1] for writer in range(2)] for kind in range(5)
        )
        if turn // 5 % 2 == 0:
            assert build == ["same", "same"]
        else:
            refused = [outcome for outcome in build if isinstance(outcome, str)]
            assert refused in [[CommitConflictError.__name__], [IndexExistsError.__name__]], build
        assert append == delete == upsert == [True, True]
        assert claim.count(True) == 1, claim
        index = open_index(f"{url}/{turn // 5}", storage_options=options, client=False)
        versions = list_versions(index._folder)
        assert versions == list(range(1, 9))
        assert [read_manifest(index._folder, version).parent for version in versions] == [None, *range(1, 8)]
        expected = {*range(25, 60), 1000, 1001, 2000}
        answer = index.query(ROWS[:1], k=len(expected) + 2, search_k=EVERYTHING).ids[0].tolist()
        assert set(answer) == expected | {-1}
        assert answer.count(-1) == 2
        last = index.query(ROWS[220:222], k=1, search_k=EVERYTHING)
        assert 2000 in last.ids[last.distances == 0]


@pytest.mark.parametrize("step", ["append", "delete", "compact"])
def test_a_stale_listing_is_found_out_and_overwrites_nothing(
    step: str, lives: dict[str, Path], tmp_path: Path, monkeypatch: Any
) -> None:
    folder = placed(lives, step, tmp_path / "index")
    before = list_versions(folder)
    opened(folder, False).append(ROWS[350:351], np.array([5000]))
    taken = folder.read_bytes(f"versions/{before[-1] + 1:020d}.json")
    listed = IndexFolder.list

    def stale(self: IndexFolder, name: str) -> list[str]:
        found = listed(self, name)
        return found[: len(before)] if name == "versions" else found

    with monkeypatch.context() as patched:
        patched.setattr(IndexFolder, "list", stale)  # the newest version is not seen
        with pytest.raises(CommitConflictError):
            STEPS[step](folder, False)
    assert folder.read_bytes(f"versions/{before[-1] + 1:020d}.json") == taken
    after = STEPS[step](folder, False)
    check_holds(after, CONTENTS[step] | {5000: 350})


@pytest.mark.parametrize("hours", [-24, 24])
@pytest.mark.parametrize("step", ["append", "upsert", "compact"])
def test_a_clock_that_is_a_day_off_costs_a_running_writer_nothing(
    step: str, hours: int, lives: dict[str, Path], tmp_path: Path, writers: Writers, is_full: bool
) -> None:
    if not is_full and (step, hours) != ("append", 24):
        pytest.skip("runs with --faults=full")
    folder = placed(lives, step, tmp_path / "index")
    late = writers.start(step_by_another_clock, folder.url, step, float(hours), 12)
    assert is_halted(late)
    for clock in (-24.0, 0.0, 24.0):
        writers.start(clean_up_by_another_clock, folder.url, clock)
        assert writers.outcome() == ()
    check_nothing_half_done_is_seen(folder, step)
    os.kill(late.pid, signal.SIGCONT)
    assert writers.outcome() == fingerprint(opened(folder, False))
    check_holds(opened(folder, False), CONTENTS[step])

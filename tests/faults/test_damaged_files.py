"""Each file of an index cut and with bits flipped: what is read is right, or it is refused and the file is named."""

from __future__ import annotations

import multiprocessing
import shutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from dask_annoy_fault_damage import TAG, USES, build_with_strings, cut_many, cuts, many, names_of

from dask_annoy import open_index
from dask_annoy.storage import IndexFolder

TRIALS = {"short": 200, "full": 500, "large": 20_000}
BATCHES = 4


@pytest.fixture(scope="module")
def sources(lives: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Sound folders: after a life of changes, with string ids, and just built."""
    strings = tmp_path_factory.mktemp("strings")
    build_with_strings(IndexFolder(str(strings)))
    changed = tmp_path_factory.mktemp("integers") / "index"
    shutil.copytree(lives["delete"], changed)
    open_index(changed, version=2, client=False).tag(TAG)
    return {"integers": changed, "strings": strings, "resume": lives["build"]}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("is_remote", [False, True], ids=["mapped", "cached"])
@pytest.mark.parametrize("kind", USES)
def test_a_file_cut_at_any_power_of_two_is_refused_by_name_or_not_needed(
    sources: dict[str, Path], kind: str, is_remote: bool, is_full: bool
) -> None:
    source = sources[kind]
    damages = [damage for name in names_of(source) for damage in cuts(name, (source / name).stat().st_size)]
    if not is_full:
        damages = damages[:: max(1, len(damages) // 12)]
    elif is_remote:
        damages = damages[::3]  # the other ones are much the same
    check_in_processes(cut_many, [(source, kind, damages[first::BATCHES], is_remote) for first in range(BATCHES)])


@pytest.mark.large
@pytest.mark.timeout(3600)
def test_twenty_thousand_damaged_files(sources: dict[str, Path]) -> None:
    check_many(sources, TRIALS["large"])


@pytest.mark.timeout(600)
def test_a_file_with_a_flipped_bit_is_refused_by_name_or_not_needed(sources: dict[str, Path], is_full: bool) -> None:
    check_many(sources, TRIALS["full" if is_full else "short"])


def check_many(sources: dict[str, Path], trials: int) -> None:
    check_in_processes(many, [(sources, range(first, min(first + 50, trials))) for first in range(0, trials, 50)])


def check_in_processes(function: Any, tasks: list[tuple[Any, ...]]) -> None:
    context: Any = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        results = [pool.submit(function, *task) for task in tasks]
        wrong = [trouble for result in results for trouble in result.result()]
    assert not wrong, "\n".join([f"{len(wrong)} are wrong:", *wrong[:20]])

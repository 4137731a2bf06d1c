"""What is measured in a process of its own: a build, a sweep of searches, a search at one setting, ten batches.

Each stage takes plain values and returns plain values, so that they travel as JSON.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.curves import climb
from benchmarks.datasets import K, Prepared
from benchmarks.engines import ENGINES
from benchmarks.engines.engine import Answers, Engine, Settings
from benchmarks.process_memory import PeakMemory

ROUGH = 0.5  # single queries are not timed where recall is lower
SECONDS_OF_SINGLES = 10.0
BISECTIONS = 5


class Elapsed(NamedTuple):
    """Seconds by the clock, and of processor time over all threads."""

    wall: float
    cpu: float


def timed(call: Callable[[], Any]) -> tuple[Any, Elapsed]:
    """What a call returns, and what it took."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = call()
    return result, Elapsed(time.perf_counter() - wall, time.process_time() - cpu)


def build_stage(data: Prepared, engine: str, settings: Settings, folder: Path, threads: int) -> dict[str, Any]:
    """From vectors in memory to an index on disk.

    Returns
    -------
    dict
        `build` and `save` (wall and processor seconds; adding the items is part of the build), `bytes` on disk, `peak`
        bytes of memory beyond the vectors.
    """
    items = data.items()
    index = _engine(data, engine, settings)
    memory = PeakMemory()
    _, build = timed(lambda: index.build(items, threads))
    _, save = timed(lambda: index.save(folder))
    return {
        "build": build._asdict(),
        "save": save._asdict(),
        "peak": memory.taken(),
        "bytes": sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
    }


def sweep_stage(
    data: Prepared,
    engine: str,
    settings: Settings,
    folder: Path,
    threads: int,
    top: float,
    patience: float,
    singles: int,
) -> dict[str, Any]:
    """Recall and speed of the searches of a saved index, up each of its ladders.

    Parameters
    ----------
    top : float
        The recall at which a ladder ends.
    patience : float
        Seconds of a batch after which a ladder ends.
    singles : int
        Queries that are asked one by one, on one thread; fewer if they take ten seconds.

    Returns
    -------
    dict
        `load`, `peak` bytes of memory beyond the queries, and `points`: settings, recall, `batch` and `one` with
        queries, threads, and wall and processor seconds.
    """
    index, queries, loaded, memory = _opened(data, engine, settings, folder)
    truth = data.truth()
    one_by_one = index.singles(queries[:singles]) if index.asks_singly() else []
    points: list[dict[str, Any]] = []

    def measure(asked: Settings) -> tuple[float, float]:
        index.tune(asked, threads)
        answers, batch = timed(lambda: index.search(queries, K))
        recall = truth.recall(answers)
        point = {"settings": asked, "recall": recall, "batch": _speed(len(queries), threads, batch)}
        if one_by_one and recall >= ROUGH:
            index.tune(asked, 1)
            point["one"] = _asked_singly(index, one_by_one)
        points.append(point)
        return recall, batch.wall

    for ladder in type(index).ladders(data.n_items, settings):
        _warm(index, ladder[0], threads, queries)
        climb(ladder, measure, top, patience)
    return {"load": loaded._asdict(), "peak": memory.taken(), "points": points}


def point_stage(
    data: Prepared, engine: str, settings: Settings, folder: Path, threads: int, searches: list[Settings]
) -> dict[str, Any]:
    """Recall and speed of a saved index at given settings."""
    index, queries, loaded, memory = _opened(data, engine, settings, folder)
    truth = data.truth()
    points = []
    _warm(index, searches[0], threads, queries)
    for asked in searches:
        index.tune(asked, threads)
        answers, batch = timed(lambda: index.search(queries, K))
        speed = _speed(len(queries), threads, batch)
        points.append({"settings": asked, "recall": truth.recall(answers), "batch": speed})
    return {"load": loaded._asdict(), "peak": memory.taken(), "points": points}


def tune_stage(
    data: Prepared, engine: str, settings: Settings, folder: Path, threads: int, target: float, patience: float
) -> dict[str, Any]:
    """The fastest setting of a saved index that finds `target` of the neighbours: `search`, None if there is none.

    Between the last setting of a ladder that finds too few and the first that does not, settings in between are tried.
    """
    index, queries, _, _ = _opened(data, engine, settings, folder)
    truth = data.truth()
    found: list[tuple[float, Settings]] = []  # seconds and setting of those that do

    def measure(asked: Settings) -> tuple[float, float]:
        index.tune(asked, threads)
        answers, batch = timed(lambda: index.search(queries, K))
        recall = truth.recall(answers)
        if recall >= target:
            found.append((batch.wall, asked))
        return recall, batch.wall

    for ladder in type(index).ladders(data.n_items, settings):
        _warm(index, ladder[0], threads, queries)
        tried: list[tuple[Settings, float]] = []

        def remembered(asked: Settings, tried: list[tuple[Settings, float]] = tried) -> tuple[float, float]:
            recall, seconds = measure(asked)
            tried.append((asked, recall))
            return recall, seconds

        climb(ladder, remembered, target, patience)
        if len(tried) >= 2 and tried[-1][1] >= target:
            bisect(tried[-2][0], tried[-1][0], lambda asked: measure(asked)[0] >= target)
    return {"search": min(found, key=lambda pair: pair[0])[1] if found else None}


def batches_stage(
    data: Prepared, engine: str, settings: Settings, folder: Path, threads: int, search: Settings, batches: int
) -> dict[str, Any]:
    """Load an index and ask it all the queries, so many times over.

    Returns
    -------
    dict
        `load` and `search` (wall and processor seconds), `queries`, and the lowest `recall` of a batch.
    """
    index, queries, loaded, memory = _opened(data, engine, settings, folder)
    index.tune(search, threads)
    answers, searched = timed(lambda: [index.search(queries, K) for _ in range(batches)])
    truth = data.truth()
    return {
        "load": loaded._asdict(),
        "search": searched._asdict(),
        "peak": memory.taken(),
        "queries": batches * len(queries),
        "recall": min(truth.recall(batch) for batch in answers),
    }


def bisect(low: Settings, high: Settings, enough: Callable[[Settings], bool]) -> None:
    """Try settings between one that finds too little and one that finds enough, each time in the middle of a ratio."""
    for _ in range(BISECTIONS):
        middle = {name: round((low[name] * high[name]) ** 0.5) for name in high}
        if middle in (low, high):
            return
        if enough(middle):
            high = middle
        else:
            low = middle


STAGES: dict[str, Callable[..., dict[str, Any]]] = {
    stage.__name__: stage for stage in (build_stage, sweep_stage, point_stage, tune_stage, batches_stage)
}


def _engine(data: Prepared, engine: str, settings: Settings) -> Engine:
    return ENGINES[engine](data.metric, data.width, settings)


def _opened(data: Prepared, engine: str, settings: Settings, folder: Path) -> tuple[Engine, Any, Elapsed, PeakMemory]:
    """The loaded index, its queries, and the time of loading."""
    index = _engine(data, engine, settings)
    queries = index.prepared(data.queries())
    memory = PeakMemory()
    _, loaded = timed(lambda: index.load(folder))
    return index, queries, loaded, memory


def _warm(index: Engine, asked: Settings, threads: int, queries: Any) -> None:
    """Threads are started and buffers made before the first measurement."""
    index.tune(asked, threads)
    for part in (queries[:100], queries[:1000]):
        answers: Answers = index.search(part, K)
        if answers.shape != (len(part), K):
            raise ValueError(f"{index.name} answered with the shape {answers.shape} to {len(part)} queries")


def _asked_singly(index: Engine, queries: Any) -> dict[str, Any]:
    done = 0
    for query in queries[:50]:
        index.search_one(query, K)

    def ask() -> None:
        nonlocal done
        until = time.perf_counter() + SECONDS_OF_SINGLES
        for query in queries:
            index.search_one(query, K)
            done += 1
            if time.perf_counter() > until:
                return

    _, elapsed = timed(ask)
    return _speed(done, 1, elapsed)


def _speed(queries: int, threads: int, elapsed: Elapsed) -> dict[str, Any]:
    return {"queries": queries, "threads": threads, **elapsed._asdict()}

"""Where tasks run: on threads of this process, or on a Dask cluster. Nothing above this file tells the two apart."""

from __future__ import annotations

import abc
import contextlib
import os
import platform
import threading
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar, cast

import dask
import distributed
from dask.delayed import Delayed
from distributed.worker import get_worker, thread_state

from dask_annoy._native import set_stop_check, thread_count
from dask_annoy.cluster.placement import preferred_workers
from dask_annoy.cluster.settings import Settings, current_settings
from dask_annoy.shard import release_shard_pages
from dask_annoy.storage import configure_cache

__all__ = [
    "ClientLike",
    "ClusterExecutor",
    "Executor",
    "LocalExecutor",
    "Place",
    "Progress",
    "enter_place",
    "executor_for",
]

Task = TypeVar("Task")
Result = TypeVar("Result")

ClientLike: TypeAlias = "distributed.Client | Literal[False] | None"
#: Share of a worker's memory limit that mapped shards may keep resident from task to task.
_RESIDENT_SHARE = 0.2
#: Arguments and results of streamed tasks that a client and its scheduler hold at a time.
_BYTES_UNDER_WAY = 256 * 2**20

Progress = Callable[[str, int, int], None]
"""Called with what is done, how much of it is done, and how much there is."""


@dataclass(frozen=True)
class Place:
    """Where a task runs.

    Attributes
    ----------
    scratch : Path or None
        Local folder for large temporary files; None for the temporary folder.
    n_jobs : int
        Threads that the task may use.
    settings : Settings
    """

    scratch: Path | None
    n_jobs: int
    settings: Settings


class Executor(abc.ABC):
    """Runs a function on each of many tasks."""

    #: Whether tasks run in other processes, so that what is in this one's memory has to travel.
    is_remote: bool

    @abc.abstractmethod
    def run(
        self,
        function: Callable[[Task, Place], Result],
        tasks: Sequence[Task],
        *,
        label: str,
        weights: Sequence[int] | None = None,
        affinity: Sequence[str] | None = None,
        progress: Progress | None = None,
    ) -> list[Result]:
        """Run all tasks and return their results in order. The first error stops the rest and is raised.

        Parameters
        ----------
        function : callable
            Of the module level. May run twice for a task, or be killed anywhere.
        label : str
            What is done, for progress and dashboards: one word.
        weights : sequence of int, optional
            Cost of each task, for progress.
        affinity : sequence of str, optional
            Tasks with the same string had better run in the same place.
        """

    def stream(
        self,
        function: Callable[[Task, Place], Result],
        tasks: Sequence[Task],
        *,
        label: str,
        task_bytes: int,  # noqa: ARG002 - nothing travels
        affinity: Sequence[str] | None = None,
        progress: Progress | None = None,
    ) -> Generator[Result]:
        """Run all tasks as `run` does, but hand out their results one by one, in order.

        Of tasks and results that travel, no more are under way than take a bounded memory here and in a scheduler, and
        one for each thread: so tasks that share large arguments are best made as views of these.

        Parameters
        ----------
        task_bytes : int
            About the bytes of one task's arguments and result.
        """
        yield from self.run(function, tasks, label=label, affinity=affinity, progress=progress)

    @abc.abstractmethod
    def compute(
        self,
        tasks: Sequence[Delayed],
        *,
        label: str,
        weights: Sequence[int],
        progress: Progress | None = None,
    ) -> list[Any]:
        """Compute Dask's delayed tasks, which stand on a user's collection, and return their results in order."""

    @abc.abstractmethod
    def computing(self) -> contextlib.AbstractContextManager[Any]:
        """Have Dask's own ``compute()`` run where this executor's tasks do."""


class LocalExecutor(Executor):
    """Threads of this process. They share the processors; Ctrl-C stops what they run."""

    is_remote = False

    def run(
        self,
        function: Callable[[Task, Place], Result],
        tasks: Sequence[Task],
        *,
        label: str,
        weights: Sequence[int] | None = None,
        affinity: Sequence[str] | None = None,  # noqa: ARG002 - there is one place only
        progress: Progress | None = None,
    ) -> list[Result]:
        """Run all tasks; see `Executor.run`."""
        if not tasks:
            return []
        processors = granted_threads()
        n_threads = min(len(tasks), processors)
        place = enter_place(current_settings(), max(1, processors // n_threads))
        stop = threading.Event()
        meter = _Meter(label, weights or [1] * len(tasks), progress)
        with futures.ThreadPoolExecutor(
            n_threads, thread_name_prefix="dask-annoy", initializer=set_stop_check, initargs=(stop.is_set,)
        ) as pool:
            submitted = {pool.submit(function, task, place): number for number, task in enumerate(tasks)}
            try:
                for done in futures.as_completed(submitted):
                    done.result()  # raises what the task raised
                    meter.advance(submitted[done])
            except BaseException:
                stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        return [future.result() for future in submitted]

    def compute(
        self,
        tasks: Sequence[Delayed],
        *,
        label: str,
        weights: Sequence[int],
        progress: Progress | None = None,
    ) -> list[Any]:
        """Compute delayed tasks; see `Executor.compute`."""
        meter = _Meter(label, weights, progress)
        # Threads of our own: those that still run when a task has failed are waited for.
        with futures.ThreadPoolExecutor(granted_threads(), thread_name_prefix="dask-annoy") as pool:
            results = list(dask.compute(*tasks, scheduler="threads", pool=pool))
        for number in range(len(tasks)):
            meter.advance(number)
        return results

    def computing(self) -> contextlib.AbstractContextManager[Any]:
        """See `Executor.computing`."""
        return cast("contextlib.AbstractContextManager[Any]", dask.config.set(scheduler="threads"))


class ClusterExecutor(Executor):
    """Workers of a Dask cluster. A lost worker costs time: its tasks run again elsewhere."""

    def __init__(self, client: distributed.Client) -> None:
        if client.asynchronous:
            raise TypeError(
                "an asynchronous Dask client was given: dask-annoy's functions block, so give a synchronous client, "
                "or call them from a thread"
            )
        self.client = client

    @property
    def is_remote(self) -> bool:  # type: ignore[override]
        """Whether a worker is another process than this one; taken for granted while there are no workers."""
        return set(self.client.run(_process).values()) != {_process()}

    def run(
        self,
        function: Callable[[Task, Place], Result],
        tasks: Sequence[Task],
        *,
        label: str,
        weights: Sequence[int] | None = None,
        affinity: Sequence[str] | None = None,
        progress: Progress | None = None,
    ) -> list[Result]:
        """Run all tasks; see `Executor.run`."""
        if not tasks:
            return []
        submit = self._submitter(function, tasks, label, affinity)
        return list(self._in_order(submit, len(tasks), _Meter(label, weights or [1] * len(tasks), progress)))

    def stream(
        self,
        function: Callable[[Task, Place], Result],
        tasks: Sequence[Task],
        *,
        label: str,
        task_bytes: int,
        affinity: Sequence[str] | None = None,
        progress: Progress | None = None,
    ) -> Generator[Result]:
        """Run all tasks and hand out their results; see `Executor.stream`."""
        if not tasks:
            return
        submit = self._submitter(function, tasks, label, affinity)
        by_bytes = max(1, _BYTES_UNDER_WAY // max(1, task_bytes))
        yield from self._in_order(submit, by_bytes, _Meter(label, [1] * len(tasks), progress))

    def compute(
        self,
        tasks: Sequence[Delayed],
        *,
        label: str,
        weights: Sequence[int],
        progress: Progress | None = None,
    ) -> list[Any]:
        """Compute delayed tasks; see `Executor.compute`."""
        futures_of = self.client.compute(list(tasks))
        if len({future.key for future in futures_of}) < len(tasks):
            raise ValueError("a task is given twice")
        return list(self._in_order(futures_of.__getitem__, len(tasks), _Meter(label, weights, progress)))

    def computing(self) -> contextlib.AbstractContextManager[Any]:
        """See `Executor.computing`."""
        return cast("contextlib.AbstractContextManager[Any]", self.client.as_current())

    def _submitter(
        self,
        function: Callable[[Task, Place], Result],
        tasks: Sequence[Task],
        label: str,
        affinity: Sequence[str] | None,
    ) -> Callable[[int], distributed.Future[Result]]:
        """What submits one of the tasks by its number."""
        workers = self.client.nthreads()
        # A task that has a worker's threads for itself uses them; where there are enough tasks, each uses one.
        n_jobs = max(1, min(max(workers.values(), default=1), sum(workers.values()) // len(tasks)))
        preferred = preferred_workers(affinity, sorted(workers)) if affinity and workers else [None] * len(tasks)
        settings = current_settings()
        run_id = uuid.uuid4().hex[:12]

        def submit(number: int) -> distributed.Future[Result]:
            worker = preferred[number]
            return self.client.submit(
                run_at_place,
                function,
                tasks[number],
                settings,
                n_jobs,
                key=f"annoy-{label}-{run_id}-{number}",
                workers=worker,
                allow_other_workers=worker is not None,
                pure=False,
            )

        return submit

    def _in_order(
        self, submit: Callable[[int], distributed.Future[Result]], at_once: int, meter: _Meter
    ) -> Generator[Result]:
        """The results of all tasks of the meter.

        `at_once` tasks at most, or one for each thread, are submitted and not handed out yet.
        """
        submitted: dict[distributed.Future[Result], int] = {}
        results: dict[int, Result] = {}
        next_task = handed_out = threads = 0
        finished = distributed.as_completed(with_results=True, loop=self.client.loop)  # it need not be the default one
        try:
            while handed_out < meter.n_tasks:
                threads = threads or sum(self.client.nthreads().values())  # workers may be on their way still
                while next_task < min(handed_out + max(at_once, threads), meter.n_tasks):
                    future = submit(next_task)
                    submitted[future] = next_task
                    finished.add(future)
                    next_task += 1
                future, result = next(finished)
                if future.cancelled():
                    raise RuntimeError(
                        "the cluster gave up work that was under way: its scheduler was lost, or it was cancelled or "
                        "restarted from outside; run the same again"
                    ) from (result if isinstance(result, BaseException) else None)
                number = submitted.pop(future)
                results[number] = result
                meter.advance(number)
                while handed_out in results:
                    yield results.pop(handed_out)
                    handed_out += 1
        except BaseException:
            self.client.cancel(list(submitted), force=True)
            raise


@contextlib.contextmanager
def executor_for(client: ClientLike) -> Iterator[Executor]:
    """The executor that `client` stands for.

    None is the current Dask client (inside a Dask task: its cluster, the task's thread being lent to it meanwhile), or
    local threads if there is none. False is local threads.
    """
    if _inside_task() and (client is None or (client and client is distributed.get_client())):
        with distributed.worker_client() as task_client:
            yield ClusterExecutor(task_client)
        return
    found = current_client(client)
    yield LocalExecutor() if found is None else ClusterExecutor(found)


def current_client(client: ClientLike) -> distributed.Client | None:
    """The client that `client` stands for; None for local threads."""
    if client is False:
        return None
    if client is not None:
        return client
    try:
        return distributed.get_client() if _inside_task() else distributed.default_client()
    except ValueError:
        return None


def run_at_place(function: Callable[[Any, Place], Any], task: Any, settings: Settings, n_jobs: int) -> Any:
    """Run a task where a Dask worker has put it."""
    try:
        return function(task, enter_place(settings, min(n_jobs, _worker_threads())))
    finally:
        _release_pages()


def enter_place(settings: Settings, n_jobs: int) -> Place:
    """Prepare this process for tasks: scratch and cache on the worker's own disk, if it is a worker."""
    _release_pages()
    local = _worker_directory()
    cache = settings.cache_directory or local
    configure_cache(None if cache is None else Path(cache), settings.cache_bytes)
    scratch = settings.scratch_directory or local
    return Place(None if scratch is None else Path(scratch), n_jobs, settings)


def _release_pages() -> None:
    """Keep what is resident of mapped shards within a share of the worker's memory: its nanny kills for them, too."""
    try:
        limit = get_worker().memory_manager.memory_limit
    except ValueError:  # on another scheduler than distributed's
        return
    if limit:
        release_shard_pages(int(limit * _RESIDENT_SHARE))


def _process() -> tuple[str, int]:
    return platform.node(), os.getpid()  # in containers, processes of several hosts have the same number


def _inside_task() -> bool:
    return hasattr(thread_state, "execution_state")


def _worker_directory() -> str | None:
    try:
        return str(get_worker().local_directory)
    except ValueError:  # on another scheduler than distributed's
        return None


def _worker_threads() -> int:
    """Threads of this worker, which may have fewer than others; as many as there are on another scheduler."""
    try:
        return int(get_worker().state.nthreads)
    except ValueError:
        return thread_count()


def granted_threads() -> int:
    """Threads that work in this process may use: one inside a Dask task, else all that it has."""
    return 1 if _inside_task() else thread_count()


class _Meter:
    def __init__(self, label: str, weights: Sequence[int], progress: Progress | None) -> None:
        self._label, self._weights, self._progress = label, weights, progress
        self._done, self._total = 0, sum(weights)
        self.n_tasks = len(weights)
        self._tell()

    def advance(self, number: int) -> None:
        self._done += self._weights[number]
        self._tell()

    def _tell(self) -> None:
        if self._progress is not None:
            self._progress(self._label, self._done, self._total)

"""Readers side by side, or one writer: the lock of an index that many threads ask and one changes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["SharedLock"]


class SharedLock:
    """A lock that is taken shared by readers and exclusively by writers; a thread may take what it holds again.

    A waiting writer goes before readers that come later, so that a stream of readers does not keep it out. A thread
    that holds the lock exclusively may also take it shared, but not the other way round.

    A signal handler runs in the middle of what its thread does, be it waiting for this lock: what it may take, it gets,
    and it never waits for the code that it interrupted.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.RLock())  # a handler may come while its thread holds it
        self._readers: dict[int, int] = {}  # thread → how often it holds the lock
        self._writer: int | None = None
        self._writer_depth = 0
        self._waiting_writers: list[int] = []  # threads

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Wait for the writer, if there is one; then hold the lock together with other readers."""
        me = threading.get_ident()
        with self._changed:
            # Who reads already, or waits to write, passes a waiting writer: they would wait for each other.
            passes = me in self._readers or me in self._waiting_writers
            if self._writer != me:
                self._changed.wait_for(lambda: self._writer is None and (passes or not self._waiting_writers))
            self._readers[me] = self._readers.get(me, 0) + 1
        try:
            yield
        finally:
            with self._changed:
                self._readers[me] -= 1
                if not self._readers[me]:
                    del self._readers[me]
                    self._changed.notify_all()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Wait for everyone else; then hold the lock alone.

        Raises
        ------
        RuntimeError
            If this thread holds the lock shared: it would wait for itself.
        """
        me = threading.get_ident()
        with self._changed:
            if self._writer != me:
                if me in self._readers:
                    raise RuntimeError("an index cannot be changed by the thread that is in the middle of asking it")
                self._waiting_writers.append(me)
                try:
                    self._changed.wait_for(lambda: self._writer is None and not self._readers)
                    self._writer = me
                finally:
                    self._waiting_writers.remove(me)
                    self._changed.notify_all()  # an interrupted wait lets readers in again
            self._writer_depth += 1
        try:
            yield
        finally:
            with self._changed:
                self._writer_depth -= 1
                if not self._writer_depth:
                    self._writer = None
                    self._changed.notify_all()

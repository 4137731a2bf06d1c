"""The points at which a process can be killed: before each change that it makes to a folder on local disk.

Python itself tells of them (audit events), so nothing in the package has to know of the tests.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Where the changed path stands among the arguments of the event, and where the folder that it is relative to.
_CHANGES = {"os.rename": (1, 3), "os.link": (1, 3), "os.remove": (0, 1), "os.mkdir": (0, 2), "os.rmdir": (0, 1)}


def watch(folder: str, on_change: Callable[[str, str | None], None], *, reads: bool = False) -> None:
    """Have `on_change` called with (path, source) before each change below a folder, for good.

    Parameters
    ----------
    folder : str
    on_change : callable
        Called in whichever thread makes the change. `source` is the unfinished file that gets its final name.
    reads : bool
        Also before a file is opened.
    """
    root = os.path.realpath(folder)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _CHANGES:
            place, folder_place = _CHANGES[event]
            path, parent = os.fspath(arguments[place]), arguments[folder_place]
            source = os.fspath(arguments[0]) if place else None
        elif reads and event == "open" and isinstance(arguments[0], (str, Path)):
            path, parent, source = os.fspath(arguments[0]), -1, None
        else:
            return
        if isinstance(path, bytes):
            path = os.fsdecode(path)
        if parent not in (None, -1) and not path.startswith(os.sep):
            path = f"{os.readlink(f'/proc/self/fd/{parent}')}{os.sep}{path}"  # noqa: PTH115
        if path.startswith(root + os.sep) and (event != "os.remove" or os.path.lexists(path)):
            on_change(path, source)

    sys.addaudithook(hook)


class AtChange:
    """Does something to this process before change number `at`, counted from 0 over all threads.

    Parameters
    ----------
    at : int
    signal_number : int
        What the process sends itself.
    halve : bool
        If the change gives a file its final name: leave only half of the unfinished file, as if it had been written so
        far only.
    """

    def __init__(self, at: int, signal_number: int = signal.SIGKILL, *, halve: bool = False) -> None:
        self.at, self.signal_number, self.halve = at, signal_number, halve
        self.seen = 0
        self._lock = threading.Lock()

    def __call__(self, _path: str, source: str | None) -> None:
        with self._lock:
            number, self.seen = self.seen, self.seen + 1
        if number == self.at:
            if self.halve and source is not None:
                os.truncate(source, Path(source).stat().st_size // 2)
            os.kill(os.getpid(), self.signal_number)

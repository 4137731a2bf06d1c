"""How much memory this process took beyond what it held before."""

from __future__ import annotations

import contextlib
import resource
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")


class PeakMemory:
    """The peak of resident bytes from the making of this object on, less what was resident then.

    Mapped pages of files count while they are resident. Where the kernel does not tell (not Linux), the peak is that
    of the whole life of the process.
    """

    def __init__(self) -> None:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        self._before = _status("VmRSS")

    def taken(self) -> int:
        """Bytes."""
        return max(0, _status("VmHWM") - self._before)


def _status(field: str) -> int:
    if STATUS.exists():
        for line in STATUS.read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

"""Start a stage in a process of its own, with its threads bounded from the start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.datasets import Prepared

CHECKOUT = Path(__file__).resolve().parents[1]
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class StageFailed(Exception):
    """A process ended with an error; the message is the last thing it said."""


def run_stage(stage: str, data: Prepared, *, threads: int, **arguments: Any) -> dict[str, Any]:
    """What the stage of that name returns; see `benchmarks.stages`.

    Raises
    ------
    StageFailed
        If its process fails, or is killed.
    """
    request = {
        "stage": stage,
        "data": {**asdict(data), "folder": str(data.folder)},
        "arguments": {"threads": threads, **{name: _plain(value) for name, value in arguments.items()}},
    }
    environment = {**os.environ, **{name: str(threads) for name in THREAD_VARIABLES}}
    # The child must find the very packages that this process found: its own folder does not come first (-P).
    places = [str(Path(entry or os.curdir).resolve()) for entry in [*sys.path, str(CHECKOUT)]]
    environment["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(places))
    with tempfile.TemporaryDirectory() as folder:
        question, answer = (Path(folder) / name for name in ("request.json", "answer.json"))
        question.write_text(json.dumps(request))
        command = [sys.executable, "-P", "-m", "benchmarks.worker", str(question), str(answer)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            said = done.stderr.strip().splitlines()
            raise StageFailed(f"{said[-1] if said else 'no message'} (exit status {done.returncode})")
        answered: dict[str, Any] = json.loads(answer.read_text())
        return answered


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value

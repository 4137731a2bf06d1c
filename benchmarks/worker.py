"""The process of a stage: ``python -m benchmarks.worker REQUEST ANSWER``, both files of JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.datasets import Prepared
from benchmarks.stages import STAGES


def run(request: dict[str, Any]) -> dict[str, Any]:
    """The stage that a request names, with the arguments that it gives."""
    data = request["data"]
    prepared = Prepared(**{**data, "folder": Path(data["folder"])})
    arguments = {**request["arguments"], "folder": Path(request["arguments"]["folder"])}
    return STAGES[request["stage"]](prepared, **arguments)


def main() -> None:
    question, answer = map(Path, sys.argv[1:])
    answer.write_text(json.dumps(run(json.loads(question.read_text()))))


if __name__ == "__main__":
    main()

"""The benchmarks are no part of the installed package: they are imported from the checkout, and nothing else is."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

_FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


def _import_benchmarks() -> None:
    spec = importlib.util.spec_from_file_location(
        "benchmarks", _FOLDER / "__init__.py", submodule_search_locations=[str(_FOLDER)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["benchmarks"] = module
    spec.loader.exec_module(module)


if "benchmarks" not in sys.modules:
    _import_benchmarks()


@pytest.fixture
def folder_of_sets(tmp_path: Path, digits: np.ndarray) -> Path:
    """The digits as floats (`text256` by name, so that the metric is known) and as bits (`orb256`)."""
    folder = tmp_path / "data"
    folder.mkdir()
    bits = np.packbits(digits > 4, axis=1)
    for name, rows in (("text256", digits.astype(np.float16)), ("orb256", bits)):
        np.save(folder / f"{name}.npy", rows[:1500])
        np.save(folder / f"{name}_queries.npy", rows[1500:])
    return folder

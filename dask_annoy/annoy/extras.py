"""Optional packages: imported when a method needs them, with an error that says which extra brings them."""

from __future__ import annotations

import importlib
from typing import Any, Final

from dask_annoy.errors import MissingExtraError

__all__ = ["optional"]

_EXTRA_OF: Final = {"sklearn": "sklearn", "scipy": "sklearn", "pandas": "dataframe", "matplotlib": "plot"}


def optional(module: str, purpose: str) -> Any:
    """Import `module`.

    Parameters
    ----------
    module : str
        A module of scikit-learn, SciPy, pandas or matplotlib.
    purpose : str
        What it is needed for: the beginning of the error's sentence.

    Raises
    ------
    MissingExtraError
        (an ImportError) if the package is not installed.
    """
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as reason:
        if reason.name is None or reason.name.partition(".")[0] != package:
            raise  # the package is there, but one of its own dependencies is not
        raise MissingExtraError(purpose, _EXTRA_OF[package]) from reason

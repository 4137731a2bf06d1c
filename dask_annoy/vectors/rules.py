"""Which shapes and element types can be vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from dask_annoy.errors import InvalidVectorsError

__all__ = ["check_dtype", "check_shape"]

_WHY_NOT = {
    "O": "objects (ragged rows or mixed types end up so)",
    "U": "strings",
    "T": "strings",
    "S": "bytes",
    "c": "complex numbers",
    "M": "dates",
    "m": "time differences",
    "V": "records or an element type that numpy does not know",
}


def check_dtype(dtype: np.dtype[Any], name: str) -> None:
    """Refuse element types other than bool, float16, float32, float64 and the integers.

    Raises
    ------
    InvalidVectorsError
        Naming the source and what it holds.
    """
    if dtype.kind in "biu" or (dtype.kind == "f" and dtype.itemsize <= 8):
        return
    what = _WHY_NOT.get(dtype.kind, "numbers of a type that is too wide")
    raise InvalidVectorsError(
        f"{name}: vectors must be float16, float32, float64, integers or bool; these are {what}, dtype {dtype}"
    )


def check_shape(shape: tuple[int, ...], name: str) -> tuple[int, int]:
    """Refuse shapes other than (rows, columns) with at least one column; no rows are legal.

    Returns
    -------
    n_rows, width : int

    Raises
    ------
    InvalidVectorsError
        Naming the source and its shape.
    """
    if len(shape) == 2 and shape[1] > 0:
        return int(shape[0]), int(shape[1])
    if len(shape) == 2:
        hint = "vectors without columns have no distances"
    elif len(shape) == 1:
        hint = "a single vector x is x[None, :]"
    else:
        hint = "reshape to one row a vector"
    raise InvalidVectorsError(f"{name}: expected the shape (rows, columns), found {shape}: {hint}")

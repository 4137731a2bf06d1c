"""Rows as users have them (arrays, dataframes, dictionaries, values missing) to arrays of one row a vector."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dask_annoy.errors import InvalidVectorsError

__all__ = ["AcceptSparse", "GivenRows", "checked_feature_names", "read_rows"]

AcceptSparse = Literal["error", "toarray"]


@dataclass(frozen=True)
class GivenRows:
    """Rows to add or to ask for.

    Attributes
    ----------
    values : numpy.ndarray, shape (m, f)
        Numbers, not yet checked to be finite.
    feature_names : tuple of str, or None
        Names of the columns, where the rows came with names.
    """

    values: NDArray[Any]
    feature_names: tuple[str, ...] | None = None


def read_rows(
    X: Any,
    *,
    missing_value: float | None = None,
    feature_names: tuple[str, ...] | None = None,
    accept_sparse: AcceptSparse = "error",
) -> GivenRows:
    """Turn what the user gave into an array.

    Parameters
    ----------
    X : array of shape (m, f), dataframe, SciPy sparse matrix, sequence of sequences, or sequence of mappings
        In mappings, the keys are names of features, or their numbers.
    missing_value : float, optional
        Stands in for None, NaN, and keys that a mapping lacks. Without it they are errors.
    feature_names : tuple of str, optional
        The names that the columns must have, in order; names in mappings are looked up in it.
    accept_sparse : {"error", "toarray"}
        Whether sparse matrices are made dense or refused.

    Raises
    ------
    InvalidVectorsError
        For rows that are no table of numbers; names the first value that is missing.
    TypeError
        For a sparse matrix with ``accept_sparse="error"``.
    """
    if missing_value is not None and not math.isfinite(missing_value):
        raise ValueError(f"missing_value must be a finite number, got {missing_value}")
    names: tuple[str, ...] | None = None
    if hasattr(X, "tocsr"):
        if accept_sparse != "toarray":
            raise TypeError("X is sparse, and vectors are stored dense: pass accept_sparse='toarray', or X.toarray()")
        values = np.asarray(X.toarray())
    elif hasattr(X, "columns") and hasattr(X, "to_numpy"):
        values, names = X.to_numpy(), _column_names(X.columns)
        if names is not None and feature_names is not None and names != feature_names:
            raise InvalidVectorsError(
                f"the columns are {_listed(names)}, but the index holds {_listed(feature_names)}: "
                "give the same columns in the same order"
            )
    elif isinstance(X, Sequence) and len(X) and all(isinstance(row, Mapping) for row in X):
        values, names = _from_mappings(X, missing_value, feature_names)
    else:
        values = np.asarray(X)
    if values.ndim != 2:
        raise InvalidVectorsError(
            f"X has the shape {values.shape}, but a table of one vector a row is needed: shape (m, f)"
            + ("; for a single vector pass [vector]" if values.ndim == 1 else "")
        )
    if values.dtype == object:
        values = _from_objects(values, missing_value)
    if missing_value is not None and np.issubdtype(values.dtype, np.floating):
        missing = np.isnan(values)
        if missing.any():
            values = np.where(missing, values.dtype.type(missing_value), values)
    return GivenRows(values, names)


def checked_feature_names(names: Any, width: int) -> tuple[str, ...]:
    """Names of `width` features.

    Raises
    ------
    ValueError
        If they are not as many strings, each another.
    """
    given = tuple(names)
    if len(given) != width or not all(isinstance(name, str) for name in given) or len(set(given)) != width:
        raise ValueError(f"feature_names must be {width} different strings, one a dimension; got {_listed(given)}")
    return tuple(str(name) for name in given)


def _column_names(columns: Any) -> tuple[str, ...] | None:
    names = tuple(columns)
    return tuple(str(name) for name in names) if names and all(isinstance(name, str) for name in names) else None


def _from_mappings(
    rows: Sequence[Mapping[Any, Any]], missing_value: float | None, feature_names: tuple[str, ...] | None
) -> tuple[NDArray[np.float64], tuple[str, ...] | None]:
    keys = set().union(*rows)
    named = all(isinstance(key, str) for key in keys)
    if not named and not all(isinstance(key, int | np.integer) and key >= 0 for key in keys):
        raise InvalidVectorsError("the keys of X's rows must be all names of features or all numbers of features")
    if named:
        features: Sequence[Any] = feature_names if feature_names is not None else sorted(keys)
    else:
        features = range(len(feature_names) if feature_names is not None else max(keys, default=-1) + 1)
    unknown = keys.difference(features)
    if unknown:
        raise InvalidVectorsError(f"the index has no feature {min(unknown)!r}; its features are {_listed(features)}")
    values = np.empty((len(rows), len(features)))
    for number, row in enumerate(rows):
        for column, feature in enumerate(features):
            value = row.get(feature)
            if value is None:
                if missing_value is None:
                    raise InvalidVectorsError(
                        f"row {number} of X has no value for {feature!r}: give one, or a missing_value to stand for it"
                    )
                value = missing_value
            values[number, column] = value
    return values, tuple(features) if named else None


def _from_objects(values: NDArray[Any], missing_value: float | None) -> NDArray[np.float64]:
    missing = np.vectorize(lambda value: value is None, otypes=[bool])(values)
    if missing.any():
        if missing_value is None:
            row, column = np.argwhere(missing)[0]
            raise InvalidVectorsError(
                f"row {row}, column {column} of X is None: give a number, or a missing_value that stands for it"
            )
        values = np.where(missing, missing_value, values)
    try:
        return values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidVectorsError(f"X must hold numbers: {error}") from None


def _listed(names: Sequence[Any]) -> str:
    shown = ", ".join(repr(name) for name in names[:8])
    return f"{shown} … ({len(names)} in all)" if len(names) > 8 else shown or "none"

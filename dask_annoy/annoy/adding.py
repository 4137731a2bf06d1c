"""Many vectors at once, as rows of any kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dask_annoy.annoy.annoy_index import AnnoyIndex
from dask_annoy.annoy.rows import AcceptSparse, read_rows
from dask_annoy.errors import InvalidIdsError

if TYPE_CHECKING:
    from dask_annoy.annoy.index import Index

__all__ = ["add_items", "item_numbers"]


def add_items(
    self: Index,
    X: Any,
    ids: ArrayLike | None = None,
    *,
    packed: bool = False,
    start_id: int | None = None,
    missing_value: float | None = None,
    accept_sparse: AcceptSparse = "error",
    check_unique_ids: bool = True,
) -> NDArray[np.int64]:
    """Put many vectors.

    Parameters
    ----------
    X : rows, shape (m, f)
        As in `fit`; the columns of a dataframe and the keys of dictionaries name the dimensions.
    ids : array of m integers, optional
        Item numbers.
    packed : bool
        For hamming: ``X`` holds bits in bytes, as in `AnnoyIndex.add_items`.
    start_id : int, optional
        Without ``ids``: the first number; the one after the last item if not given.
    missing_value : float, optional
        Stands for None, NaN and missing keys in ``X``.
    accept_sparse : {"error", "toarray"}
        Whether sparse matrices are made dense or refused.
    check_unique_ids : bool
        Refuse ``ids`` that are repeated; otherwise the last row with a number replaces the others.

    Returns
    -------
    int64 array of shape (m,)
        The item numbers.
    """
    if ids is not None and start_id is not None:
        raise ValueError("ids and start_id say the same thing twice: give one of them")
    if packed and not self._width:
        raise ValueError("packed rows do not say how many bits are meant: give f")
    with self._lock.exclusive():
        if packed:
            values, names = X, None
        else:
            rows = read_rows(
                X, missing_value=missing_value, feature_names=self._feature_names, accept_sparse=accept_sparse
            )
            values, names = rows.values, rows.feature_names
        numbers = None if ids is None else self._item_numbers(ids)
        if numbers is not None and check_unique_ids and len(np.unique(numbers)) != len(numbers):
            raise InvalidIdsError("ids are repeated: each row needs its own; or pass check_unique_ids=False")
        if start_id is not None:
            numbers = start_id + np.arange(len(values))
        target = self._to_add_to(values.shape[1])
        added = AnnoyIndex.add_items(target, values, numbers, packed=packed)
        if target is not self:
            self._hold(target)
        if self._feature_names is None and len(added) == self.get_n_items():
            self._feature_names = names
    return added


def item_numbers(ids: ArrayLike) -> NDArray[np.int64]:
    """Item numbers as an array.

    Raises
    ------
    InvalidIdsError
        If they are not integers in one dimension.
    IndexError
        If one has more bits than any item's number.
    """
    given = np.asarray(ids)
    if given.dtype.kind in "uO" and given.ndim == 1:  # what numpy knows no int64 for
        numbers = given if given.dtype == object else given[given > np.iinfo(np.int64).max]
        for number in numbers:
            if isinstance(number, int | np.integer) and not -(2**63) <= number < 2**63:
                raise IndexError(f"Item index {number} is no item's: item numbers are below 2^31 - 1")
    if given.ndim != 1 or (given.size and not np.issubdtype(given.dtype, np.integer)):
        raise InvalidIdsError(f"item numbers must be integers in one dimension, got {given.dtype} {given.shape}")
    return given.astype(np.int64)

"""Vectors of an index as arrays, tables and sparse matrices. Only items that are there count, holes do not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from dask_annoy.annoy.extras import optional

if TYPE_CHECKING:
    from dask_annoy.annoy.index import Index

__all__ = ["iter_item_vectors", "to_numpy", "to_pandas", "to_scipy_csr"]

_ITERATED_AT_ONCE = 1024


@overload
def to_numpy(
    self: Index,
    ids: ArrayLike | None = None,
    *,
    start: int = 0,
    stop: int | None = None,
    dtype: DTypeLike = np.float32,
    return_ids: Literal[False] = False,
) -> NDArray[Any]: ...
@overload
def to_numpy(
    self: Index,
    ids: ArrayLike | None = None,
    *,
    start: int = 0,
    stop: int | None = None,
    dtype: DTypeLike = np.float32,
    return_ids: Literal[True],
) -> tuple[NDArray[Any], NDArray[np.int64]]: ...
def to_numpy(
    self: Index,
    ids: ArrayLike | None = None,
    *,
    start: int = 0,
    stop: int | None = None,
    dtype: DTypeLike = np.float32,
    return_ids: bool = False,
) -> NDArray[Any] | tuple[NDArray[Any], NDArray[np.int64]]:
    """Copy vectors to an array.

    Parameters
    ----------
    ids : array of n integers, optional
        The items, in this order; all that are there, in ascending order, if not given.
    start, stop : int
        Without ``ids``: only items with these numbers, ``stop`` excluded.
    dtype : dtype
        Of the result; vectors are stored as float32, those of hamming as bits.
    return_ids : bool
        Also return the item numbers.

    Returns
    -------
    vectors : array of shape (n, f)
    ids : int64 array of shape (n,)
        With ``return_ids``.

    Raises
    ------
    IndexError
        If a number is no item's.
    """
    with self._lock.shared():
        numbers = self._item_numbers(ids, start, stop)
        vectors = self._vectors_of(numbers).astype(dtype, copy=False)
    return (vectors, numbers) if return_ids else vectors


def iter_item_vectors(
    self: Index,
    ids: ArrayLike | None = None,
    *,
    start: int = 0,
    stop: int | None = None,
    dtype: DTypeLike = np.float32,
    with_ids: bool = True,
) -> Iterator[Any]:
    """Go through vectors one by one; a block of them at a time is copied.

    Parameters
    ----------
    ids, start, stop, dtype
        As in `to_numpy`.
    with_ids : bool
        Yield ``(id, vector)`` and not the vector alone.

    Yields
    ------
    (int, array of shape (f,)), or the array
    """
    with self._lock.shared():
        numbers = self._item_numbers(ids, start, stop)
    for begin in range(0, len(numbers), _ITERATED_AT_ONCE):
        block = numbers[begin : begin + _ITERATED_AT_ONCE]
        # The lock is not kept while the caller is busy with a block: changes would wait for them.
        vectors = self.to_numpy(block, dtype=dtype)
        yield from zip(block.tolist(), vectors, strict=True) if with_ids else vectors


def to_scipy_csr(
    self: Index, ids: ArrayLike | None = None, *, start: int = 0, stop: int | None = None, dtype: DTypeLike = np.float32
) -> Any:
    """Copy vectors to a SciPy CSR matrix, zeros left out.

    Parameters
    ----------
    ids, start, stop, dtype
        As in `to_numpy`.

    Returns
    -------
    scipy.sparse.csr_matrix of shape (n, f)

    Raises
    ------
    MissingExtraError
        (an ImportError) without SciPy.
    """
    sparse = optional("scipy.sparse", "sparse matrices")
    return sparse.csr_matrix(self.to_numpy(ids, start=start, stop=stop, dtype=dtype))


def to_pandas(
    self: Index,
    ids: ArrayLike | None = None,
    *,
    start: int = 0,
    stop: int | None = None,
    dtype: DTypeLike = np.float32,
    id_location: Literal["index", "column", "both", "none"] = "index",
    id_name: str = "id",
    columns: Sequence[str] | None = None,
) -> Any:
    """Copy vectors to a dataframe of one row an item.

    Parameters
    ----------
    ids, start, stop, dtype
        As in `to_numpy`.
    id_location : {"index", "column", "both", "none"}
        Where the item numbers go.
    id_name : str
        What they are called there.
    columns : sequence of f str, optional
        Names of the dimensions; those that `fit` was given, or ``feature_0`` and so on, if not given.

    Returns
    -------
    pandas.DataFrame

    Raises
    ------
    MissingExtraError
        (an ImportError) without pandas.
    """
    if id_location not in ("index", "column", "both", "none"):
        raise ValueError(f"id_location must be 'index', 'column', 'both' or 'none', got {id_location!r}")
    pandas = optional("pandas", "dataframes")
    with self._lock.shared():
        vectors, numbers = self.to_numpy(ids, start=start, stop=stop, dtype=dtype, return_ids=True)
        names = columns if columns is not None else self._feature_names
    if names is None:
        names = [f"feature_{dimension}" for dimension in range(vectors.shape[1])]
    if len(names) != vectors.shape[1]:
        raise ValueError(f"{len(names)} columns were named, but vectors have {vectors.shape[1]} dimensions")
    frame = pandas.DataFrame(vectors, columns=list(names))
    if id_location in ("index", "both"):
        frame.index = pandas.Index(numbers, name=id_name)
    if id_location in ("column", "both"):
        frame.insert(0, id_name, numbers)
    return frame

"""From what a user passes as vectors or ids to a source: the registry of file formats."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dask_annoy.errors import InvalidIdsError, InvalidVectorsError
from dask_annoy.vectors.array import ArraySource
from dask_annoy.vectors.concat import ConcatSource
from dask_annoy.vectors.fbin import BIN_DTYPES, BinSource, bin_suffix
from dask_annoy.vectors.filesystem import open_filesystem, public_url
from dask_annoy.vectors.id_files import NpyIds, ParquetIds
from dask_annoy.vectors.ids import ArrayIds, ConcatIds, IdSource, RowNumberIds
from dask_annoy.vectors.listing import has_pattern, is_folder, list_files
from dask_annoy.vectors.npy import NpySource
from dask_annoy.vectors.parquet import ParquetSource
from dask_annoy.vectors.parquet_files import is_parquet_name
from dask_annoy.vectors.patience import ask
from dask_annoy.vectors.source import RowSource
from dask_annoy.vectors.zarr import ZarrSource

__all__ = ["open_ids", "open_source"]

_NPY = re.compile(r"\.npy(?:::.*)?$", re.IGNORECASE)
_ZARR = re.compile(r"\.zarr(/|::|$)", re.IGNORECASE)
_KNOWN = ", ".join([".npy", *BIN_DTYPES, ".parquet", ".parq", ".pq", ".zarr"])


def open_source(
    vectors: RowSource | str | os.PathLike[str] | npt.ArrayLike,
    *,
    column: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> RowSource:
    """Open vectors, whatever they are.

    Parameters
    ----------
    vectors : array_like, str, PathLike, or RowSource
        A table of numbers in memory; or the path or URL of a file, known by its suffix: `.npy`, `.fbin` and
        its kin, `.parquet`, `.zarr`; of a folder that is a Zarr array or has Parquet files; or a glob
        pattern. A source is returned as it is.
    column : str, optional
        The column of Parquet files that holds the vectors.
    storage_options : mapping, optional
        What fsspec needs beside a URL.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    InvalidVectorsError
        If it is not known what this is, or it is no table of numbers.
    MissingExtraError
        If the format or the storage needs a package that is not installed.
    """
    if isinstance(vectors, RowSource):
        return vectors
    if isinstance(vectors, (str, os.PathLike)):
        return _open_url(os.fspath(vectors), column, storage_options)
    if column is not None:
        raise InvalidVectorsError(f"column={column!r} is for Parquet files, but the vectors are an array")
    if hasattr(vectors, "__dask_graph__"):
        raise InvalidVectorsError(
            "a Dask collection has no rows yet: pass it to build_index, which knows how to compute it"
        )
    if type(vectors).__module__.partition(".")[0] == "zarr":
        raise InvalidVectorsError("an open Zarr array would be read into memory: pass the URL of its folder instead")
    return ArraySource(vectors, name=_array_name(vectors))


def _open_url(url: str, column: str | None, options: Mapping[str, Any] | None) -> RowSource:
    name = public_url(url)  # a signed URL ends with its signature, not with a suffix
    if is_parquet_name(name) or (column is not None and has_pattern(url)):
        return ParquetSource(url, column, storage_options=options)
    if _NPY.search(name):
        source: type[ZarrSource | NpySource | BinSource] = NpySource
    elif bin_suffix(name):
        source = BinSource
    elif _ZARR.search(name):
        source = ZarrSource
    else:
        return _open_folder(url, column, options)
    if column is not None:
        raise InvalidVectorsError(f"column={column!r} is for Parquet files, but the vectors are in {public_url(url)}")
    if source is not ZarrSource and has_pattern(url):
        files = list_files(url, options, wanted=bool)
        if not files:
            raise FileNotFoundError(f"no file matches {public_url(url)}")
        return ConcatSource(tuple(source(file, storage_options=options) for file in files))
    return source(url, storage_options=options)


def _open_folder(url: str, column: str | None, options: Mapping[str, Any] | None) -> RowSource:
    """Open a URL whose suffix says nothing, if it is a folder whose content does."""
    if not has_pattern(url) and is_folder(url, options):
        filesystem, path = open_filesystem(url, options)
        marks = [f"{path.rstrip('/')}/{name}" for name in ("zarr.json", ".zarray")]
        if column is None and any(ask(filesystem, "exists", mark, where=public_url(url)) for mark in marks):
            return ZarrSource(url, storage_options=options)
        return ParquetSource(url, column, storage_options=options)
    raise InvalidVectorsError(
        f"{public_url(url)}: the suffix does not say what this is. Known are {_KNOWN}, and folders of Parquet files"
    )


def open_ids(
    ids: IdSource | str | os.PathLike[str] | Sequence[object] | npt.ArrayLike | None,
    *,
    vectors: RowSource,
    storage_options: Mapping[str, Any] | None = None,
) -> IdSource:
    """Open the ids of vectors.

    Parameters
    ----------
    ids : array_like, str, PathLike, IdSource, or None
        None: the row numbers. A str: the name of a column if the vectors are in Parquet files that have it,
        else the path or URL of a `.npy` file.
    vectors : RowSource
        What the ids belong to.
    storage_options : mapping, optional
        What fsspec needs beside a URL.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    InvalidIdsError
        If the ids are not integers or strings, or not as many as the vectors, naming both numbers.
    """
    source = _open_ids(ids, vectors, storage_options)
    if source.n_rows != vectors.n_rows:
        raise InvalidIdsError(
            f"{source.name}: {source.n_rows:,} ids were given for the {vectors.n_rows:,} vectors of {vectors.name}"
        )
    return source


def _open_ids(ids: Any, vectors: RowSource, options: Mapping[str, Any] | None) -> IdSource:
    if ids is None:
        return RowNumberIds(vectors.n_rows)
    if isinstance(ids, IdSource):
        return ids
    if isinstance(ids, str) and (tables := _parquet_parts(vectors)):
        has_it = [ids in table.files.column_names() for table in tables]
        if all(has_it) or not _NPY.search(public_url(ids)):
            parts = tuple(ParquetIds(table.files, ids) for table in tables)
            return parts[0] if len(parts) == 1 else ConcatIds(parts)
    if isinstance(ids, (str, os.PathLike)):
        url = os.fspath(ids)
        if not _NPY.search(public_url(url)):
            raise InvalidIdsError(f"{public_url(url)}: ids in a file of their own must be in a .npy file")
        return NpyIds(url, storage_options=options)
    if hasattr(ids, "__dask_graph__"):
        raise InvalidIdsError("a Dask collection has no ids yet: pass it to build_index, which knows how to compute it")
    if np.ndim(ids) == 0 and not hasattr(ids, "__iter__"):
        raise InvalidIdsError(f"ids: expected one id a row, found {ids!r}")
    return ArrayIds(ids)


def _parquet_parts(vectors: RowSource) -> tuple[ParquetSource, ...]:
    """Return the Parquet sources that the vectors consist of, or nothing if there are others too."""
    parts = vectors.parts if isinstance(vectors, ConcatSource) else (vectors,)
    tables = tuple(part for part in parts if isinstance(part, ParquetSource))
    return tables if len(tables) == len(parts) else ()


def _array_name(vectors: object) -> str:
    kind = type(vectors)
    return (
        "numpy array"
        if isinstance(vectors, np.ndarray)
        else f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
    )

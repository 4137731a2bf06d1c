"""Row blocks in bounded memory from arrays and files, the ids of the rows, and their encoding."""

from __future__ import annotations

from dask_annoy.vectors.array import ArraySource
from dask_annoy.vectors.concat import ConcatSource
from dask_annoy.vectors.encode import encode_rows
from dask_annoy.vectors.fbin import BinSource
from dask_annoy.vectors.id_files import NpyIds, ParquetIds
from dask_annoy.vectors.ids import ArrayIds, ConcatIds, Ids, IdSource, RowNumberIds
from dask_annoy.vectors.npy import NpySource
from dask_annoy.vectors.opening import open_ids, open_source
from dask_annoy.vectors.parquet import ParquetSource
from dask_annoy.vectors.source import RowSource
from dask_annoy.vectors.zarr import ZarrSource

__all__ = [
    "ArrayIds",
    "ArraySource",
    "BinSource",
    "ConcatIds",
    "ConcatSource",
    "IdSource",
    "Ids",
    "NpyIds",
    "NpySource",
    "ParquetIds",
    "ParquetSource",
    "RowNumberIds",
    "RowSource",
    "ZarrSource",
    "encode_rows",
    "open_ids",
    "open_source",
]

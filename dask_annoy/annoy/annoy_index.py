"""`AnnoyIndex`: Annoy's index on one machine, with files anywhere, pickling and a face for notebooks."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from dask_annoy import _native
from dask_annoy.annoy.display import html_table
from dask_annoy.annoy.file_argument import (
    FileName,
    ReadableFile,
    RemoteFile,
    WritableFile,
    locate,
    name_of,
    read_from,
    write_to,
)
from dask_annoy.annoy.pickled import by_file, by_value, restore
from dask_annoy.annoy.search_plan import SearchMethod, SearchPlan

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from typing_extensions import Buffer

__all__ = ["AnnoyIndex", "make_paying_cells"]


_CELLS: Final = ".cells"  # after the forest's name


class AnnoyIndex(_native.AnnoyIndex):
    """An index of vectors for approximate nearest neighbours, with Annoy's methods and Annoy's files.

    Parameters
    ----------
    f : int
        Dimensions of a vector.
    metric : {"angular", "euclidean", "manhattan", "hamming", "dot"}
        For hamming a component counts as 1 if it is larger than 0.5.

    Notes
    -----
    Queries may run on several threads at once; methods that change the index wait for them. Files are those of Annoy
    1.17.3, in both directions.

    Pickling and copying: an index that is mapped from a local file goes by the file's path, size and time of change,
    and unpickling maps the same file again, or refuses another one in its place. Any other goes by its content: a built
    or loaded one comes back as after `load`; one that is not built comes back with its items and its seed, to go on.
    If the file has been replaced or removed before pickling, the content goes, too. Attributes of subclasses go along.
    """

    def save(
        self,
        fn: FileName | WritableFile,
        prefault: bool = False,
        *,
        storage_options: Mapping[str, Any] | None = None,
    ) -> bool:
        """Write the index to a file.

        Parameters
        ----------
        fn : str, os.PathLike or binary file object
            A path: the file appears whole or not at all, and the index goes on from it, mapped and read-only, as in
            Annoy. A fsspec URL (a str with a protocol, as ``s3://bucket/x.ann``; ``file://`` is a path) or anything
            with ``write``: the index stays as it is. Object stores show the file whole or not at all. Cells, if there
            are any, go to a second file: the name and ``.cells``; one with cells of another forest is removed. An open
            file takes the forest alone.
        prefault : bool
            Read the mapped file into memory at once; of no effect where nothing is mapped.
        storage_options : mapping, optional
            What fsspec needs beside the URL.

        Returns
        -------
        bool
            True.

        Raises
        ------
        OSError
            If the index is not built, or the file cannot be written.
        """
        if not isinstance(fn, str | os.PathLike) and hasattr(fn, "write"):  # some path objects have it, too
            _refuse_options(storage_options)
            write_to(fn, self._file_bytes(name_of(fn)))
            return True
        place = locate(fn, storage_options)
        if isinstance(place, RemoteFile):
            from dask_annoy.storage.whole_file import remove_file, write_file

            forest = self._file_bytes(place.name)
            # First, so that at no time another forest's cells lie beside what was written.
            remove_file(place.url + _CELLS, place.storage_options)
            write_file(place.url, forest, place.storage_options)
            if self._status()["n_cells"]:
                write_file(place.url + _CELLS, self._cells_to_bytes(), place.storage_options)
            return True
        return super().save(place.path, prefault)

    def load(
        self,
        fn: FileName | ReadableFile,
        prefault: bool = False,
        *,
        cells: bool | Literal["auto"] = False,
        storage_options: Mapping[str, Any] | None = None,
    ) -> bool:
        """Check a file and use it; if it is refused, the index stays as it was.

        Parameters
        ----------
        fn : str, os.PathLike or binary file object
            A path is mapped. What is at a fsspec URL (a str with a protocol, as ``s3://bucket/x.ann``; ``file://`` is a
            path) or left in anything with ``read`` is copied to memory; while that lasts it is there twice.
        prefault : bool
            Read the mapped file into memory at once; of no effect where nothing is mapped.
        cells : bool or "auto"
            Use the cells beside the file, too, and make them anew if there are none: see `build_cells`. "auto" makes
            them only where there are so many items that searches would use them, and also where the cells beside the
            file are another forest's. Without cells answers are Annoy's.
        storage_options : mapping, optional
            What fsspec needs beside the URL.

        Returns
        -------
        bool
            True.

        Raises
        ------
        OSError
            If the file cannot be read: FileNotFoundError if there is none.
        CorruptIndexError
            (an OSError and a ValueError) if the file is no sound forest of this metric and width, or the file of cells
            is damaged or of another forest.
        """
        if not isinstance(fn, str | os.PathLike) and hasattr(fn, "read"):
            _refuse_options(storage_options)
            self._load_content(read_from(fn), None, name_of(fn), cells)
            return True
        place = locate(fn, storage_options)
        if isinstance(place, RemoteFile):
            from dask_annoy.storage.whole_file import read_file

            forest, beside = read_file(place.url, place.storage_options), None
            if cells:
                with suppress(FileNotFoundError):
                    beside = read_file(place.url + _CELLS, place.storage_options)
            self._load_content(forest, beside, place.name, cells)
            return True
        if cells != "auto":
            return super().load(place.path, prefault, cells=cells)
        loaded = _native.AnnoyIndex(super().f, super().metric)
        loaded.load(place.path, prefault)
        if loaded._has_cells_at(place.path + _CELLS):
            loaded._open_cells(place.path + _CELLS, prefault)
        else:
            make_paying_cells(loaded)
        self._adopt(loaded)
        return True

    def _load_content(self, forest: bytes, beside: bytes | None, name: str, cells: bool | Literal["auto"]) -> None:
        """Use bytes of a forest and, if wanted, of its cells; if one is refused, the index stays as it was."""
        if not cells:
            super().load_bytes(forest, name=name)
            return
        loaded = _native.AnnoyIndex(super().f, super().metric)
        loaded.load_bytes(forest, name=name)
        if beside is not None:
            loaded._load_cells(beside, name=name + _CELLS)
        elif cells == "auto":
            make_paying_cells(loaded)
        else:
            loaded.build_cells()
        self._adopt(loaded)

    def on_disk_build(self, fn: FileName) -> bool:
        """Build in this file instead of in memory; call it before the first item.

        Parameters
        ----------
        fn : str or os.PathLike
            A path of this machine (``file://`` is one); what is there is overwritten.

        Returns
        -------
        bool
            True.

        Raises
        ------
        ValueError
            For a URL of other storage, which a forest cannot grow in.
        RuntimeError
            If there are items already.
        """
        place = locate(fn)
        if isinstance(place, RemoteFile):
            raise ValueError(
                f"{place.name} is not on this machine, and a forest grows in a local file only: build in one, or in "
                "memory, and save() to the URL"
            )
        return super().on_disk_build(place.path)

    @classmethod
    def from_bytes(cls, f: int, metric: str, data: Buffer) -> Self:
        """Make an index from a file's bytes, which are copied and checked; read-only, as after `load`.

        Parameters
        ----------
        f : int
        metric : str
        data : bytes-like

        Raises
        ------
        CorruptIndexError
            If the bytes are no sound forest of this metric and width.
        """
        index = cls(f, metric)
        index.load_bytes(data)
        return index

    def explain_search(
        self,
        n_queries: int,
        n: int,
        search_k: int = -1,
        *,
        n_jobs: int = -1,
        include: ArrayLike | None = None,
        exclude: ArrayLike | None = None,
        method: SearchMethod = "auto",
    ) -> SearchPlan:
        """Say how a search would go about it, why, and what each method would take. Searches nothing.

        It is what a search with the same arguments asks itself, and follows from nothing else: so it also tells what a
        search has done. `get_nns_by_vector` and `get_nns_by_item` are searches of one query.

        Parameters
        ----------
        n_queries : int
            Queries of the call.
        n, search_k, n_jobs, include, exclude, method
            As the search's.

        Raises
        ------
        RuntimeError
            If the index is not built, or `method` is "cells" and there are none.
        """
        plan = self._plan_search(n_queries, n, search_k, n_jobs, include=include, exclude=exclude, method=method)
        return SearchPlan(n_queries=n_queries, n=n, search_k=search_k, **plan)

    def __repr__(self) -> str:
        return super().__repr__().replace("AnnoyIndex", type(self).__name__, 1)

    def _repr_html_(self) -> str:
        return html_table(type(self).__name__, self)

    def __sizeof__(self) -> int:
        """Count what lies in memory, and cells, mapped or not; mapped pages of the forest are the kernel's."""
        if self.closed:
            return object.__sizeof__(self)
        status = self._status()
        on_disk = status["file"] is not None or status["building_file"] is not None
        forest = 0 if on_disk else int(status["n_bytes"])
        return object.__sizeof__(self) + forest + int(status["cells_bytes"])

    def __getstate__(self) -> dict[str, Any]:
        return {
            "f": super().f,
            "metric": super().metric,
            "content": by_file(self) or by_value(self),
            "attributes": object.__getstate__(self),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Not through __init__: subclasses may give it other parameters.
        _native.AnnoyIndex.__init__(self, state["f"], state["metric"])
        attributes = state["attributes"]
        of_instance, of_slots = attributes if isinstance(attributes, tuple) else (attributes, None)
        for name, value in {**(of_instance or {}), **(of_slots or {})}.items():
            object.__setattr__(self, name, value)
        restore(self, state["content"])

    def _file_bytes(self, name: str) -> bytes:
        if not self._status()["is_built"]:
            raise OSError(errno.EINVAL, "You can't save an index that hasn't been built", name)
        return self.to_bytes()


def make_paying_cells(index: _native.AnnoyIndex, n_jobs: int = -1) -> None:
    """Give a built or loaded index cells, if searches would use them: few items are sooner scored all."""
    native = _native.AnnoyIndex  # subclasses may give the names another meaning
    status = native._status(index)
    metric = native.metric.__get__(index)
    if status["n_trees"] and _native.cells_pay(status["n_items"], native.f.__get__(index), metric):
        native.build_cells(index, n_jobs=n_jobs)


def _refuse_options(storage_options: Mapping[str, Any] | None) -> None:
    if storage_options:
        raise ValueError("storage_options are for URLs, and a file object was given: leave them out")

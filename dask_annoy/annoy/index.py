"""`Index`: `AnnoyIndex` for notebooks and pipelines. The class is put together here; its parts are one file each."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dask_annoy._native import AnnoyIndex as NativeIndex
from dask_annoy.annoy import (
    adding,
    bundle,
    copies,
    estimator,
    exports,
    information,
    metadata,
    neighbors,
    pickles,
    plotting,
)
from dask_annoy.annoy.adding import item_numbers
from dask_annoy.annoy.annoy_index import AnnoyIndex, make_paying_cells
from dask_annoy.annoy.file_argument import FileName, ReadableFile, WritableFile
from dask_annoy.annoy.labels import Labels
from dask_annoy.annoy.locks import SharedLock
from dask_annoy.annoy.metrics import DEFAULT_METRIC
from dask_annoy.annoy.parameters import CellsMode, CompressMode, Parameter, Parameters, PickleMode, clamped_verbosity

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["Index"]

Answer = TypeVar("Answer")

_DEFAULT_SEED = 1234567890987654321  # the native index's, and Annoy's


class Index(AnnoyIndex):
    """An Annoy index that learns its width from its first vector, and that notebooks and pipelines can handle.

    Everything that `AnnoyIndex` can do, and more: see the methods. Methods that return True in Annoy return the index,
    which is as true, so that calls can be chained.

    Parameters
    ----------
    f : int, optional
        Dimensions of a vector. If not given, or 0, the first vector tells.
    metric : str, optional
        A name of `METRIC_ALIASES`; ``"angular"`` if not given. Setting another one empties the index.
    n_neighbors : int
        How many neighbours queries answer with, if they do not say.
    on_disk_path : str or os.PathLike, optional
        Build in this file instead of in memory. It is written when the first item comes.
    prefault : bool, optional
        Read files into memory when they are mapped.
    seed : int, optional
        Of the builds to come; 0 is a seed as any other.
    verbose : int, optional
        A level between -2 and 2. It is kept, and nothing is printed: errors are raised.
    pickle_mode : {"auto", "disk", "byte"}
        Whether a pickle holds the path of the file that the index is mapped from or its content: "auto" takes the path
        if there is one; "disk" and "byte" insist.
    compress_mode : {None, "zlib", "gzip"}
        How the content of a forest is compressed in pickles.
    cells : {"auto", False}
        "auto" searches by cells: `build` and `load` make them where none lie beside the file, unless items are so few
        that scoring every one costs no more, which is done then. False gives the answers of Annoy.

    Notes
    -----
    Methods that change the index hold a lock alone; methods that ask it share it, and run side by side.
    """

    def __init__(
        self,
        f: int | None = None,
        metric: str | None = None,
        *,
        n_neighbors: int = 5,
        on_disk_path: FileName | None = None,
        prefault: bool | None = None,
        seed: int | None = None,
        verbose: int | None = None,
        pickle_mode: PickleMode = "auto",
        compress_mode: CompressMode = None,
        cells: CellsMode = "auto",
    ) -> None:
        parameters = Parameters(
            f=f,
            metric=metric,
            n_neighbors=n_neighbors,
            on_disk_path=cast("str | None", on_disk_path),
            prefault=prefault,
            seed=seed,
            verbose=verbose,
            pickle_mode=pickle_mode,
            compress_mode=compress_mode,
            cells=cells,
        )
        super().__init__(parameters.f or 1, parameters.metric or DEFAULT_METRIC)
        self._lock = SharedLock()
        self._begin(parameters)

    # ---- its state

    def _begin(self, parameters: Parameters) -> None:
        """Hold nothing; of no width, if the parameters do not give it."""
        self._parameters = parameters
        self._width = 0
        self._labels: Labels | None = None
        self._feature_names: tuple[str, ...] | None = None
        if parameters.f is None:
            self._adopt(None)
        else:
            self._hold(self._new_index(parameters.f))

    def _new_index(self, width: int, *, on_disk: bool = False) -> AnnoyIndex:
        """Make an empty index of this one's parameters; `on_disk` creates its file, if it is to have one."""
        fresh = AnnoyIndex(self._parameters.f or width, self.metric)
        if self._parameters.seed is not None:
            fresh.set_seed(self._parameters.seed)
        if on_disk and self._parameters.on_disk_path is not None:
            fresh.on_disk_build(self._parameters.on_disk_path)
        return fresh

    def _adopt(self, other: NativeIndex | None, /) -> None:
        super()._adopt(other)
        if other is not None:
            super()._set_as_annoy(self._parameters.cells is False)

    def _make_cells(self, index: AnnoyIndex, n_jobs: int = -1, cells: CellsMode | None = None) -> None:
        """Give an index that was built or loaded what `cells` says, or else the parameter."""
        if replace(self._parameters, cells=self._parameters.cells if cells is None else cells).cells == "auto":
            make_paying_cells(index, n_jobs)

    def _hold(self, other: AnnoyIndex) -> None:
        self._adopt(other)
        self._width = other.f

    def _to_add_to(self, width: int) -> AnnoyIndex:
        """What takes the next item: a new index, if this one's width or file is still to be settled."""
        settled = self._width and (self._parameters.on_disk_path is None or self._status()["building_file"] is not None)
        if settled or self.is_built or self.get_n_items():
            return self
        return self._new_index(width, on_disk=True)

    def _status(self) -> dict[str, Any]:
        nothing: dict[str, Any] = {"n_items": 0, "n_trees": 0, "n_cells": 0, "n_bytes": 0, "cells_bytes": 0}
        nothing |= {"seed": self._seed(), "is_built": False, "is_loaded": False, "building_file": None, "file": None}
        return self._known_or(super()._status, nothing)

    def _known_or(self, ask: Callable[[], Answer], nothing: Answer) -> Answer:
        """Ask; `nothing` as long as there is no width. Tried and not looked up, as another thread may change that."""
        try:
            return ask()
        except RuntimeError:
            if self.closed:
                raise
            return nothing

    def _seed(self) -> int:
        return _DEFAULT_SEED if self._parameters.seed is None else self._parameters.seed

    def _require_built(self, what: str) -> None:
        if not self.is_built:
            raise RuntimeError(f"You can't {what} an index that hasn't been built: call build() or fit()")

    def _n_neighbors_or(self, n_neighbors: int | None) -> int:
        return (
            self.n_neighbors if n_neighbors is None else replace(self._parameters, n_neighbors=n_neighbors).n_neighbors
        )

    def _item_numbers(self, ids: ArrayLike | None = None, start: int = 0, stop: int | None = None) -> NDArray[np.int64]:
        """Those given; or those of the items that are there, between `start` and `stop`."""
        if ids is not None:
            return item_numbers(ids)
        numbers = np.fromiter(self, np.int64)
        return numbers[(numbers >= start) & (numbers < (self.get_n_items() if stop is None else stop))]

    def _vectors_of(self, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        if not self._width and not len(numbers):
            return np.zeros((0, 0), np.float32)
        return self.get_item_vectors(numbers)

    def _labels_of(self, numbers: NDArray[np.int64], fill_value: Any = None) -> NDArray[Any]:
        return np.full(numbers.shape, fill_value) if self._labels is None else self._labels.take(numbers, fill_value)

    # ---- Annoy's methods, which return the index

    def add_item(self, i: int, vector: Any) -> Self:  # type: ignore[override]  # as true as Annoy's None is not
        """Put a vector under the number ``i``; the first one settles the width. See `AnnoyIndex.add_item`."""
        with self._lock.exclusive():
            target = self._to_add_to(len(vector))
            AnnoyIndex.add_item(target, i, vector)
            if target is not self:
                self._hold(target)
        return self

    add_items = adding.add_items

    def build(  # type: ignore[override]  # as true as True
        self,
        n_trees: int = -1,
        n_jobs: int = -1,
        *,
        memory_limit: int | None = None,
        cells: CellsMode | None = None,
    ) -> Self:
        """Grow the forest, and cells; -1 trees means as many as take as many nodes as the items.

        See `AnnoyIndex.build`; `cells` is the parameter's if not given. With a `memory_limit` no cells are made: they
        lie in memory until they are saved.
        """
        with self._lock.exclusive():
            self._require_width("build")
            super().build(n_trees, n_jobs, memory_limit=memory_limit)
            if memory_limit is None:
                self._make_cells(self, n_jobs, cells)
        return self

    def build_cells(  # type: ignore[override]  # as true as True
        self, n_cells: int | Literal["auto"] = "auto", codes: Literal["auto", 8] | None = "auto", n_jobs: int = -1
    ) -> Self:
        """Give the forest cells, by which searches then go: many times as fast. See `AnnoyIndex.build_cells`."""
        with self._lock.shared():
            self._require_built("make cells of")
            super().build_cells(n_cells, codes, n_jobs)
        return self

    def unbuild(self) -> Self:  # type: ignore[override]  # as true as True
        """Remove the trees, to add items again."""
        with self._lock.exclusive():
            if self._width:
                super().unbuild()
        return self

    def unload(self) -> Self:  # type: ignore[override]  # as true as True
        """Forget items, trees, labels and file; parameters stay."""
        with self._lock.exclusive():
            self._begin(self._parameters)
        return self

    def save(  # type: ignore[override]  # as true as True
        self,
        fn: FileName | WritableFile,
        prefault: bool | None = None,
        *,
        storage_options: Mapping[str, Any] | None = None,
    ) -> Self:
        """Write the index to a file; `prefault` is the parameter's if not given. See `AnnoyIndex.save`."""
        with self._lock.exclusive():
            if not self.is_built:
                raise OSError(errno.EINVAL, "You can't save an index that hasn't been built: call build() or fit()")
            super().save(fn, self._prefault_or(prefault), storage_options=storage_options)
        return self

    def load(  # type: ignore[override]  # as true as True
        self,
        fn: FileName | ReadableFile,
        prefault: bool | None = None,
        *,
        cells: bool | Literal["auto"] | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> Self:
        """Check a file and use it; `prefault` and `cells` are the parameters' if not given. See `AnnoyIndex.load`.

        Raises
        ------
        RuntimeError
            If the width is not known: a plain Annoy file does not tell. Give `f`, or use `load_bundle`.
        """
        with self._lock.exclusive():
            self._require_width("load a file into")
            wanted = self._parameters.cells if cells is None else cells
            super().load(fn, self._prefault_or(prefault), cells=wanted, storage_options=storage_options)
            self._labels = self._feature_names = None
        return self

    def load_bytes(self, data: Buffer, *, name: str = "bytes") -> None:
        """Use a file's bytes, and make cells. See `AnnoyIndex.load_bytes`."""
        with self._lock.exclusive():
            self._require_width("load bytes into")
            super().load_bytes(data, name=name)
            self._make_cells(self)
            self._labels = self._feature_names = None

    def on_disk_build(self, fn: FileName) -> Self:  # type: ignore[override]  # as true as True
        """Build in this file: at once if the width is known, else as soon as it is. See `AnnoyIndex.on_disk_build`."""
        with self._lock.exclusive():
            if self._width:
                super().on_disk_build(fn)
            self._parameters = replace(self._parameters, on_disk_path=cast("str", fn))
        return self

    def set_seed(self, seed: int | None = None, /) -> Self:  # type: ignore[override]  # as true as Annoy's None is not
        """Set the seed of the builds to come; Annoy's own if not given."""
        return self.set_params(seed=seed)

    def verbose(self, v: int, /) -> Self:  # type: ignore[override]  # as true as True
        """Set the level of `set_verbose`, as Annoy's method of this name."""
        return self.set_verbose(v)

    def set_verbose(self, level: int = 1) -> Self:
        """Keep a level between -2 and 2. Nothing is printed: errors are raised."""
        return self.set_params(verbose=clamped_verbosity(level))

    def _prefault_or(self, prefault: bool | None) -> bool:
        return bool(self._parameters.prefault if prefault is None else prefault)

    def _require_width(self, what: str) -> None:
        if not self._width:
            self._status()  # says so if it is closed
            raise RuntimeError(f"You can't {what} an index of no width yet: give f, or add the first item")

    # ---- parameters, as scikit-learn wants them

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: ARG002 (no parameter has parameters)
        """Return the constructor's arguments, the metric by Annoy's name."""
        return asdict(self._parameters)

    def set_params(self, **params: Any) -> Self:
        """Change arguments of the constructor; another metric or width empties the index.

        Raises
        ------
        ValueError
            For an unknown parameter or a value that is not allowed; nothing has changed then.
        """
        unknown = params.keys() - asdict(self._parameters).keys()
        if unknown:
            raise ValueError(f"Index has no parameter {min(unknown)!r}; it has {', '.join(asdict(self._parameters))}")
        with self._lock.exclusive():
            former = self.metric
            parameters = replace(self._parameters, **params)
            refit = (parameters.metric or DEFAULT_METRIC) != former or parameters.f not in (None, self._width)
            if refit:
                self._begin(parameters)
            self._parameters = parameters
            if self._width:
                super().set_seed(self._seed())
                super()._set_as_annoy(parameters.cells is False)
        return self

    @property
    def f(self) -> int:
        """Dimensions of a vector; 0 as long as they are not known."""
        return self._width

    @property
    def metric(self) -> str:
        """Annoy's name of the metric. Setting another one empties the index."""
        return self._parameters.metric or DEFAULT_METRIC

    @metric.setter
    def metric(self, metric: str | None) -> None:
        self.set_params(metric=metric)

    n_neighbors = Parameter[int]("How many neighbours queries answer with, if they do not say.")
    on_disk_path = Parameter[str | None]("The file to build in; of effect for the next first item.")
    prefault = Parameter[bool | None]("Whether files are read into memory when they are mapped.")
    seed = Parameter[int | None]("Seed of the builds to come; None is Annoy's own.")
    random_state = Parameter[int | None]("scikit-learn's name of `seed`.", of="seed")
    pickle_mode = Parameter[PickleMode]("What pickles hold: see the class.")
    compress_mode = Parameter[CompressMode]("How pickles are compressed: see the class.")
    cells = Parameter[CellsMode]("Whether builds and loads to come make cells: see the class.")

    # ---- what it holds

    @property
    def is_built(self) -> bool:
        """Whether there is a forest, built or loaded."""
        return bool(self._status()["is_built"])

    @property
    def is_empty(self) -> bool:
        """Whether there is no item."""
        return self.get_n_items() == 0

    @property
    def y(self) -> NDArray[Any] | None:
        """The labels, in ascending order of the items that have one; None if none were given."""
        return None if self._labels is None else self._labels.values

    @y.setter
    def y(self, y: ArrayLike | None) -> None:
        with self._lock.exclusive():
            self._labels = None if y is None else Labels.of(y, self._item_numbers())

    @property
    def n_features_in_(self) -> int:
        """Dimensions of a vector, once they are known."""
        if not self._width:
            raise AttributeError("n_features_in_ is known once there is a vector or f was given")
        return self._width

    n_features = n_features_ = n_features_in_

    @property
    def n_features_out_(self) -> int:
        """Columns of `transform`."""
        return self.n_neighbors

    @property
    def feature_names_in_(self) -> NDArray[Any]:
        """Names of the dimensions, if there are any."""
        if self._feature_names is None:
            raise AttributeError("feature_names_in_ is known once rows came with names, or fit() was given some")
        return np.array(self._feature_names, dtype=object)

    def get_n_items(self) -> int:
        """Highest item number + 1."""
        return self._known_or(super().get_n_items, 0)

    def get_n_cells(self) -> int:
        """Number of cells; 0 without any."""
        return int(self._status()["n_cells"])

    def get_n_trees(self) -> int:
        """Number of trees."""
        return self._known_or(super().get_n_trees, 0)

    def __len__(self) -> int:
        return self.get_n_items()

    def __bool__(self) -> bool:
        return True  # as Annoy's True that its methods return, however many items there are

    def __contains__(self, i: object, /) -> bool:
        return self._known_or(lambda: super(Index, self).__contains__(i), False)

    def __iter__(self) -> Iterator[int]:
        return self._known_or(super().__iter__, iter(()))

    def close(self) -> None:
        """Let go of items, trees and file, for good; the end of a ``with`` statement does so, too."""
        with self._lock.exclusive():
            super().close()

    def __exit__(self, *args: object) -> None:
        self.close()

    def __getitem__(self, key: int | slice) -> NDArray[np.float32]:
        """``index[i]`` is an item's vector, ``index[i:j]`` those of the items with these numbers; zeros for holes."""
        if isinstance(key, slice):
            with self._lock.shared():
                return self._vectors_of(np.arange(self.get_n_items(), dtype=np.int64)[key])
        self._require_width("take a vector from")
        return cast("NDArray[np.float32]", self.get_item_vectors([key])[0])

    # ---- parts

    info = information.info
    memory_usage = information.memory_usage
    repr_info = information.repr_info
    __repr__ = information.repr_info

    query_by_item = neighbors.query_by_item
    query_by_vector = neighbors.query_by_vector
    query_vectors_by_item = neighbors.query_vectors_by_item
    query_vectors_by_vector = neighbors.query_vectors_by_vector
    kneighbors = neighbors.kneighbors
    kneighbors_graph = neighbors.kneighbors_graph

    fit = estimator.fit
    transform = estimator.transform
    fit_transform = estimator.fit_transform
    get_feature_names_out = estimator.get_feature_names_out
    get_metadata_routing = estimator.get_metadata_routing
    build_metadata_router = estimator.build_metadata_router
    __sklearn_tags__ = estimator.sklearn_tags

    def __sklearn_is_fitted__(self) -> bool:
        return self.is_built

    def __sklearn_clone__(self) -> Self:
        return self.clone()

    clone = copies.clone
    rebuild = copies.rebuild
    from_low_level = classmethod(copies.from_low_level)
    __copy__ = copies.copied
    __deepcopy__ = copies.copied
    __getstate__ = pickles.get_state
    __setstate__ = pickles.set_state

    to_numpy = exports.to_numpy
    iter_item_vectors = exports.iter_item_vectors
    to_scipy_csr = exports.to_scipy_csr
    to_pandas = exports.to_pandas

    save_index = bundle.save_index
    load_index = classmethod(bundle.load_index)
    save_bundle = bundle.save_bundle
    load_bundle = classmethod(bundle.load_bundle)
    to_metadata = metadata.to_metadata
    to_json = metadata.to_json
    to_yaml = metadata.to_yaml
    from_metadata = classmethod(metadata.from_metadata)
    from_json = classmethod(metadata.from_json)
    from_yaml = classmethod(metadata.from_yaml)

    plot_index = plotting.plot_index
    plot_knn_edges = plotting.plot_knn_edges

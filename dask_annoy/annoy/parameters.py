"""What an `Index` was told, as opposed to what it holds; checked when it is told."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeVar, get_args, overload

from dask_annoy.annoy.metrics import canonical_metric

if TYPE_CHECKING:
    from dask_annoy.annoy.index import Index

__all__ = ["CellsMode", "CompressMode", "Parameter", "Parameters", "PickleMode", "clamped_verbosity"]

PickleMode = Literal["auto", "disk", "byte"]
CompressMode = Literal["zlib", "gzip"] | None
CellsMode = Literal["auto", False]

_COMPRESS_MODES: Final = (None, "zlib", "gzip")


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """The constructor's arguments; `metric` in Annoy's spelling, `on_disk_path` a str. See `Index`."""

    f: int | None = None
    metric: str | None = None
    n_neighbors: int = 5
    on_disk_path: str | None = None
    prefault: bool | None = None
    seed: int | None = None
    verbose: int | None = None
    pickle_mode: PickleMode = "auto"
    compress_mode: CompressMode = None
    cells: CellsMode = "auto"

    def __post_init__(self) -> None:
        f = None if self.f is None else _integer("f", self.f, 0)
        self._set("f", f or None)  # Annoy's own way to say "not known" is 0
        if self.metric is not None:
            self._set("metric", canonical_metric(self.metric))
        self._set("n_neighbors", _integer("n_neighbors", self.n_neighbors, 1))
        if self.on_disk_path is not None:
            self._set("on_disk_path", os.fsdecode(self.on_disk_path))
        if self.prefault is not None:
            self._set("prefault", bool(self.prefault))
        if self.seed is not None:
            seed = _integer("seed", self.seed, -(2**63))
            if seed >= 2**63:
                raise ValueError(f"seed must be below 2**63, got {seed}")
            self._set("seed", seed)
        if self.verbose is not None:
            self._set("verbose", clamped_verbosity(self.verbose))
        if self.pickle_mode not in get_args(PickleMode):
            raise ValueError(f"pickle_mode must be 'auto', 'disk' or 'byte', got {self.pickle_mode!r}")
        if self.compress_mode not in _COMPRESS_MODES:
            raise ValueError(f"compress_mode must be None, 'zlib' or 'gzip', got {self.compress_mode!r}")
        if self.cells != "auto" and self.cells is not False:
            raise ValueError(f"cells must be 'auto' or False, got {self.cells!r}: build_cells() makes a given number")

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)  # the way that frozen dataclasses leave for __post_init__


def clamped_verbosity(level: int) -> int:
    """The nearest of the levels -2 … 2."""
    return max(-2, min(2, int(level)))


def _integer(name: str, value: object, least: int) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    number = int(value.__index__())
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}")
    return number


T = TypeVar("T")


class Parameter(Generic[T]):
    """An attribute of `Index` that is a parameter of the same name, or `of` another one: setting it is `set_params`."""

    def __init__(self, doc: str, of: str = "") -> None:
        self.__doc__ = doc
        self._name = of

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = self._name or name

    @overload
    def __get__(self, index: None, owner: type) -> Parameter[T]: ...
    @overload
    def __get__(self, index: Index, owner: type) -> T: ...
    def __get__(self, index: Index | None, owner: type) -> T | Parameter[T]:
        if index is None:
            return self
        value: T = getattr(index._parameters, self._name)
        return value

    def __set__(self, index: Index, value: Any) -> None:  # what set_params takes, as path objects
        index.set_params(**{self._name: value})

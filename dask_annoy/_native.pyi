"""Types of the native module; ``stubtest`` checks them against what was built."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, Self, TypeAlias, final, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import Buffer

_SearchMethod: TypeAlias = Literal["auto", "exact", "trees", "leaves", "cells"]

def available_kernels() -> list[str]: ...
def active_kernels() -> str: ...
def use_kernels(name: str) -> None: ...
def thread_count(n_jobs: int = -1) -> int: ...
def set_stop_check(check: Callable[[], bool] | None) -> None: ...
def metric_names() -> list[str]: ...
def larger_is_better(metric: str) -> bool: ...
def node_size(metric: str, width: int) -> int: ...
def list_capacity(metric: str, width: int) -> int: ...
def estimate_cells(n_items: int, width: int, metric: str) -> int: ...
def cells_pay(n_items: int, width: int, metric: str) -> bool: ...
def estimate_build(
    n_items: int,
    width: int,
    metric: str,
    n_trees: int,
    *,
    n_jobs: int = -1,
    on_disk: bool = False,
    memory_limit: int | None = None,
    resident: int | None = None,
) -> tuple[int, int, int, int]: ...
def merge_rows(
    distances: NDArray[np.float32], keys: NDArray[np.int64], k: int, larger_is_better: bool = False
) -> NDArray[np.int32]: ...
def digest_rows(rows: NDArray[Any], first: int = 0) -> int: ...

@final
class ExactSearch:
    def __init__(self, queries: ArrayLike, metric: str, width: int, k: int, *, packed: bool = False) -> None: ...
    def add(self, rows: ArrayLike, first: int, *, packed: bool = False, n_jobs: int = -1) -> None: ...
    def answers(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]: ...

class AnnoyIndex:
    def __init__(self, f: int, metric: str | None = None) -> None: ...
    @property
    def f(self) -> int: ...
    @property
    def metric(self) -> str: ...
    def add_item(self, i: int, vector: Sequence[float] | NDArray[Any]) -> None: ...
    def add_items(self, X: ArrayLike, ids: ArrayLike | None = None, *, packed: bool = False) -> NDArray[np.int64]: ...
    def build(self, n_trees: int, n_jobs: int = -1, *, memory_limit: int | None = None) -> bool: ...
    def build_cells(
        self,
        n_cells: int | Literal["auto"] = "auto",
        codes: Literal["auto", 8, 4] | None = "auto",
        n_jobs: int = -1,
        *,
        batch_size: int | None = None,
        memory_limit: int | None = None,
    ) -> bool: ...
    def _order_by_cells(
        self,
        working_bytes: int,
        *,
        n_cells: int | Literal["auto"] = "auto",
        codes: Literal["auto", 8, 4] | None = "auto",
        scratch_beside: str = "",
        n_jobs: int = -1,
    ) -> NDArray[np.int32]: ...
    def _build_within(self, n_trees: int, working_bytes: int, n_jobs: int = -1) -> None: ...
    def unbuild(self) -> bool: ...
    def save(self, fn: str, prefault: bool = False) -> bool: ...
    def load(self, fn: str, prefault: bool = False, *, cells: bool = False) -> bool: ...
    def unload(self) -> bool: ...
    def close(self) -> None: ...
    @property
    def closed(self) -> bool: ...
    def on_disk_build(self, fn: str) -> bool: ...
    @overload
    def get_nns_by_item(
        self,
        i: int,
        n: int,
        search_k: int = -1,
        include_distances: Literal[False] = False,
        *,
        include: ArrayLike | None = None,
        exclude: ArrayLike | None = None,
        method: _SearchMethod = "auto",
    ) -> list[int]: ...
    @overload
    def get_nns_by_item(
        self,
        i: int,
        n: int,
        search_k: int,
        include_distances: Literal[True],
        *,
        include: ArrayLike | None = None,
        exclude: ArrayLike | None = None,
        method: _SearchMethod = "auto",
    ) -> tuple[list[int], list[float]]: ...
    @overload
    def get_nns_by_item(
        self,
        i: int,
        n: int,
        search_k: int = -1,
        *,
        include_distances: Literal[True],
        include: ArrayLike | None = None,
        exclude: ArrayLike | None = None,
        method: _SearchMethod = "auto",
    ) -> tuple[list[int], list[float]]: ...
    @overload
    def get_nns_by_vector(
        self,
        vector: Sequence[float] | NDArray[Any],
        n: int,
        search_k: int = -1,
        include_distances: Literal[False] = False,
        *,
        include: ArrayLike | None = None,
        exclude: ArrayLike | None = None,
        method: _SearchMethod = "auto",
    ) -> list[int]: ...
    @overload
    def get_nns_by_vector(
        self,
        vector: Sequence[float] | NDArray[Any],
        n: int,
        search_k: int,
        include_distances: Literal[True],
        *,
        include: ArrayLike | None = None,
        exclude: ArrayLike | None = None,
        method: _SearchMethod = "auto",
    ) -> tuple[list[int], list[float]]: ...
    @overload
    def get_nns_by_vector(
        self,
        vector: Sequence[float] | NDArray[Any],
        n: int,
        search_k: int = -1,
        *,
        include_distances: Literal[True],
        include: ArrayLike | None = None,
        exclude: ArrayLike | None = None,
        method: _SearchMethod = "auto",
    ) -> tuple[list[int], list[float]]: ...
    @overload
    def get_nns_by_vectors(
        self,
        X: ArrayLike,
        n: int,
        search_k: int = -1,
        include_distances: Literal[False] = False,
        n_jobs: int = -1,
        *,
        packed: bool = False,
        include: ArrayLike | None = None,
        exclude: ArrayLike | None = None,
        method: _SearchMethod = "auto",
    ) -> NDArray[np.int64]: ...
    @overload
    def get_nns_by_vectors(
        self,
        X: ArrayLike,
        n: int,
        search_k: int,
        include_distances: Literal[True],
        n_jobs: int = -1,
        *,
        packed: bool = False,
        include: ArrayLike | None = None,
        exclude: ArrayLike | None = None,
        method: _SearchMethod = "auto",
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]: ...
    @overload
    def get_nns_by_vectors(
        self,
        X: ArrayLike,
        n: int,
        search_k: int = -1,
        *,
        include_distances: Literal[True],
        n_jobs: int = -1,
        packed: bool = False,
        include: ArrayLike | None = None,
        exclude: ArrayLike | None = None,
        method: _SearchMethod = "auto",
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]: ...
    @overload
    def get_nns_by_items(
        self,
        ids: ArrayLike,
        n: int,
        search_k: int = -1,
        include_distances: Literal[False] = False,
        n_jobs: int = -1,
        *,
        include: ArrayLike | None = None,
        exclude: ArrayLike | None = None,
        method: _SearchMethod = "auto",
    ) -> NDArray[np.int64]: ...
    @overload
    def get_nns_by_items(
        self,
        ids: ArrayLike,
        n: int,
        search_k: int,
        include_distances: Literal[True],
        n_jobs: int = -1,
        *,
        include: ArrayLike | None = None,
        exclude: ArrayLike | None = None,
        method: _SearchMethod = "auto",
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]: ...
    @overload
    def get_nns_by_items(
        self,
        ids: ArrayLike,
        n: int,
        search_k: int = -1,
        *,
        include_distances: Literal[True],
        n_jobs: int = -1,
        include: ArrayLike | None = None,
        exclude: ArrayLike | None = None,
        method: _SearchMethod = "auto",
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]: ...
    @overload
    def get_nns_within_by_vector(
        self,
        vector: Sequence[float] | NDArray[Any],
        radius: float,
        limit: int = -1,
        search_k: int = -1,
        include_distances: Literal[False] = False,
        *,
        include: ArrayLike | None = None,
        exclude: ArrayLike | None = None,
    ) -> list[int]: ...
    @overload
    def get_nns_within_by_vector(
        self,
        vector: Sequence[float] | NDArray[Any],
        radius: float,
        limit: int,
        search_k: int,
        include_distances: Literal[True],
        *,
        include: ArrayLike | None = None,
        exclude: ArrayLike | None = None,
    ) -> tuple[list[int], list[float]]: ...
    @overload
    def get_nns_within_by_vector(
        self,
        vector: Sequence[float] | NDArray[Any],
        radius: float,
        limit: int = -1,
        search_k: int = -1,
        *,
        include_distances: Literal[True],
        include: ArrayLike | None = None,
        exclude: ArrayLike | None = None,
    ) -> tuple[list[int], list[float]]: ...
    @overload
    def get_nns_within_by_item(
        self,
        i: int,
        radius: float,
        limit: int = -1,
        search_k: int = -1,
        include_distances: Literal[False] = False,
        *,
        include: ArrayLike | None = None,
        exclude: ArrayLike | None = None,
    ) -> list[int]: ...
    @overload
    def get_nns_within_by_item(
        self,
        i: int,
        radius: float,
        limit: int,
        search_k: int,
        include_distances: Literal[True],
        *,
        include: ArrayLike | None = None,
        exclude: ArrayLike | None = None,
    ) -> tuple[list[int], list[float]]: ...
    @overload
    def get_nns_within_by_item(
        self,
        i: int,
        radius: float,
        limit: int = -1,
        search_k: int = -1,
        *,
        include_distances: Literal[True],
        include: ArrayLike | None = None,
        exclude: ArrayLike | None = None,
    ) -> tuple[list[int], list[float]]: ...
    def _plan_search(
        self,
        n_queries: int,
        n: int,
        search_k: int = -1,
        n_jobs: int = -1,
        *,
        include: ArrayLike | None = None,
        exclude: ArrayLike | None = None,
        method: _SearchMethod = "auto",
    ) -> dict[str, Any]: ...
    def _set_as_annoy(self, as_annoy: bool, /) -> None: ...
    def budgets_to_find(
        self, X: ArrayLike, targets: NDArray[np.int64], n_jobs: int = -1, *, packed: bool = False
    ) -> NDArray[np.int64]: ...
    def to_bytes(self) -> bytes: ...
    @staticmethod
    def from_bytes(f: int, metric: str, data: Buffer) -> AnnoyIndex: ...
    def load_bytes(self, data: Buffer, *, name: str = "bytes") -> None: ...
    def _cells_to_bytes(self) -> bytes: ...
    def _open_cells(self, fn: str, prefault: bool = False) -> None: ...
    def _has_cells_at(self, fn: str) -> bool: ...
    def _release_pages(self) -> None: ...
    def _load_cells(self, data: Buffer, *, name: str = "bytes") -> None: ...
    def _status(self) -> dict[str, Any]: ...
    @overload
    def get_item_vectors(
        self, ids: ArrayLike | None = None, *, packed: Literal[False] = False
    ) -> NDArray[np.float32]: ...
    @overload
    def get_item_vectors(self, ids: ArrayLike | None = None, *, packed: Literal[True]) -> NDArray[np.uint8]: ...
    def __len__(self) -> int: ...
    def __contains__(self, i: object, /) -> bool: ...
    def __iter__(self) -> Iterator[int]: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *args: object) -> None: ...
    def get_item_vector(self, i: int, /) -> list[float]: ...
    def get_distance(self, i: int, j: int, /) -> float: ...
    def get_n_items(self) -> int: ...
    def get_n_trees(self) -> int: ...
    def get_n_cells(self) -> int: ...
    def verbose(self, v: bool, /) -> bool: ...
    def set_seed(self, seed: int, /) -> None: ...
    def _adopt(self, other: AnnoyIndex | None, /) -> None: ...

"""Remote Zarr stores whose requests end. Needs zarr: imported only where an array is opened."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from zarr.storage import WrapperStore

from dask_annoy.vectors.patience import within_patience

__all__ = ["PatientStore"]


class PatientStore(WrapperStore):  # type: ignore[misc] # zarr is an extra: not there for the types
    """A store that is read as patiently as other remote files, and no longer: see `dask_annoy.vectors.patience`.

    Parameters
    ----------
    store : zarr.abc.store.Store
    name : str
        What messages call the array.
    """

    def __init__(self, store: Any, name: str) -> None:
        super().__init__(store)
        self._name = name
        self._largest = 0

    def expect_objects_of(self, largest: int) -> None:
        """Give requests the time that so many bytes take."""
        self._largest = largest

    def _with_store(self, store: Any) -> PatientStore:
        made = PatientStore(store, self._name)
        made.expect_objects_of(self._largest)
        return made

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        """Read an object, or a part of it; None if there is none."""
        return await self._patiently(super().get(key, prototype, byte_range), key)

    async def get_partial_values(self, prototype: Any, key_ranges: Any) -> Any:
        """Read parts of objects."""
        wanted = list(key_ranges)
        found = super().get_partial_values(prototype, wanted)
        return await within_patience(found, where=self._name, transferred=self._largest * len(wanted))

    async def exists(self, key: str) -> Any:
        """Whether there is such an object."""
        return await self._patiently(super().exists(key), key)

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield the names in a folder."""
        listed = super().list_dir(prefix)

        async def names() -> list[str]:
            return [name async for name in listed]

        for name in await self._patiently(names(), prefix):
            yield name

    async def _patiently(self, answer: Any, key: str) -> Any:
        return await within_patience(answer, where=f"{self._name}/{key}", transferred=self._largest)

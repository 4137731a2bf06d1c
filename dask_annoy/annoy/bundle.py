"""A bundle: a plain Annoy file in a folder, with a manifest that says what the file cannot, and checks it."""

from __future__ import annotations

import importlib.metadata
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from dask_annoy.annoy.labels import Labels
from dask_annoy.annoy.metadata import FeatureNames, MetricName, Seed, write_text
from dask_annoy.errors import CorruptIndexError
from dask_annoy.storage.checksum import check_file, sha256_of
from dask_annoy.storage.document import Document, parse_versioned
from dask_annoy.storage.local_files import ensure_directory, staged
from dask_annoy.storage.manifest import FileEntry

if TYPE_CHECKING:
    from dask_annoy.annoy.index import Index

__all__ = ["BUNDLE_VERSION", "BundleManifest", "load_bundle", "load_index", "save_bundle", "save_index"]

AnyIndex = TypeVar("AnyIndex", bound="Index")

#: The newest format that this release reads, and the one that it writes.
BUNDLE_VERSION: Final = 1
_MAX_BYTES: Final = 32 * 2**20
#: A name in a folder of any operating system, of which nothing moves a terminal's cursor.
_NAME: Final = r"^[^/\\\x00-\x1f]{1,255}$"
_LABELS: Final = "labels.npy"
_LABEL_IDS: Final = "label_ids.npy"


class BundleFile(Document):
    """A file beside the manifest: its name there, its size and its SHA-256 in hexadecimal."""

    name: Annotated[str, Field(pattern=_NAME)]
    bytes: Annotated[int, Field(ge=0, lt=2**63)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class BundleManifest(Document):
    """What a bundle holds. `labels` are those of `label_ids`, or of all items in ascending order without these."""

    format_version: Annotated[int, Field(ge=1, le=BUNDLE_VERSION)] = BUNDLE_VERSION
    library: Annotated[str, Field(max_length=128)]
    metric: MetricName
    f: Annotated[int, Field(ge=1, lt=2**31)]
    n_items: Annotated[int, Field(ge=0, lt=2**31)]
    n_trees: Annotated[int, Field(ge=0, lt=2**31)]
    seed: Seed | None
    n_neighbors: Annotated[int, Field(ge=1)]
    feature_names: FeatureNames | None
    index: BundleFile
    cells: BundleFile | None = None
    labels: BundleFile | None
    label_ids: BundleFile | None


def save_index(self: AnyIndex, path: str | os.PathLike[str], *, prefault: bool | None = None) -> AnyIndex:
    """Write a plain Annoy file as `save` does, and the folders to it."""
    ensure_directory(Path(path).absolute().parent)
    return self.save(path, prefault)


def load_index(
    cls: type[Index], f: int, metric: str, path: str | os.PathLike[str], *, prefault: bool | None = None
) -> Index:
    """Return an index of a plain Annoy file."""
    return cls(f, metric, prefault=prefault).load(path)


def save_bundle(
    self: Index,
    directory: str | os.PathLike[str],
    manifest_filename: str = "manifest.json",
    index_filename: str = "index.ann",
    *,
    prefault: bool | None = None,
) -> tuple[Path, Path]:
    """Write index, labels and manifest to a folder; as after `save`, the index goes on from the file.

    The manifest comes last. Of a bundle that was there before, whoever reads it in between is told so by the checksums.

    Parameters
    ----------
    directory : str or os.PathLike
        Created if it is missing.
    manifest_filename, index_filename : str
        Names in the folder.
    prefault : bool, optional
        As in `save`.

    Returns
    -------
    manifest, index : pathlib.Path

    Raises
    ------
    OSError
        If the index is not built, or a file cannot be written.
    ValueError
        For names that leave the folder, or two that are the same.
    """
    folder = Path(directory).absolute()
    names = [_inside(name) for name in (manifest_filename, index_filename)]
    if len({*names, _LABELS, _LABEL_IDS}) != 4:
        raise ValueError(
            f"a bundle's files need names of their own, also beside {_LABELS} and {_LABEL_IDS}: got {names}"
        )
    with self._lock.exclusive():
        self.save_index(folder / index_filename, prefault=prefault)
        labels = label_ids = None
        if self._labels is not None:
            labels = _write_array(folder / _LABELS, _without_objects(self._labels.values))
            if not np.array_equal(self._labels.ids, self._item_numbers()):
                label_ids = _write_array(folder / _LABEL_IDS, self._labels.ids)
        manifest = BundleManifest(
            library=f"dask-annoy {importlib.metadata.version('dask-annoy')}",
            metric=self.metric,
            f=self.f,
            n_items=self.get_n_items(),
            n_trees=self.get_n_trees(),
            seed=self.seed,
            n_neighbors=self.n_neighbors,
            feature_names=self._feature_names,
            index=_entry(folder / index_filename),
            cells=_entry(folder / f"{index_filename}.cells") if self.get_n_cells() else None,
            labels=labels,
            label_ids=label_ids,
        )
        write_text(folder / manifest_filename, manifest.model_dump_json(indent=2) + "\n")
    return folder / manifest_filename, folder / index_filename


def load_bundle(
    cls: type[Index],
    directory: str | os.PathLike[str],
    manifest_filename: str = "manifest.json",
    index_filename: str | None = None,
    *,
    prefault: bool | None = None,
) -> Index:
    """Return the index of a bundle, each of its files checked by size and SHA-256.

    Parameters
    ----------
    directory : str or os.PathLike
    manifest_filename : str
        Name in the folder.
    index_filename : str, optional
        Name in the folder of the index, if it was renamed since; the manifest's if not given.
    prefault : bool, optional
        The index's parameter.

    Raises
    ------
    CorruptIndexError
        (an OSError and a ValueError) if the manifest is not valid, or a file is not the one that it describes.
    FormatVersionError
        If the bundle was written by a newer release.
    FileNotFoundError
        If a file is missing.
    """
    folder = Path(directory).absolute()
    path = folder / _inside(manifest_filename)
    with path.open("rb") as file:
        payload = file.read(_MAX_BYTES + 1)
    manifest = parse_versioned(
        BundleManifest, payload, where=str(path), what="manifest", newest=BUNDLE_VERSION, max_bytes=_MAX_BYTES
    )
    index = cls(manifest.f, manifest.metric, n_neighbors=manifest.n_neighbors, seed=manifest.seed, prefault=prefault)
    path_of_index = _checked(folder, manifest.index, index_filename)
    if manifest.cells is not None:
        _checked(folder, manifest.cells, None if index_filename is None else f"{index_filename}.cells")
    index.load(path_of_index, cells=True if manifest.cells is not None else None)
    found = index.get_n_items(), index.get_n_trees()
    if found != (manifest.n_items, manifest.n_trees):
        raise CorruptIndexError(
            f"{path} says {manifest.n_items} items and {manifest.n_trees} trees, but its index holds {found[0]} and "
            f"{found[1]}: the manifest was changed; save the bundle again"
        )
    if manifest.feature_names is not None and len(manifest.feature_names) != manifest.f:
        raise CorruptIndexError(f"{path} names {len(manifest.feature_names)} features of {manifest.f}")
    index._feature_names = manifest.feature_names
    if manifest.labels is not None:
        ids = index._item_numbers()
        if manifest.label_ids is not None:
            ids = _read_array(_checked(folder, manifest.label_ids))
        index._labels = _labels_of(_read_array(_checked(folder, manifest.labels)), ids, str(path))
    return index


def _inside(name: str) -> str:
    if not isinstance(name, str) or name in (".", "..") or not re.fullmatch(_NAME, name):
        raise ValueError(f"{name!r} is no name in the bundle's folder: a bundle's files lie beside its manifest")
    return name


def _checked(folder: Path, entry: BundleFile, name: str | None = None) -> Path:
    if entry.name in (".", ".."):
        raise CorruptIndexError(f"the manifest in {folder} names {entry.name!r} as a file")
    path = folder / (entry.name if name is None else _inside(name))
    check_file(path, FileEntry(name="file", bytes=entry.bytes, sha256=entry.sha256), where=str(path))
    return path


def _entry(path: Path) -> BundleFile:
    return BundleFile(name=path.name, bytes=path.stat().st_size, sha256=sha256_of(path))


def _write_array(path: Path, array: NDArray[Any]) -> BundleFile:
    def fill(file: BinaryIO) -> None:
        np.save(file, array, allow_pickle=False)

    with staged(path, fill) as temporary:
        temporary.replace(path)
    return _entry(path)


def _read_array(path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, allow_pickle=False)
    except ValueError as error:
        raise CorruptIndexError(f"{path} is no array of labels: {error}") from None
    return array


def _without_objects(labels: NDArray[Any]) -> NDArray[Any]:
    """Strings in an array of objects become an array of strings; nothing is pickled."""
    plain = np.array(labels.tolist()) if labels.dtype == object else labels
    if plain.dtype.hasobject:
        raise TypeError("labels that are neither numbers nor strings cannot be saved: give y as such, or set y to None")
    return plain


def _labels_of(values: NDArray[Any], ids: NDArray[Any], where: str) -> Labels:
    if ids.dtype != np.int64 or ids.ndim != 1:
        raise CorruptIndexError(f"{where} is of labels for items {ids.dtype} {ids.shape}, and not int64 numbers")
    try:
        return Labels.of(values, ids)
    except ValueError as error:
        raise CorruptIndexError(f"{where} does not fit its labels: {error}") from None

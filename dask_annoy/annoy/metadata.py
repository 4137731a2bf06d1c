"""What an `Index` is, without its vectors: as a dictionary, JSON and YAML, and back."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import yaml
from pydantic import AfterValidator, Field

from dask_annoy._native import metric_names
from dask_annoy.annoy.parameters import PickleMode
from dask_annoy.errors import CorruptIndexError
from dask_annoy.storage.document import Document, parse_versioned
from dask_annoy.storage.local_files import staged

if TYPE_CHECKING:
    from dask_annoy.annoy.index import Index

__all__ = [
    "METADATA_VERSION",
    "FeatureNames",
    "IndexMetadata",
    "MetricName",
    "Seed",
    "from_json",
    "from_metadata",
    "from_yaml",
    "to_json",
    "to_metadata",
    "to_yaml",
    "write_text",
]

#: The newest schema that this release reads, and the one that it writes.
METADATA_VERSION: Final = 1
_MAX_BYTES: Final = 32 * 2**20


def _known_metric(name: str) -> str:
    if name not in metric_names():
        raise ValueError(f"no such metric: {name!r}; known are {', '.join(map(repr, metric_names()))}")
    return name


MetricName = Annotated[str, AfterValidator(_known_metric)]
FeatureNames = tuple[str, ...]
Width = Annotated[int, Field(ge=1, lt=2**31)]
Number = Annotated[int, Field(ge=0, lt=2**63)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]


class ParameterValues(Document):
    """The constructor's arguments: see `Index`."""

    f: Width | None = None
    metric: MetricName | None = None
    n_neighbors: Annotated[int, Field(ge=1)] = 5
    on_disk_path: str | None = None
    prefault: bool | None = None
    seed: Seed | None = None
    verbose: Annotated[int, Field(ge=-2, le=2)] | None = None
    pickle_mode: PickleMode = "auto"
    compress_mode: Literal["zlib", "gzip"] | None = None
    cells: Literal["auto", False] = "auto"


class Persistence(Document):
    """The file that holds the forest, and what must be found in it."""

    path: str
    f: Width
    metric: MetricName
    n_items: Number
    n_trees: Number


class IndexMetadata(Document):
    """What is known of an index. `info` is for people; nothing is decided by it."""

    index_schema_version: Annotated[int, Field(ge=1, le=METADATA_VERSION)] = METADATA_VERSION
    params: ParameterValues
    info: dict[str, Any] | None = None
    feature_names: FeatureNames | None = None
    persistence: Persistence | None = None


def to_metadata(self: Index, *, include_info: bool = True) -> dict[str, Any]:
    """Return what the index is, as a dictionary that JSON can hold.

    Parameters
    ----------
    include_info : bool
        Whether to put the figures of `info` in.

    Returns
    -------
    dict
        ``index_schema_version``, ``params`` (as of `get_params`), ``info``, ``feature_names``, and ``persistence``:
        path, width, metric and size of the forest's file, or None if it is in no local file.
    """
    with self._lock.shared():
        status = self._status()
        path = status["file"][0] if status["file"] else status["building_file"] if status["is_built"] else None
        metadata = IndexMetadata(
            params=ParameterValues(**self.get_params()),
            info=dict(self.info()) if include_info else None,
            feature_names=self._feature_names,
            persistence=None
            if path is None
            else Persistence(
                path=path,
                f=self.f,
                metric=self.metric,
                n_items=self.get_n_items(),
                n_trees=self.get_n_trees(),
            ),
        )
    described: dict[str, Any] = metadata.model_dump(mode="json")
    return described


def from_metadata(cls: type[Index], metadata: Mapping[str, Any], *, load: bool = True) -> Index:
    """Return an index of what `to_metadata` told.

    Parameters
    ----------
    metadata : mapping
        It names files: the one to load, and with ``on_disk_path`` one to write, later. Take it from people you trust,
        or use a bundle, whose manifest cannot name files outside of its folder.
    load : bool
        Load the forest, where the metadata name its file; otherwise the index is empty.

    Raises
    ------
    CorruptIndexError
        If the metadata are not valid, or the file holds another forest.
    FormatVersionError
        If they were written by a newer release.
    FileNotFoundError
        If the file is not there.
    """
    try:
        payload = json.dumps(dict(metadata)).encode()
    except (TypeError, ValueError) as error:
        raise CorruptIndexError(f"the metadata hold what JSON does not know: {error}") from None
    return _from_payload(cls, payload, "the dictionary", load)


def to_json(
    self: Index,
    path: str | os.PathLike[str] | None = None,
    *,
    indent: int | None = 2,
    sort_keys: bool = True,
    ensure_ascii: bool = False,
    include_info: bool = True,
) -> str:
    """Return `to_metadata` as JSON.

    Parameters
    ----------
    path : str or os.PathLike, optional
        A file to write it to as well, whole or not at all.
    indent, sort_keys, ensure_ascii
        As for `json.dumps`.
    include_info : bool
        Whether to put the figures of `info` in.
    """
    text = json.dumps(
        self.to_metadata(include_info=include_info), indent=indent, sort_keys=sort_keys, ensure_ascii=ensure_ascii
    )
    if path is not None:
        write_text(Path(path), text + "\n")
    return text


def from_json(cls: type[Index], path: str | os.PathLike[str], *, load: bool = True) -> Index:
    """Return an index of a file that `to_json` wrote: see `from_metadata`."""
    return _from_payload(cls, _read(Path(path)), str(path), load)


def to_yaml(
    self: Index,
    path: str | os.PathLike[str] | None = None,
    *,
    sort_keys: bool = True,
    include_info: bool = True,
) -> str:
    """Return `to_metadata` as YAML.

    Parameters
    ----------
    path : str or os.PathLike, optional
        A file to write it to as well, whole or not at all.
    sort_keys : bool
    include_info : bool
        Whether to put the figures of `info` in.
    """
    text: str = yaml.safe_dump(
        self.to_metadata(include_info=include_info), sort_keys=sort_keys, allow_unicode=True, width=120
    )
    if path is not None:
        write_text(Path(path), text)
    return text


def from_yaml(cls: type[Index], path: str | os.PathLike[str], *, load: bool = True) -> Index:
    """Return an index of a file that `to_yaml` wrote: see `from_metadata`."""
    try:
        metadata = yaml.load(_read(Path(path)), Loader=_PlainLoader)
    except (yaml.YAMLError, RecursionError, UnicodeDecodeError, ValueError) as error:
        raise CorruptIndexError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(metadata, dict):
        raise CorruptIndexError(f"{path} holds {type(metadata).__name__} and not the metadata of an index")
    return from_metadata(cls, metadata, load=load)


class _PlainLoader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML is untyped
    """Reads what `to_yaml` writes: no aliases, with which a few bytes can stand for gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has aliases, which metadata never need")
        return super().compose_node(parent, index)


def write_text(path: Path, text: str) -> None:
    """Write a file, whole or not at all."""
    with staged(path, lambda file: file.write(text.encode())) as temporary:
        temporary.replace(path)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_MAX_BYTES + 1)


def _from_payload(cls: type[Index], payload: bytes, where: str, load: bool) -> Index:
    metadata = parse_versioned(
        IndexMetadata,
        payload,
        where=where,
        what="description of an index",
        newest=METADATA_VERSION,
        max_bytes=_MAX_BYTES,
        version_field="index_schema_version",
    )
    index = cls(**metadata.params.model_dump())
    stored = metadata.persistence
    if load and stored is not None:
        if (metadata.params.metric or index.metric, metadata.params.f or stored.f) != (stored.metric, stored.f):
            raise CorruptIndexError(f"{where} contradicts itself: parameters and file are of different indexes")
        index._hold(index._new_index(stored.f))
        index.load(stored.path)
        found = index.get_n_items(), index.get_n_trees()
        if found != (stored.n_items, stored.n_trees):
            raise CorruptIndexError(
                f"{stored.path} holds {found[0]} items and {found[1]} trees, but {where} says {stored.n_items} and "
                f"{stored.n_trees}: it is the file of another index"
            )
    index._feature_names = metadata.feature_names
    return index

"""The files behind a folder or a glob pattern, in an order that people expect."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any

from dask_annoy.errors import DaskAnnoyError, InvalidVectorsError
from dask_annoy.vectors.filesystem import open_filesystem, public_url
from dask_annoy.vectors.patience import ask

__all__ = ["has_pattern", "is_folder", "list_files"]

_MAGIC = re.compile(r"[*?\[]")


def has_pattern(url: str) -> bool:
    """Say whether a URL is a glob pattern. A web address with a query is none."""
    is_web = any(part.startswith(("http://", "https://")) for part in url.split("::"))
    return bool(_MAGIC.search(url)) and not is_web and not os.path.lexists(url)


def is_folder(
    url: str, storage_options: Mapping[str, Any] | None, *, error: type[DaskAnnoyError] = InvalidVectorsError
) -> bool:
    """Say whether a URL names a folder."""
    filesystem, path = open_filesystem(url, storage_options, error=error)
    return bool(ask(filesystem, "isdir", path, where=public_url(url)))


def list_files(
    url: str,
    storage_options: Mapping[str, Any] | None,
    *,
    wanted: Callable[[str], bool],
    error: type[DaskAnnoyError] = InvalidVectorsError,
) -> list[str]:
    """List the files of a folder (with its folders) or of a glob pattern.

    Parameters
    ----------
    url : str
        A folder or a glob pattern; of a chained URL, the part that has the path.
    storage_options : mapping, optional
        What fsspec needs beside the URL.
    wanted : callable
        Says of a file's name (its last part) in a *folder* whether it belongs to the data. A pattern says
        it itself. Names that start with "_" or "." never belong.

    Returns
    -------
    list of str
        URLs, with numbers in names in numeric order: part.2 before part.10.
    """
    before, part, after = _split_chain(url)
    found = _MAGIC.search(part) if has_pattern(url) else None
    base = part[: part.rfind("/", 0, found.start()) + 1] if found else part
    base = base if base.endswith("://") else base.rstrip("/")
    filesystem, path = open_filesystem(url, storage_options, error=error)
    where = public_url(url)
    if found:
        _, root = open_filesystem(before + (base or ".") + after, storage_options, error=error)
        matches = ask(filesystem, "glob", path, where=where, detail=True)
        paths = [
            match
            for match, info in matches.items()
            # A link on this machine's disk may lead to either.
            if info["type"] == "file" or not ask(filesystem, "isdir", match, where=where)
        ]
    else:
        root = path
        paths = ask(filesystem, "find", path, where=where)
    root = root.rstrip("/")
    names = [p[len(root) :].lstrip("/") if p.startswith(root) else p for p in paths]
    names = [
        name
        for name in names
        if not any(piece.startswith(("_", ".")) for piece in name.split("/"))
        and (found or wanted(name.rsplit("/", 1)[-1]))
    ]
    prefix = base if base.endswith("://") else base + "/" if base or part.startswith("/") else ""
    return [before + prefix + name + after for name in sorted(names, key=_natural)]


def _split_chain(url: str) -> tuple[str, str, str]:
    """Split a chained URL around the part that has the path: the first with "://", else the last."""
    parts = url.split("::")
    chosen = next((i for i, part in enumerate(parts) if "://" in part), len(parts) - 1)
    before = "".join(part + "::" for part in parts[:chosen])
    after = "".join("::" + part for part in parts[chosen + 1 :])
    return before, parts[chosen], after


def _natural(name: str) -> list[tuple[int, int, str]]:
    pieces = re.split(r"(\d+)", name)
    return [(0, int(piece), piece) if piece.isdecimal() else (1, 0, piece) for piece in pieces]

"""The one place of this layer that opens fsspec filesystems, and what a URL may be called in public."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from dask_annoy.errors import DaskAnnoyError, InvalidVectorsError, MissingExtraError

__all__ = ["filesystem_options", "is_local", "open_filesystem", "public_url"]

_EXTRAS = {
    "s3": "s3",
    "s3a": "s3",
    "gs": "gcs",
    "gcs": "gcs",
    "az": "azure",
    "abfs": "azure",
    "abfss": "azure",
    "adl": "azure",
}
# These keep listings, and so miss what others have written since; the other filesystems may not know
# the option.
_KEEPS_LISTINGS = {*_EXTRAS, "http", "https"}


def filesystem_options(url: str, storage_options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the storage options for ``url`` with caches of listings switched off.

    Parameters
    ----------
    url : str
        May be chained, as in ``simplecache::s3://bucket/x.npy``.
    storage_options : mapping, optional
        As the user gave them; not changed.
    """
    options = dict(storage_options or {})
    for protocol in _protocols(url) & _KEEPS_LISTINGS:
        own = dict(options.get(protocol, {}))
        if "use_listings_cache" not in options:
            own.setdefault("use_listings_cache", False)
        if own:
            options[protocol] = own
    return options


def open_filesystem(
    url: str,
    storage_options: Mapping[str, Any] | None,
    *,
    error: type[DaskAnnoyError] = InvalidVectorsError,
) -> tuple[Any, str]:
    """Open the filesystem of a URL, without caches of listings.

    Parameters
    ----------
    url : str
        A path or an fsspec URL.
    storage_options : mapping, optional
        What fsspec needs beside the URL.
    error : type
        Raised when the URL is not understood.

    Returns
    -------
    filesystem : fsspec.AbstractFileSystem
    path : str
        The path inside it.

    Raises
    ------
    MissingExtraError
        If the package behind a known protocol is not installed.
    DaskAnnoyError
        Of the type ``error``, if the protocol is not known.
    """
    try:
        filesystem, path = fsspec.url_to_fs(url, **filesystem_options(url, storage_options))
    except ImportError as reason:
        extra = next((_EXTRAS[p] for p in sorted(_protocols(url)) if p in _EXTRAS), None)
        if extra is None:
            raise
        raise MissingExtraError(f"reading {public_url(url)}", extra) from reason
    except ValueError as reason:
        if "rotocol not known" not in str(reason):
            raise
        raise error(
            f"{public_url(url)}: fsspec knows no such protocol. Paths and URLs such as s3://, gs:// "
            f"and abfs:// "
            "(extras s3, gcs and azure) can be read"
        ) from None
    return filesystem, str(path)


def is_local(filesystem: Any) -> bool:
    """Say whether paths of the filesystem are paths of this machine."""
    return isinstance(filesystem, LocalFileSystem)


def public_url(url: str) -> str:
    """Return the URL as messages and manifests may show it: without user, password or signed query.

    Paths of this machine become absolute.
    """
    if "::" in url:
        return "::".join(_public_part(part) for part in url.split("::"))
    scheme, separator, path = url.partition("://")
    if separator and scheme not in ("file", "local"):
        return _public_part(url)
    return os.path.abspath(os.path.expanduser(path if separator else url))  # noqa: PTH100, PTH111


def _public_part(part: str) -> str:
    scheme, separator, rest = part.partition("://")
    if not separator:
        return part
    host, slash, path = rest.partition("/")
    user, at, bare_host = host.rpartition("@")
    # The user of an Azure URL is its container: only what holds a password, or any user of the web, is
    # hidden.
    web = scheme in ("http", "https")
    if at and (web or ":" in user):
        host = bare_host
    if web:
        path = re.split(r"[?#]", path, maxsplit=1)[0]
    return f"{scheme}://{host}{slash}{path}"


def _protocols(url: str) -> set[str]:
    return {part.partition("://")[0] for part in url.split("::")}

"""Errors of storage clients as the OSErrors that they are: those of Azure, Google and botocore derive from Exception.

Whoever calls storage catches OSError for what storage can do wrong, and nothing else, so that mistakes in programs
show.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from dask_annoy.errors import DaskAnnoyError

__all__ = ["as_os_errors", "http_status"]

#: Of programs rather than of storage, whoever derives from them.
_PROGRAMMING: Final = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, MemoryError, NameError, RuntimeError,
    SyntaxError, TypeError, ValueError,
)  # fmt: skip
_CODE: Final = re.compile(r"[A-Za-z][A-Za-z_]{0,63}")


@contextmanager
def as_os_errors(where: str) -> Iterator[None]:
    """Raise the errors of a storage client as OSError, from the client's own; all others as they are.

    OSErrors (PermissionError, TimeoutError …) and errors of programs (TypeError, KeyError …) stay; a FileNotFoundError
    becomes one of `where`.
    The message has the kind of the error, its HTTP status and code, and none of its words, which can hold signed URLs.

    Parameters
    ----------
    where : str
        What is asked for, without credentials.
    """
    try:
        yield
    except DaskAnnoyError:
        raise
    except FileNotFoundError:
        # Not the storage's own text, which may be the URL with its signature.
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), where) from None
    except OSError:
        raise
    except Exception as error:
        found = _of_client(error)
        if found is None:
            raise
        raise OSError(f"{where}: the client of the storage failed: {_kind(found)}") from error


def _of_client(error: BaseException) -> BaseException | None:
    """The error if it is a client's, or the client's error behind a RuntimeError, as adlfs wraps some."""
    if type(error) is RuntimeError and error.__cause__ is not None:
        return error.__cause__ if isinstance(error.__cause__, OSError) else _of_client(error.__cause__)
    package = type(error).__module__.partition(".")[0]
    if package in sys.stdlib_module_names or isinstance(error, (DaskAnnoyError, *_PROGRAMMING)):
        return None
    return error


def _kind(error: BaseException) -> str:
    kind = f"{type(error).__module__}.{type(error).__qualname__}"
    status, code = http_status(error), str(getattr(error, "error_code", None) or "")
    said = [f"status {status}"] if status is not None else []
    return ", ".join([kind, *said, *([code] if _CODE.fullmatch(code) else [])])


def http_status(error: BaseException) -> int | None:
    """The HTTP status in an error of botocore (`response`), gcsfs (`code`), azure (`status_code`) …."""
    response: Any = getattr(error, "response", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        status = next((getattr(error, key) for key in ("status_code", "status", "code") if hasattr(error, key)), None)
    try:
        return int(status) if status is not None else None
    except (TypeError, ValueError):
        return None

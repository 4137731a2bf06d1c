"""Errors of storage clients come as OSErrors without their words; all others come as they are."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import CancelledError
from typing import Any

import pytest
from fsspec.asyn import AsyncFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from dask_annoy.errors import CorruptIndexError, IndexNotFoundError
from dask_annoy.vectors.client_errors import as_os_errors, http_status
from dask_annoy.vectors.patience import ask, within_patience

SECRET = "https://account.blob/x?sig=c2VjcmV0"


class ClientError(Exception):
    """As clients raise them: an Exception, with a status and a code, and words that may hold a signed URL."""

    def __init__(self, status: int | None = None, code: object = None) -> None:
        super().__init__(f"failed: {SECRET}")
        self.status_code, self.error_code = status, code


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    try:
        with as_os_errors("abfs://c/index/x"):
            raise error from cause
    except BaseException as found:
        return found


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ClientError(), "ClientError"),
        (ClientError(503, "ServerBusy"), "ClientError, status 503, ServerBusy"),
        (ClientError(403, f"no code, but {SECRET}"), "ClientError, status 403"),
    ],
)
def test_a_clients_error_is_an_os_error_that_says_its_kind_and_not_its_words(error: ClientError, told: str) -> None:
    found = raised(error)
    assert type(found) is OSError
    assert found.__cause__ is error
    assert str(found).startswith("abfs://c/index/x: the client of the storage failed: ")
    assert str(found).endswith(f".{told}")
    assert "sig=" not in str(found)


def test_a_clients_error_that_is_wrapped_in_a_runtime_error_is_one_too() -> None:
    found = raised(RuntimeError(f"Failed to remove: {SECRET}"), ClientError(500))
    assert type(found) is OSError
    assert str(found).endswith(".ClientError, status 500")
    assert type(raised(RuntimeError("wrapped"), ConnectionResetError())) is OSError


class BadArgumentError(ClientError, ValueError):
    """As azure's SerializationError."""


def test_a_missing_file_is_said_in_words_of_ours() -> None:
    found = raised(FileNotFoundError(SECRET))
    assert type(found) is FileNotFoundError
    assert str(found) == "[Errno 2] No such file or directory: 'abfs://c/index/x'"
    assert found.__suppress_context__


@pytest.mark.parametrize(
    "error",
    [
        IndexNotFoundError("x"), FileExistsError("x"), PermissionError("x"), TimeoutError("x"), ConnectionError("x"),
        TypeError("x"), ValueError("x"), AttributeError("x"), KeyError("x"), IndexError("x"), RuntimeError("x"),
        NotImplementedError("x"), ImportError("x"), AssertionError("x"), MemoryError("x"), BadArgumentError(400),
        json.JSONDecodeError("x", "", 0), CancelledError("x"), CorruptIndexError("x"), KeyboardInterrupt("x"),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_other_errors_stay_what_they_are(error: BaseException) -> None:
    assert raised(error) is error
    if type(error) is RuntimeError:
        assert raised(error, ValueError("of a program")) is error


class Failing(AsyncFileSystem):  # type: ignore[misc]
    """A remote filesystem whose client fails."""

    cachable = False

    async def _rm_file(self, *_: object, **__: object) -> None:
        raise ClientError(500)


def test_all_requests_are_so_translated(monkeypatch: Any) -> None:
    with pytest.raises(OSError, match=r"s3://b/x: .*ClientError, status 500"):
        ask(Failing(), "rm_file", "b/x", where="s3://b/x")

    async def fail() -> None:
        raise ClientError(500)

    with pytest.raises(OSError, match=r"s3://b/x: .*ClientError, status 500"):
        asyncio.run(within_patience(fail(), where="s3://b/x"))

    def fail_at_once(*_: object, **__: object) -> None:
        raise ClientError(500)

    monkeypatch.setattr(MemoryFileSystem, "cat_file", fail_at_once)
    with pytest.raises(OSError, match=r"memory://x: .*ClientError, status 500"):
        ask(MemoryFileSystem(), "cat_file", "x", where="memory://x")


def test_the_status_is_found_in_each_clients_errors() -> None:
    botocore, gcsfs = Exception(), Exception()
    botocore.response = {"ResponseMetadata": {"HTTPStatusCode": 503}}  # type: ignore[attr-defined]
    gcsfs.code = "429"  # type: ignore[attr-defined]
    assert [http_status(error) for error in (botocore, gcsfs, ClientError(404), Exception())] == [503, 429, 404, None]

"""The conformance suite on the backends that are at hand."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from dask_annoy.errors import UnsupportedStorageError
from dask_annoy.storage import IndexFolder, put_if_absent
from dask_annoy.testing import StorageConformance

# Azurite's account and key are public: they are the same in every installation.
_ACCOUNT = "devstoreaccount1"
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


class TestLocalDisk(StorageConformance):
    rounds = 20

    @pytest.fixture
    def folder(self, tmp_path: Path) -> IndexFolder:
        return IndexFolder(str(tmp_path / "index"))


class TestMemory(StorageConformance):
    is_shared = False

    @pytest.fixture
    def folder(self) -> IndexFolder:
        return IndexFolder(f"memory://{uuid.uuid4().hex}")


class TestS3(StorageConformance):
    is_atomic = False  # moto looks and then writes

    @pytest.fixture
    def folder(self, s3: Any) -> IndexFolder:
        return IndexFolder(f"{s3.url}/index", s3.options)


class TestS3BucketRoot(StorageConformance):
    is_atomic = False

    @pytest.fixture
    def folder(self, s3: Any) -> IndexFolder:
        return IndexFolder(s3.url, s3.options)


class TestAzureBlob(StorageConformance):
    @pytest.fixture
    def folder(self, azurite: dict[str, Any]) -> IndexFolder:
        return IndexFolder(f"abfs://indexes/{uuid.uuid4().hex}", azurite)


class TestWithoutAtomicCreation(StorageConformance):
    """A backend that looks and then writes, used all the same: right as long as nobody else writes."""

    is_atomic = False

    @pytest.fixture
    def folder(self, tmp_path: Path) -> IndexFolder:
        (tmp_path / "index").mkdir()
        return IndexFolder(f"dir::file://{tmp_path}/index", allow_unsafe_publish=True)

    def test_without_the_permission_nothing_is_published(self, folder: IndexFolder) -> None:
        plain = IndexFolder(folder.url)
        with pytest.raises(UnsupportedStorageError, match="allow_unsafe_publish=True"):
            put_if_absent(plain, "versions/x", b"1")
        assert not plain.exists("versions/x")


@pytest.fixture(scope="module")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Storage options for Azurite, Microsoft's own emulation of Blob storage; with a container named indexes."""
    try:
        import adlfs  # noqa: F401
    except ImportError:
        _do_without("adlfs (the extra azure) is not installed")
    command = _azurite_command()
    folder = tmp_path_factory.mktemp("azurite")
    log = folder / "log"
    with log.open("w") as output:
        server = subprocess.Popen(
            [*command, "--blobPort", "0", "--location", str(folder), "--skipApiVersionCheck", "--silent",
             "--disableTelemetry"],
            stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        port = _port_of(server, log)
        connection = (
            f"DefaultEndpointsProtocol=http;AccountName={_ACCOUNT};AccountKey={_KEY};"
            f"BlobEndpoint=http://127.0.0.1:{port}/{_ACCOUNT};"
        )
        options = {"connection_string": connection}
        import fsspec

        fsspec.filesystem("abfs", **options).mkdir("indexes")
        yield options
    finally:
        server.terminate()
        server.wait()


def _azurite_command() -> list[str]:
    installed = shutil.which("azurite-blob")
    if installed:
        return [installed]
    npm = shutil.which("npm")
    if npm is None:
        _do_without("npm is not installed, and Azurite comes from it")
    # In npm's own cache after the first time.
    made = subprocess.run(
        [npm, "exec", "--yes", "--package=azurite", "--", "which", "azurite-blob"],
        capture_output=True, text=True, timeout=220,
    )  # fmt: skip
    if made.returncode:
        _do_without(f"npm could not install Azurite: {made.stderr.strip().splitlines()[-1:]}")
    return [made.stdout.strip().splitlines()[-1]]


def _do_without(reason: str) -> NoReturn:
    if os.environ.get("DASK_ANNOY_REQUIRE_AZURITE"):
        pytest.fail(reason)
    pytest.skip(reason)


def _port_of(server: subprocess.Popen[bytes], log: Path) -> int:
    while "successfully listens on" not in log.read_text():  # pytest-timeout ends what never comes true
        if server.poll() is not None:
            raise RuntimeError(f"Azurite ended: {log.read_text()}")
        time.sleep(0.05)
    address = re.search(r"successfully listens on http://[0-9.]+:([0-9]+)", log.read_text())
    assert address is not None
    return int(address[1])

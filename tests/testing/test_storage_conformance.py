"""The conformance suite on the backends that are at hand."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest

from dask_annoy.errors import UnsupportedStorageError
from dask_annoy.storage import IndexFolder, put_if_absent
from dask_annoy.testing import StorageConformance


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

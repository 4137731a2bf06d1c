from __future__ import annotations

import pytest

from dask_annoy.errors import CommitConflictError, CorruptIndexError, IndexNotFoundError
from dask_annoy.storage import (
    IndexFolder,
    commit,
    latest_version,
    list_versions,
    read_manifest,
    version_name,
)

from .conftest import manifest


def test_what_is_committed_is_read_and_the_newest_by_default(folder: IndexFolder) -> None:
    first, second = manifest(1), manifest(2)
    commit(folder, first)
    commit(folder, second)
    assert list_versions(folder) == [1, 2]
    assert latest_version(folder) == 2
    assert read_manifest(folder) == second
    assert read_manifest(folder, 1) == first


def test_a_folder_without_versions_is_no_index(folder: IndexFolder) -> None:
    assert list_versions(folder) == []
    assert latest_version(folder) is None
    with pytest.raises(IndexNotFoundError, match="no version is published"):
        read_manifest(folder)
    with pytest.raises(IndexNotFoundError, match="there is none"):
        read_manifest(folder, 3)


def test_a_missing_version_is_reported_with_the_newest(folder: IndexFolder) -> None:
    commit(folder, manifest(1))
    with pytest.raises(IndexNotFoundError, match=r"no version 3 .* the newest of 1 is 1"):
        read_manifest(folder, 3)


def test_the_second_writer_of_a_version_is_told_who_was_first(folder: IndexFolder) -> None:
    first, second = manifest(1), manifest(1)
    commit(folder, first)
    with pytest.raises(CommitConflictError, match=first.writer):
        commit(folder, second)
    assert read_manifest(folder) == first


def test_committing_the_same_manifest_again_succeeds(folder: IndexFolder) -> None:
    ours = manifest(1)
    commit(folder, ours)
    commit(folder, manifest(2))
    commit(folder, ours)
    assert latest_version(folder) == 2


def test_a_number_that_was_cleaned_up_is_not_taken_again(folder: IndexFolder) -> None:
    for version in (1, 2, 3):
        commit(folder, manifest(version))
    folder.delete([version_name(2)])
    assert list_versions(folder) == [1, 3]
    with pytest.raises(CommitConflictError, match="version 3 is there already"):
        commit(folder, manifest(2))


def test_unknown_files_among_the_versions_are_passed_over(folder: IndexFolder) -> None:
    commit(folder, manifest(1))
    for name in ("README", "2.json", "9" * 20 + ".json", "00000000000000000002.json.bak"):
        folder.write_bytes(f"versions/{name}", b"x")
    folder.write_bytes("versions/00000000000000000005.json/x", b"x") if not folder.is_local else None
    assert list_versions(folder) == [1]


def test_a_manifest_under_another_versions_name_is_refused(folder: IndexFolder) -> None:
    folder.write_bytes(version_name(7), manifest(1).to_json())
    with pytest.raises(CorruptIndexError, match=r"7\.json says that it is version 1"):
        read_manifest(folder)


def test_a_damaged_manifest_is_refused_by_its_address(folder: IndexFolder) -> None:
    folder.write_bytes(version_name(1), b"{")
    with pytest.raises(CorruptIndexError, match=r"/versions/0+1\.json is not a valid manifest"):
        read_manifest(folder)

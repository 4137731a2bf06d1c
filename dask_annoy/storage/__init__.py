"""The index folder on any fsspec URL: layout, manifest, publish, local cache. No Dask, no native code."""

from __future__ import annotations

from dask_annoy.storage.cache import CacheStats, Lease, ShardCache, configure_cache, shared_cache
from dask_annoy.storage.checksum import check_file, file_entry, sha256_of
from dask_annoy.storage.folder import IndexFolder, StoredFile
from dask_annoy.storage.layout import (
    parse_receipt_name,
    parse_version_name,
    plan_name,
    receipt_name,
    receipts_folder,
    sample_name,
    shard_folder,
    staging_folder,
    version_name,
)
from dask_annoy.storage.manifest import (
    FOREST_FILE,
    FORMAT_VERSION,
    MAX_MANIFEST_BYTES,
    FileEntry,
    Manifest,
    RecallCurve,
    RecallPoint,
    ShardEntry,
    Totals,
    Tuning,
    manifest_schema,
)
from dask_annoy.storage.publish import put_if_absent
from dask_annoy.storage.versions import commit, latest_version, list_versions, read_manifest

__all__ = [
    "FOREST_FILE",
    "FORMAT_VERSION",
    "MAX_MANIFEST_BYTES",
    "CacheStats",
    "FileEntry",
    "IndexFolder",
    "Lease",
    "Manifest",
    "RecallCurve",
    "RecallPoint",
    "ShardCache",
    "ShardEntry",
    "StoredFile",
    "Totals",
    "Tuning",
    "check_file",
    "commit",
    "configure_cache",
    "file_entry",
    "latest_version",
    "list_versions",
    "manifest_schema",
    "parse_receipt_name",
    "parse_version_name",
    "plan_name",
    "put_if_absent",
    "read_manifest",
    "receipt_name",
    "receipts_folder",
    "sample_name",
    "sha256_of",
    "shard_folder",
    "shared_cache",
    "staging_folder",
    "version_name",
]

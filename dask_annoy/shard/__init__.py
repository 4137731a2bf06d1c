"""One shard: built, opened, searched. Native, storage and vectors together; no Dask."""

from __future__ import annotations

from dask_annoy.shard.build import ShardTask, build_shard, forest_seed, read_sample, working_memory, write_sample
from dask_annoy.shard.deletions import add_deletions, read_deletions
from dask_annoy.shard.hits import Hits, larger_is_better, merge_hits, missing_distance
from dask_annoy.shard.id_runs import keys_of
from dask_annoy.shard.id_search import FoundIds, ShardIds, find_ids, find_shared
from dask_annoy.shard.ids import IdTable, IdType, IdWriter, id_files, write_ids
from dask_annoy.shard.receipt import RecallTrace, ShardReceipt, read_receipts, write_receipt
from dask_annoy.shard.rows import ShardItemIds, ShardItems
from dask_annoy.shard.shard import Shard, ShardHandle, open_shard, release_shard_pages, shard_handles

__all__ = [
    "FoundIds",
    "Hits",
    "IdTable",
    "IdType",
    "IdWriter",
    "RecallTrace",
    "Shard",
    "ShardHandle",
    "ShardIds",
    "ShardItemIds",
    "ShardItems",
    "ShardReceipt",
    "ShardTask",
    "add_deletions",
    "build_shard",
    "find_ids",
    "find_shared",
    "forest_seed",
    "id_files",
    "keys_of",
    "larger_is_better",
    "merge_hits",
    "missing_distance",
    "open_shard",
    "read_deletions",
    "read_receipts",
    "read_sample",
    "release_shard_pages",
    "shard_handles",
    "working_memory",
    "write_ids",
    "write_receipt",
    "write_sample",
]

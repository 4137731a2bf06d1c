"""One shard: built, opened, searched. Native, storage and vectors together; no Dask."""

from __future__ import annotations

from dask_annoy.shard.build import ShardTask, build_shard, forest_seed, read_sample, working_memory, write_sample
from dask_annoy.shard.damage import naming_the_shard
from dask_annoy.shard.deletions import DeletionSets, add_deletions, read_deletions
from dask_annoy.shard.hits import (
    BYTES_OF_HIT,
    FAN_IN,
    Hits,
    count_methods,
    larger_is_better,
    merge_all,
    merge_hits,
    missing_distance,
)
from dask_annoy.shard.id_runs import keys_of
from dask_annoy.shard.id_search import FoundIds, ShardIds, find_ids, find_shared
from dask_annoy.shard.ids import IdTable, IdType, IdWriter, id_files, write_ids
from dask_annoy.shard.receipt import (
    CopyReceipt,
    RecallTrace,
    ShardReceipt,
    list_receipts,
    read_copy_receipt,
    read_receipts,
    sound_receipt,
    write_copy_receipt,
    write_receipt,
)
from dask_annoy.shard.rows import ShardItemIds, ShardItems
from dask_annoy.shard.shard import (
    SearchMethod,
    Shard,
    ShardHandle,
    open_shard,
    release_shard_pages,
    shard_handles,
)
from dask_annoy.shard.verify import Damage, DamageKind, RecallPromise, ShardFindings, check_shard, look_at_shard

__all__ = [
    "BYTES_OF_HIT",
    "FAN_IN",
    "CopyReceipt",
    "Damage",
    "DamageKind",
    "DeletionSets",
    "FoundIds",
    "Hits",
    "IdTable",
    "IdType",
    "IdWriter",
    "RecallPromise",
    "RecallTrace",
    "SearchMethod",
    "Shard",
    "ShardFindings",
    "ShardHandle",
    "ShardIds",
    "ShardItemIds",
    "ShardItems",
    "ShardReceipt",
    "ShardTask",
    "add_deletions",
    "build_shard",
    "check_shard",
    "count_methods",
    "find_ids",
    "find_shared",
    "forest_seed",
    "id_files",
    "keys_of",
    "larger_is_better",
    "list_receipts",
    "look_at_shard",
    "merge_all",
    "merge_hits",
    "missing_distance",
    "naming_the_shard",
    "open_shard",
    "read_copy_receipt",
    "read_deletions",
    "read_receipts",
    "read_sample",
    "release_shard_pages",
    "shard_handles",
    "sound_receipt",
    "working_memory",
    "write_copy_receipt",
    "write_ids",
    "write_receipt",
    "write_sample",
]

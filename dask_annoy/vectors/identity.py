"""Digests that stand for data: equal in every interpreter, different when the data differs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping

import numpy as np

from dask_annoy.vectors.source import Rows

__all__ = ["digest_of_array", "digest_of_identities"]

_HASH_BYTES = 1 << 24  # how much of an array that is not contiguous is copied at a time


def digest_of_identities(identities: Iterable[Mapping[str, str | int]]) -> str:
    """Hash a sequence of identities; their order counts."""
    digest = hashlib.blake2b(digest_size=16)
    for identity in identities:
        digest.update(json.dumps(identity, sort_keys=True).encode())
        digest.update(b"\n")
    return digest.hexdigest()


def digest_of_array(array: Rows) -> str:
    """Hash the dtype, shape and bytes of an array of numbers of at least one dimension."""
    digest = hashlib.blake2b(f"{array.dtype.str} {array.shape}".encode(), digest_size=16)
    step = max(1, _HASH_BYTES // max(1, array[:1].nbytes))
    for first in range(0, len(array), step):
        part = np.ascontiguousarray(array[first : first + step])
        digest.update(part.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()

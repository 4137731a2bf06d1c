from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ConfigDict

from dask_annoy.shard import (
    RecallTrace,
    ShardReceipt,
    build_shard,
    list_receipts,
    read_receipts,
    sound_receipt,
    write_receipt,
)
from dask_annoy.storage import IndexFolder, receipt_name, receipts_folder, shard_folder
from dask_annoy.storage.document import Document, sealed

from .conftest import MakeTask

ROWS = np.random.default_rng(5).normal(size=(200, 8)).astype(np.float32)


def test_a_receipt_says_what_was_built(make_task: MakeTask, folder: IndexFolder) -> None:
    task = make_task(ROWS, shard_rows=50, slot=2)
    receipt = build_shard(task)
    assert read_receipts(folder, task.build_id) == {2: receipt}
    assert (receipt.entry.row_start, receipt.entry.row_stop, receipt.entry.items) == (100, 150, 50)
    assert read_receipts(folder, "another-build") == {}


@pytest.mark.parametrize("harm", ["missing", "cut", "grown", "a bit flipped"])
def test_a_receipt_whose_files_are_not_whole_is_passed_over(
    make_task: MakeTask, folder: IndexFolder, harm: str
) -> None:
    task = make_task(ROWS)
    attempts = sorted((build_shard(task) for _ in range(2)), key=lambda receipt: receipt.attempt)
    for number, expected in [(0, {0: attempts[1]}), (1, {})]:
        path = folder.local_path(f"{shard_folder(attempts[number].entry.uuid)}/ids.npy")
        payload = path.read_bytes()
        path.unlink()
        if harm != "missing":
            flipped = payload[:-1] + bytes([payload[-1] ^ 1])
            path.write_bytes({"cut": payload[:-1], "grown": payload + b"x"}.get(harm, flipped))
        assert read_receipts(folder, task.build_id) == expected


def test_a_shard_that_is_not_wanted_is_passed_over(make_task: MakeTask, folder: IndexFolder) -> None:
    task = make_task(ROWS)
    first, second = sorted((build_shard(task) for _ in range(2)), key=lambda receipt: receipt.attempt)
    names = list_receipts(folder, task.build_id)[0]
    assert len(names) == 2
    assert sound_receipt(folder, task.build_id, 0, names[::-1]) == first
    assert sound_receipt(folder, task.build_id, 0, names, {first.entry.uuid}) == second
    assert sound_receipt(folder, task.build_id, 1, names) is None


def with_bit_flipped(payload: bytes, bit: int) -> bytes:
    changed = bytearray(payload)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def damaged(payload: bytes) -> list[bytes]:
    in_figures = payload.index(b'"distances"') + 40
    return [
        b"",
        payload[: len(payload) // 2],
        b"\xff" + payload,
        b"null",
        *(with_bit_flipped(payload, bit) for bit in range(8 * in_figures, 8 * in_figures + 64)),
        *(with_bit_flipped(payload, bit) for bit in range(3, 8 * len(payload), 997)),
    ]


def forged(receipt: ShardReceipt) -> list[bytes]:
    """What it would be if somebody had written it who knows how."""
    document: dict[str, Any] = json.loads(receipt.model_dump_json())

    def changed(**changes: Any) -> bytes:
        return sealed(ForgedDocument.model_validate({**document, **changes}))

    trace, entry = document["trace"], document["entry"]
    distances, budgets = receipt.trace.distance_array().copy(), receipt.trace.budget_array().copy()
    distances[0, 0], budgets[0, 0] = np.nan, 2**63 - 1
    return [
        changed(build_id="b" * 32),
        changed(entry={**entry, "slot": 1}),
        changed(entry={**entry, "uuid": "../../../etc"}),
        changed(entry={**entry, "files": [{"name": "../../forest.ann", "bytes": 1, "sha256": "0" * 64}]}),
        changed(trace={**trace, "distances": "no base64"}),
        changed(trace={**trace, "distances": base64.b64encode(distances.tobytes()).decode()}),
        changed(trace={**trace, "budgets": trace["budgets"][:-8]}),
        changed(trace={**trace, "budgets": base64.b64encode(budgets.tobytes()).decode()}),
        changed(trace={**trace, "budgets": base64.b64encode((budgets * 0 - 2).tobytes()).decode()}),
        changed(trace={**trace, "rows": 10**9}),
        changed(more=1),
    ]


class ForgedDocument(Document):
    """Takes everything."""

    model_config = ConfigDict(extra="allow")


@pytest.mark.parametrize("is_forged", [False, True], ids=["damaged", "forged"])
def test_a_receipt_that_is_not_as_it_was_written_is_passed_over(
    make_task: MakeTask, folder: IndexFolder, is_forged: bool
) -> None:
    task = make_task(ROWS)
    receipt = build_shard(task)
    path = folder.local_path(receipt_name(task.build_id, 0, receipt.attempt))
    sound = path.read_bytes()
    assert sealed(ForgedDocument.model_validate_json(receipt.model_dump_json())) == sound
    for payload in forged(receipt) if is_forged else damaged(sound):
        path.write_bytes(payload)
        assert read_receipts(folder, task.build_id) == {}, payload[:80]
    write_receipt(folder, receipt)
    assert path.read_bytes() == sound
    assert read_receipts(folder, task.build_id) == {0: receipt}


def test_files_that_are_no_receipts_are_passed_over(make_task: MakeTask, folder: IndexFolder) -> None:
    task = make_task(ROWS)
    receipt = build_shard(task)
    parent = Path(folder.url, receipts_folder(task.build_id))
    for name in ("0.json", "x.y.json", "00.a.json", "0.a.json.tmp", "README"):
        (parent / name).write_text("{}")
    assert read_receipts(folder, task.build_id) == {0: receipt}


@pytest.mark.parametrize("shape", [(1, 1), (7, 10), (0, 3)])
def test_a_trace_comes_back_exactly(shape: tuple[int, int]) -> None:
    distances = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    distances[:1] = -np.inf
    budgets = np.full(shape, 2**62)
    trace = RecallTrace.model_validate_json(RecallTrace.of(distances, budgets).model_dump_json())
    np.testing.assert_array_equal(trace.distance_array(), distances)
    np.testing.assert_array_equal(trace.budget_array(), budgets)

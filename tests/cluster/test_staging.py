"""What is staged is read back as it was written, or not at all."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dask_annoy import build_index
from dask_annoy.cluster import inputs, shard_tasks, staging
from dask_annoy.cluster.staging import StagedRows, Staging, stage_block, staging_for
from dask_annoy.errors import CorruptIndexError, InvalidVectorsError, UnfinishedBuildWarning
from dask_annoy.storage import IndexFolder

from .conftest import SHARD_ROWS, TREES, fingerprint

OPTIONS: dict[str, Any] = {"metric": "angular", "n_trees": TREES, "shard_rows": SHARD_ROWS}
WAY_OUT = r"Run the same command again: the vectors are staged anew"

Harm = Callable[[bytearray], bytearray]


def bit_at(position: int, mask: int = 1) -> Harm:
    def flip(payload: bytearray) -> bytearray:
        payload[position] ^= mask
        return payload

    return flip


def header_byte(text: bytes, mask: int) -> Harm:
    return lambda payload: bit_at(payload.index(text), mask)(payload)


def damage(path: Path, harm: Harm) -> None:
    path.write_bytes(harm(bytearray(path.read_bytes())))


def test_a_zarr_array_that_changes_while_it_is_read_leaves_no_receipt(
    rows: NDArray[np.float32], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = tmp_path / "rows.zarr"
    array = zarr.create_array(str(url), shape=(600, 16), dtype="f4", chunks=(100, 16), compressors=None)
    array[:] = rows[:600]
    sample = shard_tasks._sample

    def changing(*arguments: Any) -> Any:
        taken = sample(*arguments)
        array[550:] = rows[1000:1050]
        return taken

    with monkeypatch.context() as patched:
        patched.setattr(shard_tasks, "_sample", changing)
        with pytest.raises(InvalidVectorsError, match="has changed since it was looked at: the version"):
            build_index(str(url), tmp_path / "index", **OPTIONS | {"shard_rows": 200}, client=False)
    assert not list((tmp_path / "index").glob("builds/*/[0-9]*.json"))
    assert not list((tmp_path / "index").glob("versions/*"))
    expected = build_index(array[:], tmp_path / "other", **OPTIONS | {"shard_rows": 200}, client=False)
    with pytest.warns(UnfinishedBuildWarning):
        again = build_index(str(url), tmp_path / "index", **OPTIONS | {"shard_rows": 200}, client=False)
    assert fingerprint(again) == fingerprint(expected)


HARMS: dict[str, tuple[str, Harm]] = {
    "a bit of the first row": ("rows", bit_at(200)),
    "a bit of the last row": ("rows", bit_at(-1)),
    "an exponent, so that a row is infinite": (
        "rows",
        lambda payload: payload[:-4] + np.float32(np.inf).tobytes(),
    ),
    "two rows in each other's place": (
        "rows",
        lambda payload: payload[:128] + payload[192:256] + payload[128:192] + payload[256:],
    ),
    "the byte order in the header of rows": ("rows", header_byte(b"<f4", 2)),
    "the end of the rows": ("rows", lambda payload: payload[:-64]),
    "a bit of the ids": ("ids", bit_at(-1)),
    "a bit that leaves no UTF-8": ("ids", bit_at(-1, 0x80)),
    "the type in the header of ids": ("ids", header_byte(b"descr", 1)),
    "the end of the ids": ("ids", lambda payload: payload[:-1]),
}


@pytest.mark.parametrize("id_type", ["int64", "string"])
@pytest.mark.parametrize("what", HARMS)
def test_a_build_from_damaged_staging_ends_by_name_and_works_when_run_again(
    rows: NDArray[np.float32], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, id_type: str
) -> None:
    kind, harm = HARMS[what]
    ids = np.arange(2000) if id_type == "int64" else np.array([f"id {row}" for row in range(2000)], object)

    def build(url: Path) -> Any:
        vectors = da.from_array(rows, chunks=(500, 16))
        return build_index(vectors, url, ids=da.from_array(ids, chunks=500), **OPTIONS, client=False)

    undisturbed = fingerprint(build(tmp_path / "undisturbed"))
    url = tmp_path / "index"

    class DamagedRows(StagedRows):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            (file,) = url.glob(f"staging/*/00000003.*.{kind}.npy")
            damage(file, harm)

    with monkeypatch.context() as patched:
        patched.setattr(inputs, "StagedRows", DamagedRows)
        with pytest.raises(CorruptIndexError, match=rf"staging/.*/00000003\..*\.{kind}\.npy .*{WAY_OUT}"):
            build(url)
    assert not (url / "versions").exists()
    index = build(url)
    assert fingerprint(index) == undisturbed
    assert index.verify("full").ok


def test_damage_between_the_sample_and_the_shards_is_found(
    rows: NDArray[np.float32], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = shard_tasks._sample

    def sample_then_damage(*arguments: Any) -> Any:
        taken = sample(*arguments)
        damage(next(iter(sorted(tmp_path.glob("staging/*/00000000.*.rows.npy")))), bit_at(-1))
        return taken

    vectors = da.from_array(rows, chunks=(500, 16))
    with monkeypatch.context() as patched:
        patched.setattr(shard_tasks, "_sample", sample_then_damage)
        with pytest.raises(CorruptIndexError, match=WAY_OUT):
            build_index(vectors, tmp_path, **OPTIONS, client=False)
    assert not (tmp_path / "versions").exists()
    finished = {path.name for path in tmp_path.glob("builds/*/*.json")}
    index = build_index(vectors, tmp_path, **OPTIONS, client=False)
    assert finished < {path.name for path in tmp_path.glob("builds/*/*.json")}
    assert index.verify("full").ok


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> tuple[StagedRows, NDArray[np.float32]]:
    """Three parts, of several pieces each."""
    rows = np.random.default_rng(3).normal(size=(500, 16)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(staging, "_PIECE_BYTES", 7 * 64)
        area = staging_for(IndexFolder(str(tmp_path_factory.mktemp("staged"))), "rows", "euclidean", 16, False)
        bounds = [0, 100, 333, 500]
        parts = [
            stage_block(area, number, low, rows[low:high])
            for number, (low, high) in enumerate(itertools.pairwise(bounds))
        ]
    assert len(parts[1].piece_digests) == -(-233 // 7)
    return StagedRows(area, parts), rows


@given(st.data())
def test_any_cut_of_staged_rows_is_what_was_staged(
    staged: tuple[StagedRows, NDArray[np.float32]], data: st.DataObject
) -> None:
    parts, rows = staged
    start = data.draw(st.integers(0, 499))
    stop = data.draw(st.integers(start + 1, 500))
    source, offset = parts.vectors(start, stop)
    max_bytes = data.draw(st.integers(1, 20_000))
    blocks = list(source.blocks(offset, offset + stop - start, max_bytes=max_bytes))
    assert max(block.nbytes for _, block in blocks) <= max(max_bytes, 7 * 64)
    assert [first for first, _ in blocks] == list(np.cumsum([offset, *(len(block) for _, block in blocks)])[:-1])
    np.testing.assert_array_equal(np.concatenate([block for _, block in blocks]), rows[start:stop])
    chosen = sorted(data.draw(st.sets(st.integers(start, stop - 1), min_size=1)))
    np.testing.assert_array_equal(source.take(np.asarray(chosen) - start + offset), rows[chosen])


def test_picked_rows_are_read_in_bounded_portions(
    staged: tuple[StagedRows, NDArray[np.float32]], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, rows = staged
    monkeypatch.setattr(staging, "_TAKE_BYTES", 2 * 7 * (64 + 8))
    source, offset = parts.vectors(0, 500)
    chosen = np.arange(3, 500, 5)
    np.testing.assert_array_equal(source.take(chosen + offset), rows[chosen])


@pytest.mark.parametrize("metric", ["hamming", "euclidean"])
def test_picked_rows_are_verified(tmp_path: Path, metric: str) -> None:
    area = staging_for(IndexFolder(str(tmp_path)), "rows", metric, 16, False)
    rows = np.random.default_rng(4).integers(0, 2, (50, 16)).astype(np.float32)
    parts = StagedRows(area, [stage_block(area, 0, 0, rows)])
    expected = np.packbits(rows > 0, axis=1) if metric == "hamming" else rows
    np.testing.assert_array_equal(parts.vectors(0, 50)[0].take([3, 49]), expected[[3, 49]])
    (file,) = tmp_path.glob("staging/*/*.rows.npy")
    damage(file, bit_at(-1))
    source, _ = parts.vectors(0, 50)  # looked at after the damage: only the digests can tell
    with pytest.raises(CorruptIndexError, match=rf"rows\.npy is damaged: its rows 0 to 49 .*{WAY_OUT}"):
        source.take([3])


def test_a_part_that_changes_after_it_was_looked_at_is_not_used(tmp_path: Path) -> None:
    area = staging_for(IndexFolder(str(tmp_path)), "rows", "euclidean", 16, False)
    rows = np.ones((50, 16), np.float32)
    source, _ = StagedRows(area, [stage_block(area, 0, 0, rows)]).vectors(0, 50)
    (file,) = tmp_path.glob("staging/*/*.rows.npy")
    damage(file, bit_at(-1))
    for read in (lambda: source.take([3]), lambda: list(source.blocks(max_bytes=1000))):
        with pytest.raises(CorruptIndexError, match=rf"rows\.npy .*{WAY_OUT}"):
            read()


class SilentFolder(IndexFolder):
    """A folder whose server no longer answers when something is to be deleted."""

    def delete(self, names: Any) -> None:
        asked.append(list(names))
        raise TimeoutError("no whole answer from the server in 600 seconds")


class RefusingFolder(IndexFolder):
    """A folder in which something is always in the way."""

    def delete_tree(self, name: str) -> None:
        asked.append([name])
        raise PermissionError(f"{name} is in use")


asked: list[list[str]] = []


@pytest.mark.parametrize(("kind", "tries"), [(SilentFolder, 1), (RefusingFolder, 10)])
def test_cleaning_up_waits_once_for_a_silent_server_and_leaves_the_error_that_ended_the_build(
    rows: NDArray[np.float32],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    kind: type[IndexFolder],
    tries: int,
) -> None:
    asked.clear()

    def area(folder: IndexFolder, *arguments: Any) -> Staging:
        return staging_for(kind(folder.url), *arguments)

    monkeypatch.setattr(inputs, "staging_for", area)
    bad = rows.copy()
    bad[1999, 3] = np.nan
    with pytest.raises(InvalidVectorsError, match=r"row 1,999, column 3"):
        build_index(da.from_array(bad, chunks=(500, 16)), tmp_path, **OPTIONS, client=False)
    assert len(asked) == tries
    assert "could not be removed" in caplog.text
    assert "gc deletes it" in caplog.text

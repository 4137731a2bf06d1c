from __future__ import annotations

import json
import string
from contextlib import suppress
from datetime import UTC
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dask_annoy.errors import CorruptIndexError, FormatVersionError
from dask_annoy.storage import (
    MAX_MANIFEST_BYTES,
    DeletionEntry,
    FileEntry,
    Manifest,
    RecallCurve,
    RecallPoint,
    Rules,
    ShardEntry,
    Totals,
    Tuning,
    manifest_schema,
)

from .conftest import manifest


def _changed(*path: str | int, to: Any) -> bytes:
    document = json.loads(manifest().to_json())
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = to
    return json.dumps(document).encode()


def test_a_manifest_survives_writing_and_reading_byte_for_byte() -> None:
    ours = manifest()
    payload = ours.to_json()
    assert Manifest.parse(payload, where="x") == ours
    assert Manifest.parse(payload, where="x").to_json() == payload
    assert payload.startswith(b'{\n  "format_version": 1,\n')


def test_a_manifest_cut_at_any_byte_is_refused() -> None:
    payload = manifest(items=(5,)).to_json()
    for length in range(len(payload)):
        with pytest.raises(CorruptIndexError, match=r"v/1\.json is not a valid manifest"):
            Manifest.parse(payload[:length], where="v/1.json")


def test_a_flipped_bit_anywhere_in_a_manifest_is_noticed() -> None:
    payload = manifest(items=(5,)).to_json()
    for bit in range(0, len(payload) * 8, 5):
        changed = bytearray(payload)
        changed[bit // 8] ^= 1 << bit % 8
        refused = None
        try:
            same = Manifest.parse(bytes(changed), where="v/1.json").to_json() == payload  # another blank, no more
        except (CorruptIndexError, FormatVersionError) as error:
            refused = str(error)
        assert same if refused is None else refused.startswith("v/1.json")


@pytest.mark.parametrize("version", [2, 10**30])
def test_a_newer_format_is_refused_by_name_before_anything_else_is_looked_at(version: int) -> None:
    payload = json.dumps({"format_version": version, "new": [1]}).encode()
    with pytest.raises(FormatVersionError, match=r"x has the format version .* up to 1: upgrade dask-annoy"):
        Manifest.parse(payload, where="x")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("format_version",), 0), (("format_version",), "1"), (("format_version",), True),
        (("format_version",), 1.0),
        (("extra",), 1), (("shards", 0, "extra"), 1), (("totals", "extra"), 1),
        (("index_id",), "A" * 32), (("index_id",), "a" * 31), (("writer",), "../" + "a" * 29),
        (("build_id",), "../x"),
        (("version",), 0), (("version",), -1), (("version",), 2**63), (("version",), 10**400),
        (("version",), 1.0),
        (("version",), "1"), (("version",), True), (("parent",), 1), (("parent",), 7),
        (("width",), 0), (("width",), 2**31), (("metric",), "An gular"), (("metric",), None),
        (("packed",), 0),
        (("id_type",), "pickle"), (("partition",), "router"), (("created",), "yesterday"),
        (("created",), "2026-01-01T00:00:00"), (("created",), 5), (("source",), "x" * 5000),
        (("shards",), []), (("shards",), {}), (("shards",), None),
        (("shards", 0, "slot"), 1), (("shards", 1, "slot"), 0), (("shards", 0, "items"), 4),
        (("shards", 0, "items"), 0),
        (("shards", 0, "items"), 2**31), (("shards", 1, "row_start"), 6), (("shards", 0, "row_start"), 1),
        (("shards", 1, "row_stop"), 9), (("shards", 1, "uuid"), "0" * 32),
        (("shards", 1, "uuid"), "../../" + "0" * 26),
        (("shards", 0, "n_trees"), 0), (("shards", 0, "seed"), -1), (("shards", 0, "seed"), 2**64),
        (("shards", 0, "files"), []), (("shards", 0, "files", 0, "name"), "other.ann"),
        (("shards", 0, "files", 1, "name"), "forest.ann"),
        *((("shards", 0, "files", 1, "name"), name) for name in ("../x", "a/b", ".x", "", "A", "x\n", "/x",
        "x" * 200)),
        (("shards", 0, "deletions"), {}), (("shards", 0, "deletions", "items"), 6),
        (("shards", 0, "deletions", "items"), 0), (("shards", 0, "deletions", "uuid"), "../x"),
        (("shards", 0, "deletions"), None), (("totals", "deleted"), 0), (("shards", 0, "slot"), 2**31),
        (("rules", "n_trees"), 0), (("rules",), None), (("operation",), "explode"), (("next_id",), -1),
        (("change_id",), "../x"),
        (("shards", 0, "files", 1, "bytes"), -1), (("shards", 0, "files", 1, "bytes"), 2**63),
        (("shards", 0, "files", 1, "sha256"), "0" * 63), (("shards", 0, "files", 1, "sha256"), "G" * 64),
        (("totals", "shards"), 3), (("totals", "items"), 9), (("totals", "bytes"), 1),
        (("tuning",), {}),
        (("tuning",), {"target_recall": float("nan"), "search_k": 1, "recall": 0.5, "curves": []}),
        (("tuning",), {"target_recall": 1.5, "search_k": 1, "recall": 0.5, "curves": []}),
        (("tuning",), {"target_recall": 0.5, "search_k": 1, "recall": float("inf"), "curves": []}),
        (("tuning",), {"target_recall": 0.5, "search_k": 1, "recall": 0.5, "curves": []}),
        (("metric",), "foo"), (("metric",), "cosine"), (("metric",), ""),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_one_sentence(path: tuple[str | int, ...], value: Any) -> None:
    with pytest.raises(CorruptIndexError) as caught:
        Manifest.parse(_changed(*path, to=value), where="v/1.json")
    message = str(caught.value)
    assert message.startswith("v/1.json is not a valid manifest: ")
    assert "\n" not in message
    assert len(message) < 500


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"{}", b"[]", b"null", b"1", b"\xff\xfe", b'{"format_version": NaN}', b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"format_version":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"format_version":' + b"9" * 5000 + b".5}",
        b'{"\xff": 1}', b'{"format_version": 1, "metric": "\\ud800"}',
    ],
)  # fmt: skip
def test_rubbish_is_refused(payload: bytes) -> None:
    with pytest.raises(CorruptIndexError, match="x is not a valid manifest"):
        Manifest.parse(payload, where="x")


def test_a_manifest_that_is_too_large_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(CorruptIndexError, match="at most"):
        Manifest.parse(b" " * (MAX_MANIFEST_BYTES + 1), where="x")


def test_building_a_manifest_checks_as_strictly_as_reading_one() -> None:
    with pytest.raises(ValueError, match="totals"):
        Manifest(**{**dict(manifest()), "totals": Totals(shards=2, items=8, bytes=1)})
    with pytest.raises(ValueError, match="do not ascend"):
        RecallCurve(
            method="forest", k=1, sample_rows=1,
            points=(RecallPoint(search_k=2, recall=0.1), RecallPoint(search_k=2, recall=0.2)),
        )  # fmt: skip
    with pytest.raises(ValueError, match="frozen"):
        manifest().version = 2  # type: ignore[misc]


def test_a_metric_that_is_not_known_is_named_with_those_that_are() -> None:
    with pytest.raises(CorruptIndexError, match=r"^v/1\.json is not .* metric: 'foo' is no metric .*angular.*hamming"):
        Manifest.parse(_changed("metric", to="foo"), where="v/1.json")


@pytest.mark.parametrize("place", ["tuning", "curve"])
def test_a_search_budget_that_no_search_takes_is_refused(place: str) -> None:
    point = {"search_k": 5, "recall": 0.5}
    curve: dict[str, Any] = {"method": "cells", "k": 10, "sample_rows": 9, "points": [point]}
    tuning: dict[str, Any] = {"target_recall": 0.5, "search_k": 5, "recall": 0.5, "curves": [curve]}
    changed = tuning if place == "tuning" else point
    RecallPoint(search_k=3 * 2**61, recall=1.0)
    for budget in (3 * 2**61 + 1, 2**63 - 1, 2**63, 0):
        changed["search_k"] = budget
        with pytest.raises(CorruptIndexError, match=r"^v/1\.json is not a valid manifest: tuning\..*search_k"):
            Manifest.parse(_changed("tuning", to=tuning), where="v/1.json")


def test_the_schema_names_every_field() -> None:
    schema = manifest_schema()
    assert set(schema["properties"]) == {*Manifest.model_fields, "sha256"}
    assert schema["properties"]["metric"]["enum"] == ["angular", "euclidean", "manhattan", "hamming", "dot"]
    json.dumps(schema)


_hex = st.integers(0, 16**32 - 1).map(lambda n: f"{n:032x}")
_share = st.floats(0, 1)
_files = st.lists(
    st.builds(
        FileEntry,
        name=st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=8).map(lambda name: name + ".x"),
        bytes=st.integers(0, 2**40),
        sha256=st.integers(0, 16**64 - 1).map(lambda n: f"{n:064x}"),
    ),
    max_size=2,
    unique_by=lambda file: file.name,
)
_points = st.dictionaries(st.integers(1, 2**40), _share, min_size=1, max_size=4).map(
    lambda points: tuple(RecallPoint(search_k=k, recall=points[k]) for k in sorted(points))
)
_curve = st.builds(
    RecallCurve,
    method=st.just("forest"),
    k=st.integers(1, 100),
    sample_rows=st.integers(1, 9),
    points=_points,
)
_tuning = st.builds(
    Tuning,
    target_recall=_share,
    search_k=st.integers(1, 3 * 2**61),
    recall=_share,
    curves=st.lists(_curve, min_size=1, max_size=2).map(tuple),
)


def _deletions(items: int) -> st.SearchStrategy[DeletionEntry]:
    return st.builds(
        DeletionEntry, uuid=_hex, items=st.integers(1, items), bytes=st.integers(0, 2**40), sha256=st.just("f" * 64)
    )


@st.composite
def _manifests(draw: st.DrawFn) -> Manifest:
    shards, row = [], 0
    for slot, uuid in enumerate(draw(st.lists(_hex, min_size=1, max_size=4, unique=True))):
        items = draw(st.integers(1, 2**31 - 1))
        files = (
            FileEntry(name="forest.ann", bytes=draw(st.integers(0, 2**40)), sha256="0" * 64),
            *draw(_files),
        )
        shards.append(
            ShardEntry(
                slot=slot, uuid=uuid, items=items, row_start=row, row_stop=row + items,
                n_trees=draw(st.integers(1, 1000)), seed=draw(st.integers(0, 2**64 - 1)), files=files,
                deletions=draw(st.none() | _deletions(items)),
            )
        )  # fmt: skip
        row += items
    parent = draw(st.none() | st.integers(1, 2**40))
    text = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
    return Manifest(
        index_id=draw(_hex), version=(parent or 0) + draw(st.integers(1, 2**40)), parent=parent,
        writer=draw(_hex),
        build_id=draw(_hex), created=draw(st.datetimes(timezones=st.just(UTC))), library=draw(text),
        metric="dot",
        width=draw(st.integers(1, 2**31 - 1)), packed=draw(st.booleans()), source=draw(text),
        source_dtype=draw(text), id_type=draw(st.sampled_from(["int64", "string"])), partition="rows",
        shards=tuple(shards), tuning=draw(st.none() | _tuning),
        totals=Totals.of(shards), next_id=draw(st.none() | st.integers(0, 2**62)),
        rules=Rules(n_trees=1, shard_rows=1, seed=0, target_recall=0.5),
        operation=draw(st.sampled_from(["build", "delete"])), change_id=draw(st.none() | _hex),
    )  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(_manifests())
def test_any_manifest_survives_writing_and_reading(ours: Manifest) -> None:
    again = Manifest.parse(ours.to_json(), where="x")
    assert again == ours
    assert again.to_json() == ours.to_json()


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_manifest_with_changed_bytes_is_read_or_refused_and_nothing_else(data: st.DataObject) -> None:
    payload = bytearray(manifest(items=(5,)).to_json())
    for _ in range(data.draw(st.integers(1, 3))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    with suppress(CorruptIndexError, FormatVersionError):
        Manifest.parse(bytes(payload), where="x")

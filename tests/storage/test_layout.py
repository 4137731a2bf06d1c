from __future__ import annotations

import pytest

from dask_annoy.storage import layout


def test_names_are_those_of_the_design() -> None:
    assert layout.version_name(1) == "versions/00000000000000000001.json"
    assert layout.plan_name("b1") == "builds/b1/plan.json"
    assert layout.sample_name("b1") == "builds/b1/sample.npy"
    assert layout.receipt_name("b1", 12, "a-7") == "builds/b1/12.a-7.json"
    assert layout.shard_folder("f" * 32) == "shards/" + "f" * 32
    assert layout.staging_folder("s1") == "staging/s1"


@pytest.mark.parametrize("version", [1, 7, 10**12, 2**63 - 1])
def test_a_version_is_read_back_from_its_name(version: int) -> None:
    name = layout.version_name(version)
    assert layout.parse_version_name(name) == version
    assert layout.parse_version_name(name.removeprefix("versions/")) == version


@pytest.mark.parametrize(
    "name",
    ["1.json", "0" * 20 + ".json", "9" * 20 + ".json", "0" * 19 + "1.json.tmp", "0" * 18 + "1.json", "x",
     "-0000000000000000001.json", "0" * 19 + "1.json\n", "\u0660" * 19 + "\u0661.json"],
)  # fmt: skip
def test_other_names_are_no_versions(name: str) -> None:
    assert layout.parse_version_name(name) is None


def test_a_slot_and_attempt_are_read_back_from_a_receipt_name() -> None:
    name = layout.receipt_name("b1", 0, "abc")
    assert layout.parse_receipt_name(name) == (0, "abc")
    assert layout.parse_receipt_name("12.x.json") == (12, "x")
    for other in ("plan.json", "01.x.json", "1.json", "1.x.y.json", "-1.x.json"):
        assert layout.parse_receipt_name(other) is None


@pytest.mark.parametrize("part", ["", "..", "a/b", ".a", "a.b", "x" * 129])
def test_parts_cannot_leave_their_folder(part: str) -> None:
    for make in (layout.plan_name, layout.sample_name, layout.shard_folder, layout.staging_folder):
        with pytest.raises(ValueError, match="is not a"):
            make(part)
    with pytest.raises(ValueError, match="is not a"):
        layout.receipt_name("b", 0, part)
    for wrong in (0, -1, 2**63):
        with pytest.raises(ValueError, match="not a version"):
            layout.version_name(wrong)

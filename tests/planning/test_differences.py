"""Whatever makes another build is named."""

from __future__ import annotations

from typing import Any

import pytest

from dask_annoy.errors import CorruptIndexError
from dask_annoy.planning import differences, read_plan, write_plan
from dask_annoy.storage import IndexFolder, plan_name
from dask_annoy.storage.document import sealed

from .test_plan import plan

FILE = {"vectors.url": "s3://b/x.npy", "vectors.size": 10, "vectors.version": "etag:1", "ids.row_numbers": 5000}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"seed": 4}, "seed was 3 and is 4"),
        ({"metric": "dot"}, "metric was angular and is dot"),
        ({"width": 25}, "width was 24 and is 25"),
        ({"shard_rows": 500}, "shard_rows was 700 and is 500"),
        ({"n_trees": 9}, "n_trees was 5 and is 9"),
        ({"target_recall": 0.5}, "target_recall was 0.9 and is 0.5"),
        ({"id_type": "string"}, "id_type was int64 and is string"),
        ({"identity": {"array": "beef"}}, "the values of the input changed"),
        ({"identity": FILE}, "the input is of another kind"),
        ({"context": {"next_id": 7}}, "next_id was not given and is 7"),
    ],
    ids=str,
)
def test_the_one_thing_that_differs_is_told(change: dict[str, Any], told: str) -> None:
    (found,) = differences(plan(), plan(**change))
    assert found.startswith(told)
    assert plan().build_id != plan(**change).build_id


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"vectors.url": "s3://b/y.npy"}, "the URL of the vectors was s3://b/x.npy and is s3://b/y.npy"),
        ({"vectors.size": 11}, "the size in bytes of the vectors was 10 and is 11"),
        ({"vectors.version": "etag:2"}, "the version (checksum, etag or time) of the vectors was etag:1 and is etag:2"),
        ({"ids.first": 3}, "first of the ids was not given and is 3"),
    ],
    ids=str,
)
def test_what_is_different_about_a_file_is_told(change: dict[str, Any], told: str) -> None:
    assert differences(plan(identity=FILE), plan(identity=FILE | change)) == [told]


def test_the_same_plan_has_no_differences() -> None:
    assert differences(plan(), plan()) == []
    assert differences(plan(), plan(shard_rows=699)) == []  # cut in the same way


def test_a_plan_comes_back_from_storage_and_a_damaged_one_does_not(tmp_path: Any) -> None:
    folder, made = IndexFolder(str(tmp_path)), plan(operation="append", context={"index": "a"})
    build_id = str(made.build_id)
    with pytest.raises(FileNotFoundError):
        read_plan(folder, build_id)
    write_plan(folder, made)
    assert read_plan(folder, build_id) == made
    path = folder.local_path(plan_name(build_id))
    payload = path.read_text()
    of_another = sealed(made.model_copy(update={"build_id": "b" * 32})).decode()
    for wrong in (payload[:-20], of_another, payload.replace('"seed": 3', '"seed": 2'), "null"):
        assert wrong != payload
        path.write_text(wrong)
        with pytest.raises(CorruptIndexError, match=r"plan\.json"):
            read_plan(folder, build_id)
        write_plan(folder, made)  # as the same build does when it is run again
        assert path.read_text() == payload

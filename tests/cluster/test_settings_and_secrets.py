"""Settings reach the workers; credentials reach nobody else."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import fsspec
import numpy as np
import pytest
from distributed import Client

from dask_annoy import build_index, open_index
from dask_annoy.cluster.settings import current_settings
from dask_annoy.errors import DaskAnnoyError

from .conftest import SHARD_ROWS, TREES, fingerprint

OPTIONS: dict[str, Any] = {"shard_rows": SHARD_ROWS, "n_trees": TREES}


@pytest.mark.parametrize("key", ["block-size", "cache.size"])
@pytest.mark.parametrize("value", [None, "many", 0, -5, "0 MiB", float("inf")], ids=str)
def test_a_size_that_is_none_is_named(key: str, value: Any) -> None:
    with dask.config.set({f"annoy.{key}": value}), pytest.raises(ValueError, match=rf"annoy\.{key}"):
        current_settings()


def test_settings_are_read_when_a_call_is_made(rows: Any, tmp_path: Path, client: Any) -> None:
    plain = build_index(rows, tmp_path / "plain", **OPTIONS, client=client)
    with dask.config.set({"annoy.block-size": "1 kiB"}):
        small = build_index(rows, tmp_path / "small", **OPTIONS, client=client)
    assert fingerprint(small) == fingerprint(plain)


def test_the_scratch_directory_is_used_and_left_empty(rows: Any, tmp_path: Path, client: Any) -> None:
    seen: set[str] = set()
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    wrong = tmp_path / "not there"
    with dask.config.set({"annoy.scratch-directory": str(wrong)}), pytest.raises(FileNotFoundError, match="not there"):
        build_index(rows, tmp_path / "index", **OPTIONS, client=client)
    with dask.config.set({"annoy.scratch-directory": str(scratch)}):
        build_index(rows, tmp_path / "index", **OPTIONS, client=client)
    assert list(scratch.iterdir()) == []
    assert seen == set()


def test_a_tiny_cache_costs_time_but_no_answers(rows: Any, s3: Any, client: Any) -> None:
    with dask.config.set({"annoy.cache.size": "1 B"}):
        index = build_index(rows, f"{s3.url}/x", **OPTIONS, storage_options=s3.options, client=client)
        tiny = [index.query(rows[:20], k=3) for _ in range(2)]
        lazy = index.query(da.from_array(rows[:20], chunks=(7, 16)), k=3)
        computed = client.compute(lazy.ids).result() if client else lazy.ids.compute(scheduler="threads")
    expected = index.query(rows[:20], k=3)
    for found in (tiny[0].ids, tiny[1].ids, computed):
        np.testing.assert_array_equal(found, expected.ids)


def test_the_cache_directory_is_used(rows: Any, s3: Any, tmp_path: Path, client: Any) -> None:
    with dask.config.set({"annoy.cache.directory": str(tmp_path / "cache")}):
        index = build_index(rows, f"{s3.url}/x", **OPTIONS, storage_options=s3.options, client=client)
        index.query(rows[:5])
        assert list((tmp_path / "cache").glob("*/*-forest.ann"))


def test_credentials_are_shown_and_stored_nowhere(
    rows: Any, s3: Any, process_client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "dask_annoy")
    secret = s3.options["secret"]
    array = da.from_array(rows, chunks=(500, 16))
    index = build_index(array, f"{s3.url}/x", **OPTIONS, storage_options=s3.options, client=process_client)
    shown = [repr(index), str(index), str(index.info()), index.url, index.manifest.model_dump_json()]
    lazy = index.query(array, k=2)
    shown += [repr(lazy), lazy.ids.name, str(list(lazy.ids.dask.layers)), caplog.text]
    bad = rows.copy()
    bad[3, 3] = np.nan
    broken = {**s3.options, "endpoint_url": "http://127.0.0.1:9"}
    for vectors, url, options in [
        (bad, f"{s3.url}/y", s3.options),
        (da.from_array(bad), f"{s3.url}/y", s3.options),
        (rows, f"{s3.url}/x", s3.options),
        (rows, f"{s3.url}-not-there/x", s3.options),
    ]:
        with pytest.raises((DaskAnnoyError, OSError)) as raised:
            build_index(vectors, url, storage_options=options, client=process_client)
        shown.append(str(raised.value) + repr(raised.value))
    assert broken["endpoint_url"] not in " ".join(shown)
    filesystem = fsspec.filesystem("s3", **s3.options)
    stored = [name for name in filesystem.find(s3.url) if name.endswith(".json")]
    assert {name.split("/")[2] for name in stored} >= {"versions", "builds"}
    shown += [filesystem.cat_file(name).decode() for name in stored]
    for text in shown:
        assert secret not in text
        assert s3.options["key"] not in text


def test_a_url_with_a_password_is_shown_without_it(rows: Any, tmp_path: Path) -> None:
    from dask_annoy.storage import IndexFolder

    folder = IndexFolder("s3://user:hunter2@bucket/x")
    assert "hunter2" not in f"{folder!r} {folder} {folder.where('y')}"


def test_paths_of_all_kinds_name_the_same_folder(rows: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    index = build_index(rows[:50], Path("some") / "index", client=False)
    for url in ("some/index", "./some/index/", tmp_path / "some/index", f"file://{tmp_path}/some/index"):
        assert open_index(url).manifest == index.manifest
    monkeypatch.chdir("/")
    assert index.query(rows[:1], k=1, search_k=1000).ids.tolist() == [[0]]


def test_credentials_stay_out_of_all_that_changes_write_and_say(
    rows: Any, s3: Any, process_client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "dask_annoy")
    shown: list[str] = []
    index = build_index(rows[:300], f"{s3.url}/x", **OPTIONS, storage_options=s3.options, client=process_client)
    index = index.append(da.from_array(rows[300:500], chunks=(50, 16))).delete([1, 2, 3])
    index.tag("kept")
    index = index.compact(max_deleted=0).rollback("kept")
    copied = index.copy(f"{s3.url}/y", storage_options=s3.options)
    index.export(f"{s3.url}/z", storage_options=s3.options)
    shown += [repr(index), repr(copied), str(index.versions()), str(index.gc())]
    shown += [str(index.verify("full")), str(index.repair()), str(copied.repair().as_dict())]
    for wrong in (
        lambda: index.append(rows[:5], np.arange(5)),
        lambda: index.delete([10**6]),
        lambda: index.copy(f"{s3.url}/x", storage_options=s3.options),
        lambda: open_index(f"{s3.url}/x", version="none", storage_options=s3.options),
        lambda: index.rollback(99),
    ):
        with pytest.raises(DaskAnnoyError) as raised:
            wrong()
        shown.append(str(raised.value) + repr(raised.value))
    shown.append(caplog.text)
    filesystem = fsspec.filesystem("s3", **s3.options)
    stored = [filesystem.cat_file(name) for name in filesystem.find(s3.url)]
    for secret in (s3.options["secret"], s3.options["key"]):
        assert not [text for text in shown if secret in text]
        assert not [content for content in stored if secret.encode() in content]

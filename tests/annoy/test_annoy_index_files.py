"""`save` and `load` where users keep files: paths, path objects, URLs of any storage, open files."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from annoy import AnnoyIndex as Oracle
from numpy.typing import NDArray

import dask_annoy
from dask_annoy import AnnoyIndex
from dask_annoy.errors import CorruptIndexError, UnsupportedStorageError

Vectors = NDArray[np.float32]


def fresh() -> AnnoyIndex:
    return AnnoyIndex(12, "euclidean")


def test_using_the_index_loads_no_storage_table_or_estimator_library(tmp_path: Path) -> None:
    code = (
        "import sys, dask_annoy\n"
        "index = dask_annoy.AnnoyIndex(1, 'dot'); index.add_item(0, [1]); index.build(1); index.save(sys.argv[1])\n"
        "print([name for name in ('fsspec', 'pandas', 'sklearn', 'scipy', 'dask') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "x")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_short_name_is_the_same_class() -> None:
    assert dask_annoy.Annoy is dask_annoy.AnnoyIndex


@pytest.mark.parametrize("kind", [str, Path, os.fsencode], ids=["str", "Path", "path object of bytes"])
def test_a_path_may_be_a_string_or_a_path_object(
    built: AnnoyIndex, vectors: Vectors, tmp_path: Path, kind: Any, answers: Any
) -> None:
    class OfBytes:
        def __init__(self, path: bytes) -> None:
            self.path = path

        def __fspath__(self) -> bytes:
            return self.path

    name = kind(tmp_path / "x.ann")
    if isinstance(name, bytes):
        name = OfBytes(name)
    before = answers(built, vectors)
    assert built.save(name) is True
    again = fresh()
    assert again.load(name) is True
    assert answers(again, vectors) == before == answers(built, vectors)
    with pytest.raises(RuntimeError, match="loaded"):
        built.unbuild()
    oracle = Oracle(12, "euclidean")
    oracle.load(str(tmp_path / "x.ann"))
    assert oracle.get_nns_by_vector(vectors[3], 1) == [3]


def test_a_forest_grows_in_the_file_of_a_path_object_or_file_url(vectors: Vectors, tmp_path: Path) -> None:
    for name in (tmp_path / "a", f"file://{tmp_path}/b"):
        index = fresh()
        assert index.on_disk_build(name) is True
        index.add_items(vectors)
        index.build(3)
        assert index.get_nns_by_item(7, 1) == [7]
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with pytest.raises(ValueError, match=r"memory://b/x .*local file"):
        fresh().on_disk_build("memory://b/x")


def test_a_file_url_is_a_path_and_is_mapped(built: AnnoyIndex, vectors: Vectors, tmp_path: Path, answers: Any) -> None:
    url = f"file://{tmp_path}/x.ann"
    built.save(url)
    again = fresh()
    again.load(url, prefault=True)
    assert answers(again, vectors) == answers(built, vectors)
    for index in (built, again):
        assert f"mapped from {tmp_path}/x.ann" in index._repr_html_()


@pytest.mark.parametrize("name", ["a:b", "::", "a::b", "c:/x", "s3:", "memory::x"])
def test_a_name_without_a_protocol_is_a_file_here(
    built: AnnoyIndex, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).parent.mkdir(exist_ok=True)
    built.save(name)
    assert Path(name).read_bytes() == built.to_bytes()
    fresh().load(name)


def test_an_index_lies_in_memory_s3_and_behind_chained_urls(
    built: AnnoyIndex, vectors: Vectors, memory: Any, s3: Any, tmp_path: Path, answers: Any
) -> None:
    before = answers(built, vectors)
    cached = {"simplecache": {"cache_storage": str(tmp_path)}}
    places: list[tuple[str, dict[str, Any] | None]] = [
        ("memory://folder/x.ann", None),
        (f"{s3.url}/x.ann", s3.options),
        ("simplecache::memory://folder/y.ann", cached),
        (f"simplecache::{s3.url}/y.ann", {**cached, "s3": s3.options}),
    ]
    for url, options in places:
        assert built.save(url, storage_options=options) is True
        again = fresh()
        assert again.load(url, storage_options=options) is True
        assert answers(again, vectors) == before, url
        with fsspec.open(url, **(options or {})) as file:
            assert file.read() == built.to_bytes()
    built.unbuild()  # an index that was copied elsewhere is as it was
    built.add_item(500, vectors[0])


def test_an_index_is_read_out_of_a_zip_file(built: AnnoyIndex, vectors: Vectors, tmp_path: Path, answers: Any) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
        packed.writestr("inside/x.ann", built.to_bytes())
    again = fresh()
    again.load(f"zip://inside/x.ann::{tmp_path}/x.zip")
    assert answers(again, vectors) == answers(built, vectors)


def test_an_open_file_is_written_and_read_from_where_it_stands(
    built: AnnoyIndex, vectors: Vectors, tmp_path: Path, answers: Any
) -> None:
    buffer = io.BytesIO(b"head")
    buffer.seek(4)
    assert built.save(buffer) is True
    assert buffer.getvalue() == b"head" + built.to_bytes()
    buffer.seek(4)
    again = fresh()
    assert again.load(buffer) is True
    assert answers(again, vectors) == answers(built, vectors)

    with gzip.open(tmp_path / "x.gz", "wb") as packed:
        built.save(packed)
    with gzip.open(tmp_path / "x.gz", "rb") as packed:
        again.load(packed)
    assert answers(again, vectors) == answers(built, vectors)

    with (tmp_path / "raw").open("wb", buffering=0) as raw:
        built.save(raw)
    with (tmp_path / "raw").open("rb", buffering=0) as raw:
        again.load(raw)
    assert again.to_bytes() == built.to_bytes()
    built.unbuild()


def test_files_that_take_a_part_at_a_time_or_nothing_more(built: AnnoyIndex) -> None:
    class Narrow(io.RawIOBase):
        def __init__(self, room: int) -> None:
            self.taken = b""
            self.room = room

        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int | None:
            part = bytes(data)[: min(1000, self.room - len(self.taken))]
            self.taken += part
            return len(part) or None

    size = len(built.to_bytes())
    whole = Narrow(size)
    built.save(whole)
    assert whole.taken == built.to_bytes()
    with pytest.raises(BlockingIOError, match=f"{size - 5:,} of {size:,} bytes"):
        built.save(Narrow(size - 5))

    class Silent:
        def __init__(self) -> None:
            self.parts: list[bytes] = []

        def write(self, data: bytes) -> None:
            self.parts.append(data)

    silent = Silent()
    built.save(silent)
    assert silent.parts == [built.to_bytes()]


def test_text_files_are_refused(built: AnnoyIndex, tmp_path: Path) -> None:
    with (tmp_path / "text").open("w") as text, pytest.raises(TypeError, match=r"text.*mode 'wb'"):
        built.save(text)
    with (tmp_path / "text").open() as text, pytest.raises(TypeError, match=r"text.*mode 'rb'"):
        built.load(text)
    with pytest.raises(TypeError, match="StringIO"):
        built.save(io.StringIO())


def test_what_is_not_there_is_a_file_not_found(memory: Any, s3: Any, tmp_path: Path) -> None:
    for name, options in [
        (tmp_path / "no", None),
        (f"file://{tmp_path}/no", None),
        ("memory://no", None),
        (f"{s3.url}/no", s3.options),
        (f"{s3.url}-absent/no", s3.options),
        ("", None),
    ]:
        with pytest.raises(FileNotFoundError) as caught:
            fresh().load(name, storage_options=options)
        assert str(name).rpartition("/")[2] in str(caught.value)
        assert "S3CRET" not in str(caught.value)


def test_a_cut_or_foreign_file_is_refused_by_name_and_the_index_stays(
    built: AnnoyIndex, vectors: Vectors, memory: Any, s3: Any, answers: Any
) -> None:
    data = built.to_bytes()
    before = answers(built, vectors)
    for damaged in (b"", data[:-1], data[: len(data) // 2], b"\xff" * len(data)):
        memory.pipe_file("/cut.ann", damaged)
        fsspec.filesystem("s3", **s3.options).pipe_file(f"{s3.url}/cut.ann", damaged)
        for place, options in (("memory://cut.ann", None), (f"{s3.url}/cut.ann", s3.options)):
            with pytest.raises(CorruptIndexError, match=r"cut\.ann"):
                built.load(place, storage_options=options)
        with pytest.raises(CorruptIndexError, match="BytesIO"):
            built.load(io.BytesIO(damaged))
    assert answers(built, vectors) == before


def test_an_index_without_trees_cannot_be_saved_anywhere(vectors: Vectors, memory: Any, tmp_path: Path) -> None:
    index = fresh()
    index.add_items(vectors)
    for place in (tmp_path / "x", "memory://x", io.BytesIO()):
        with pytest.raises(OSError, match="hasn't been built"):
            index.save(place)
    assert memory.store == {}


def test_a_failed_save_leaves_what_was_there(
    built: AnnoyIndex, vectors: Vectors, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{s3.url}/x.ann"
    built.save(url, storage_options=s3.options)
    index = fresh()
    index.add_items(vectors[:50])
    index.build(1)
    with pytest.raises(PermissionError):
        index.save(url, storage_options={**s3.options, "anon": True, "key": None, "secret": None})
    assert fresh().load(url, storage_options=s3.options) is True
    index.save(url, storage_options=s3.options)
    again = fresh()
    again.load(url, storage_options=s3.options)
    assert len(again) == 50


def test_storage_options_for_what_is_no_url_are_a_mistake(built: AnnoyIndex, tmp_path: Path) -> None:
    for place in (str(tmp_path / "x"), tmp_path / "x", io.BytesIO()):
        with pytest.raises(ValueError, match="storage_options"):
            built.save(place, storage_options={"key": "S3CRET"})
        with pytest.raises(ValueError, match="storage_options"):
            built.load(place, storage_options={"key": "S3CRET"})
    built.save(tmp_path / "x", storage_options={})


def test_an_unknown_protocol_is_named(built: AnnoyIndex) -> None:
    with pytest.raises(UnsupportedStorageError, match=r"nonsense://x"):
        built.load("nonsense://x")


def test_a_relative_path_stays_the_same_file_when_the_directory_changes(
    built: AnnoyIndex, vectors: Vectors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real" / "deep")
    monkeypatch.chdir(tmp_path)
    built.save("link/../x.ann")  # through the link, as the operating system goes
    assert (tmp_path / "real" / "x.ann").exists()
    index = fresh()
    index.load("link/../x.ann")
    monkeypatch.chdir(tmp_path / "real" / "deep")
    assert str(tmp_path) in index._repr_html_()


def test_bytes_make_an_index_of_the_subclass(built: AnnoyIndex, vectors: Vectors, answers: Any) -> None:
    class Mine(AnnoyIndex):
        def __init__(self, f: int, metric: str) -> None:
            super().__init__(f, metric)
            self.note = "made"

    again = Mine.from_bytes(12, "euclidean", built.to_bytes())
    assert type(again) is Mine
    assert again.note == "made"
    assert answers(again, vectors) == answers(built, vectors)


def test_the_table_for_notebooks_says_what_an_index_is(vectors: Vectors, tmp_path: Path) -> None:
    class Shop(AnnoyIndex):
        pass

    index = Shop(12, "dot")
    assert "Shop" in repr(index)
    assert repr(index).startswith("Shop(f=12, metric='dot'")
    index.add_items(vectors)
    assert "not built, in memory" in index._repr_html_()
    index.build(4)
    shown = index._repr_html_()
    for part in (
        "<caption>Shop</caption>",
        ">dot<",
        ">12<",
        ">500<",
        ">4<",
        "built, in memory",
        f">{len(index.to_bytes()):,}<",
    ):
        assert part in shown
    assert f">{len(index.to_bytes()):,}<" in shown
    name = "<script>&'.ann"
    index.save(tmp_path / name)
    shown = index._repr_html_()
    assert "<script>" not in shown
    assert "mapped from" in shown
    assert "&lt;script&gt;&amp;" in shown
    assert "loaded, in memory" in Shop.from_bytes(12, "dot", index.to_bytes())._repr_html_()
    grown = Shop(12, "dot")
    grown.on_disk_build(tmp_path / "grown")
    assert f"not built, on disk, in {tmp_path}/grown" in grown._repr_html_()


def test_the_size_counts_what_is_in_memory(built: AnnoyIndex, tmp_path: Path) -> None:
    size = len(built.to_bytes())
    assert sys.getsizeof(built) >= size
    built.save(tmp_path / "x")
    assert sys.getsizeof(built) < size

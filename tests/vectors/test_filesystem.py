from __future__ import annotations

import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import fsspec
import numpy as np
import pytest

from dask_annoy.errors import InvalidVectorsError, MissingExtraError
from dask_annoy.vectors import NpySource, open_source
from dask_annoy.vectors.filesystem import filesystem_options, open_filesystem, public_url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://bucket/a@b?c.npy", "s3://bucket/a@b?c.npy"),
        ("https://me:secret@host/x.npy?X-Amz-Signature=secret#secret", "https://host/x.npy"),
        ("https://secret@host:80/x.npy", "https://host:80/x.npy"),
        ("ftp://me:secret@host/x.npy", "ftp://host/x.npy"),
        ("abfs://container@account.dfs.core.windows.net/x", "abfs://container@account.dfs.core.windows.net/x"),
        ("simplecache::ftp://me:secret@host/x.npy", "simplecache::ftp://host/x.npy"),
        ("zip://x.npy::https://h/a.zip?secret", "zip://x.npy::https://h/a.zip"),
        ("/data/../x.npy", "/x.npy"),
        ("file:///data/x.npy", "/data/x.npy"),
    ],
)
def test_a_url_is_shown_without_credentials(url, shown):
    assert public_url(url) == shown


def test_storage_options_are_never_shown(memory_url):
    with fsspec.open(f"{memory_url}/x.npy", "wb") as file:
        np.save(file, np.zeros((2, 3)))
    source = NpySource(f"{memory_url}/x.npy", storage_options={"token": "secret"})
    shown = [repr(source), str(source), source.name, str(source.identity()), repr(source._table)]
    fsspec.filesystem("memory").rm(f"{memory_url}/x.npy")
    with pytest.raises(FileNotFoundError) as error:
        source.take([0])
    assert "secret" not in " ".join([*shown, repr(error.value)])


def test_listings_are_not_cached_where_they_would_be():
    assert filesystem_options("s3://b/x", {"key": "k"}) == {"key": "k", "s3": {"use_listings_cache": False}}
    assert filesystem_options("simplecache::gs://b/x", None) == {"gs": {"use_listings_cache": False}}
    assert filesystem_options("sftp://host/x", None) == {}
    options = {"use_listings_cache": True}
    assert filesystem_options("s3://b/x", options) == options


def test_an_unknown_protocol_is_a_sentence():
    with pytest.raises(InvalidVectorsError, match="nix://x: fsspec knows no such protocol"):
        open_filesystem("nix://x", None)


@pytest.mark.parametrize(
    ("url", "module", "extra"), [("gs://b/x.npy", "gcsfs", "gcs"), ("az://b/x.npy", "adlfs", "azure")]
)
def test_a_missing_package_is_asked_for_by_its_extra(monkeypatch, url, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"reading {url} .*dask-annoy\[{extra}\]"):
        NpySource(url)


def test_a_chained_url_is_read(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(6.0).reshape(3, 2))
    url = f"simplecache::file://{tmp_path}/x.npy"
    assert NpySource(url).take([2]).tolist() == [[4, 5]]


def test_a_signed_url_is_known_by_its_suffix_and_a_server_without_ranges_is_named(tmp_path):
    pytest.importorskip("aiohttp")
    np.save(tmp_path / "x.npy", np.zeros((5000, 4)))

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path))
    server.handle_error = lambda *_: None  # the client hangs up once it sees the whole file come
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with pytest.raises(InvalidVectorsError, match="does not answer requests for parts") as error:
            open_source(f"http://127.0.0.1:{server.server_port}/x.npy?signature=secret")
    finally:
        server.shutdown()
        server.server_close()
    assert "secret" not in str(error.value)


def test_a_storage_that_answers_too_little_is_noticed(memory_url, monkeypatch):
    from fsspec.implementations.memory import MemoryFileSystem

    with fsspec.open(f"{memory_url}/x.npy", "wb") as file:
        np.save(file, np.zeros((20, 3)))
    source = NpySource(f"{memory_url}/x.npy")
    original = MemoryFileSystem.cat_file
    monkeypatch.setattr(MemoryFileSystem, "cat_file", lambda *args, **options: original(*args, **options)[:-1])
    with pytest.raises(InvalidVectorsError, match="asked for 480 bytes from byte 128, got 479"):
        list(source.blocks(max_bytes=10_000))

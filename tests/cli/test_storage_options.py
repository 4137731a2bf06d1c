"""Storage options and credentials, with a real S3 server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def test_an_index_on_s3_is_built_and_asked_and_its_keys_are_not_shown(
    call, files: Path, s3: Any, tmp_path: Path
) -> None:
    secret = s3.options["secret"]
    (tmp_path / "options.json").write_text(json.dumps(s3.options))
    in_words = ("--storage-options", f"key={s3.options['key']}", "--storage-options", f"secret={secret}")
    rest = ("--storage-options", json.dumps({"endpoint_url": s3.options["endpoint_url"]}))
    in_file = ("--storage-options", f"@{tmp_path / 'options.json'}")

    built = call("build", files / "vectors.npy", f"{s3.url}/index", "--shard-rows", 900, *in_words, *rest)
    assert built.exit_code == 0, built.stderr
    assert "--storage-options …" in built.stdout
    shown = call("info", f"{s3.url}/index", *in_file)
    asked = call("query", f"{s3.url}/index", files / "queries.npy", "--exact", files / "vectors.npy", *in_file)
    assert (shown.exit_code, asked.exit_code) == (0, 0), shown.stderr + asked.stderr
    missing = call("info", f"{s3.url}/nothing", *in_file, "--debug")
    assert missing.exit_code == 1
    for done in (built, shown, asked, missing):
        assert secret not in done.output
        assert s3.options["key"] not in done.output


def test_options_of_the_index_serve_vectors_on_the_same_kind_of_storage(call, files: Path, s3: Any) -> None:
    import fsspec

    fsspec.filesystem("s3", **s3.options).put(str(files / "vectors.npy"), f"{s3.url}/vectors.npy")
    with_options = ("--storage-options", json.dumps(s3.options), "-q")
    vectors, url = f"{s3.url}/vectors.npy", f"{s3.url}/other"
    assert call("build", vectors, url, *with_options).exit_code == 0
    done = call("query", url, vectors, "--rows", 7, "-k", 1, "--json", *with_options)
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[0])["ids"] == [7]

"""Many shards: more than a process may have files open."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

_LIFE = """
    import resource, sys
    import numpy as np
    from dask_annoy import build_index, open_index

    def main(url, kind, n_shards, most_open):
        rng = np.random.default_rng(3)
        rows = rng.normal(size=(4 * n_shards, 4)).astype(np.float32)
        ids = rng.permutation(10**6)[: len(rows)]
        if kind == "string":
            ids = np.array([f"item {number}" for number in ids], object)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most_open, most_open))
        build_index(
            rows, url, metric="euclidean", n_trees=1, shard_rows=4, ids=ids, client=False
        )
        index = open_index(url, client=False)
        assert len(index.manifest.shards) == n_shards
        assert index.query(rows, 1, method="exact").ids[:, 0].tolist() == ids.tolist()
        report = index.verify("full")
        assert report.ok, report
        changed = index.delete(ids[::4])
        assert changed.query(rows[1::4], 1, method="exact").ids[:, 0].tolist() == ids[1::4].tolist()
        assert not np.isin(changed.query(rows[::4], 1, method="exact").ids[:, 0], ids[::4]).any()

    if __name__ == "__main__":
        main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
"""


@pytest.mark.parametrize("kind", ["int64", "string"])
def test_an_index_may_have_more_shards_than_a_process_may_have_files_open(tmp_path: Path, kind: str) -> None:
    script = tmp_path / "life.py"
    script.write_text(textwrap.dedent(_LIFE))
    done = subprocess.run(
        [sys.executable, "-P", script, tmp_path / "index", kind, "100", "64"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]

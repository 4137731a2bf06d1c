"""The examples of docs/durable-index.md do what they say, and the page names all that changes an index."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

from dask_annoy import ShardedIndex

PAGE = Path(__file__).resolve().parents[2] / "docs" / "durable-index.md"


def test_the_examples_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # they write files
    examples = PAGE.read_text().replace("```python\n", "").replace("```\n", "")
    test = doctest.DocTestParser().get_doctest(examples, {}, PAGE.name, str(PAGE), 0)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    runner.run(test)
    results = runner.summarize(verbose=False)
    assert (results.failed, results.attempted > 10) == (0, True)


def test_the_page_names_every_change() -> None:
    page = PAGE.read_text()
    reading = {"query", "info", "url", "version", "metric", "width", "n_shards"}
    changes = [name for name in vars(ShardedIndex) if not name.startswith("_") and name not in reading]
    assert len(changes) >= 11
    assert [name for name in changes if f"`{name}" not in page] == []

"""The examples of docs/single-machine.md do what they say."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

from dask_annoy import Index

PAGE = Path(__file__).resolve().parents[2] / "docs" / "single-machine.md"


def test_the_examples_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # they write files
    examples = PAGE.read_text().replace("```python\n", "").replace("```\n", "")
    test = doctest.DocTestParser().get_doctest(examples, {}, PAGE.name, str(PAGE), 0)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    runner.run(test)
    results = runner.summarize(verbose=False)
    assert (results.failed, results.attempted > 10) == (0, True)


def test_the_page_names_every_public_method_of_index() -> None:
    page = PAGE.read_text()
    own = [name for name in vars(Index) if not name.startswith("_")]
    assert [name for name in own if f"`{name}`" not in page] == []

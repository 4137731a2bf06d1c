from __future__ import annotations

import fcntl
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from dask_annoy.demo.corpus import Passage
from dask_annoy.demo.embedding import TextEmbedding
from dask_annoy.demo.folder import DemoFolder, DemoState
from dask_annoy.demo.index import Demo, prepare

LAST_STEPS = ["building the index", "comparing with exact search"]


class Stopped(Exception):
    """Raised from a callback: the step would have been taken."""


def stop_at(name: str) -> None:
    raise Stopped(name)


@pytest.fixture(scope="module")
def demo(passages: list[Passage], embedding: TextEmbedding, tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """A demo that was interrupted when the embedding was learned, and then run again."""
    folder = DemoFolder(tmp_path_factory.mktemp("demo"))
    folder.begin(DemoState.current())
    folder.write_passages(passages)
    embedding.save(folder.embedding)
    return prepare(folder.path)


@pytest.fixture
def copy(demo: Demo, tmp_path: Path) -> Path:
    return Path(shutil.copytree(demo.folder.path, tmp_path / "copy"))


def test_an_interrupted_demo_continues_with_the_step_that_was_not_finished(demo: Demo, passages: list[Passage]) -> None:
    assert [step.name for step in demo.steps] == ["embedding the paragraphs", *LAST_STEPS]
    assert len(demo.index) == len(passages)
    assert 4 <= demo.index.n_shards <= 6


def test_recall_is_measured_on_questions_that_are_not_in_the_index(demo: Demo) -> None:
    assert demo.state.recall is not None
    assert demo.state.recall > 0.85
    assert demo.state.recall_queries == 1000


@pytest.mark.parametrize(
    ("question", "name"), [("read a csv file", "csv.reader"), ("merge two sorted lists", "heapq.merge")]
)
def test_questions_are_answered_by_name_each_name_once(demo: Demo, question: str, name: str) -> None:
    answers = demo.ask(question)
    names = [answer.passage.name for answer in answers]
    assert name in names
    assert len(set(names)) == 3
    assert [answer.distance for answer in answers] == sorted(answer.distance for answer in answers)


def test_a_question_without_a_known_word_has_no_answer(demo: Demo) -> None:
    assert demo.ask("ⵣⵣⵣⵣ ⵥⵥⵥⵥ") == []


def test_a_finished_demo_is_opened_not_built(demo: Demo) -> None:
    again = prepare(demo.folder.path, on_start=stop_at)
    assert again.steps == []
    assert again.state == demo.state
    assert [a.passage for a in again.ask("sort an array")] == [a.passage for a in demo.ask("sort an array")]


def test_a_deleted_index_is_built_again_from_what_is_there(copy: Path) -> None:
    shutil.rmtree(copy / "index")
    again = prepare(copy)
    assert [step.name for step in again.steps] == LAST_STEPS
    assert again.index.version == 1


def test_a_demo_stopped_between_index_and_recall_builds_nothing_twice(copy: Path) -> None:
    state = json.loads((copy / "demo.json").read_text())
    (copy / "demo.json").write_text(json.dumps(state | {"recall": None, "recall_queries": 0}))
    shards = {path.name for path in (copy / "index" / "shards").iterdir()}
    # Copied files are other files, so this is another build; it stands as a new version beside the old one.
    prepare(copy)
    after = {path.name for path in (copy / "index" / "shards").iterdir()}
    assert shards < after
    (copy / "demo.json").write_text(json.dumps(state | {"recall": None, "recall_queries": 0}))
    prepare(copy)
    assert {path.name for path in (copy / "index" / "shards").iterdir()} == after


@pytest.mark.parametrize("name", ["format", "python", "numpy", "dask", "distributed", "dask-annoy"])
def test_another_version_of_anything_it_follows_from_builds_it_anew(copy: Path, name: str) -> None:
    state = json.loads((copy / "demo.json").read_text())
    state["versions"][name] = "0.0.1"
    (copy / "demo.json").write_text(json.dumps(state))
    with pytest.raises(Stopped, match="reading the documentation"):
        prepare(copy, on_start=stop_at)
    assert {path.name for path in copy.iterdir()} == {".lock", "demo.json"}


def test_rebuild_builds_it_anew(copy: Path) -> None:
    with pytest.raises(Stopped, match="reading the documentation"):
        prepare(copy, rebuild=True, on_start=stop_at)
    assert {path.name for path in copy.iterdir()} == {".lock", "demo.json"}


@pytest.mark.parametrize("content", ["", "{", '{"other": 1}', "[]"])
def test_a_damaged_note_of_versions_builds_it_anew(copy: Path, content: str) -> None:
    (copy / "demo.json").write_text(content)
    with pytest.raises(Stopped, match="reading the documentation"):
        prepare(copy, on_start=stop_at)


def test_a_folder_in_use_for_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "passages.json").write_text("mine")
    with pytest.raises(ValueError, match="holds no demo"):
        prepare(tmp_path, rebuild=True)
    assert [path.name for path in tmp_path.iterdir()] == ["passages.json"]
    assert (tmp_path / "passages.json").read_text() == "mine"


def test_a_second_run_waits_for_the_first(demo: Demo) -> None:
    with (demo.folder.path / ".lock").open("w") as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        told: list[str] = []

        def release(note: str) -> None:
            told.append(note)
            fcntl.flock(first, fcntl.LOCK_UN)

        assert prepare(demo.folder.path, on_start=release).steps == []
    assert len(told) == 1
    assert "waiting" in told[0]


def test_the_files_of_the_demo_serve_the_other_commands(demo: Demo) -> None:
    vectors, ids = np.load(demo.folder.vectors), np.load(demo.folder.ids, allow_pickle=False)
    assert len(vectors) == len(ids) == len(demo.index)
    found, _ = demo.index.query(vectors[:50], 1)
    assert found[:, 0].tolist() == ids[:50].tolist()

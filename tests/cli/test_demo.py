"""`dask annoy demo`: one whole run, and what later calls make of it."""

from __future__ import annotations

import json
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from dask_annoy.demo.questions import QUESTIONS


@dataclass(frozen=True)
class FirstRun:
    folder: Path
    done: subprocess.CompletedProcess[str]

    def answers_to(self, question: str) -> str:
        return self.done.stdout.partition(f"\n{question}\n")[2].partition("\n\n")[0]


@pytest.fixture(scope="module")
def first_run(process, tmp_path_factory: pytest.TempPathFactory) -> FirstRun:
    folder = tmp_path_factory.mktemp("parent") / "a demo"
    return FirstRun(folder, process("demo", "--folder", folder))


def test_the_first_run_answers_every_question(first_run: FirstRun) -> None:
    assert first_run.done.returncode == 0, first_run.done.stderr
    for question in QUESTIONS:
        assert first_run.answers_to(question), question


@pytest.mark.parametrize(
    ("question", "name"), [("read a csv file", "csv.reader"), ("merge two sorted lists", "heapq.merge")]
)
def test_its_answers_are_what_a_person_would_name(first_run: FirstRun, question: str, name: str) -> None:
    assert name in first_run.answers_to(question)


def test_it_says_how_long_each_step_took_and_what_the_recall_is(first_run: FirstRun) -> None:
    steps = first_run.done.stderr.splitlines()
    assert len(steps) == 5
    assert all(step.endswith(" s") for step in steps)
    assert float(first_run.done.stdout.partition("recall@10 ")[2].split()[0]) > 0.85


def test_the_commands_it_suggests_work(first_run: FirstRun, process) -> None:
    ask, info, measure = (
        shlex.split(line.partition("dask annoy")[2])
        for line in first_run.done.stdout.splitlines()
        if "  dask annoy " in line
    )
    asked = process(*ask)
    assert asked.returncode == 0, asked.stderr
    assert "str.split" in asked.stdout
    assert asked.stderr == ""  # nothing was built
    assert process(*info).returncode == 0
    measured = process(*measure)
    assert measured.returncode == 0, measured.stderr
    assert "recall@10       0.9" in measured.stdout


def test_the_lines_of_python_it_prints_open_the_index(first_run: FirstRun) -> None:
    start = first_run.done.stdout.index("from dask_annoy import")
    names: dict[str, object] = {}
    exec("\n".join(line.strip() for line in first_run.done.stdout[start:].splitlines()), names)
    assert str(names["index"]).startswith("<ShardedIndex")


def test_an_own_question_is_answered_without_building(first_run: FirstRun, call) -> None:
    done = call("demo", "--folder", first_run.folder, "--ask", "matrix inverse", "--ask", "ⵣⵣ", "-n", 5, "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert told["steps"] == []
    known, unknown = told["answers"]
    assert "numpy.linalg.inv" in [answer["name"] for answer in known["answers"]]
    assert len(known["answers"]) == 5
    assert unknown == {"question": "ⵣⵣ", "answers": []}


def test_a_second_run_says_that_it_was_built_before(first_run: FirstRun, call) -> None:
    done = call("demo", "--folder", first_run.folder)
    assert (done.exit_code, done.stderr) == (0, "")
    assert "built before" in done.stdout


def test_a_folder_of_something_else_is_refused_in_a_sentence(call, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    done = call("demo", "--folder", tmp_path, "--rebuild")
    assert done.exit_code == 1
    assert done.stderr.startswith(f"Error: {tmp_path} is not empty and holds no demo")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]

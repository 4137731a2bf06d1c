from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dask_annoy.demo.corpus import CorpusTimeoutError, Passage, collect_passages


def make_package(folder: Path, name: str, **modules: str) -> None:
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(f'"""The package {name}, which exists in this test only."""\n')
    for module, source in modules.items():
        (folder / name / f"{module}.py").write_text(source)


def test_there_are_ten_to_thirty_thousand_passages_with_unique_ids(passages: list[Passage]) -> None:
    assert 10_000 <= len(passages) <= 30_000
    assert len({passage.id for passage in passages}) == len(passages)
    assert len({passage.text for passage in passages}) == len(passages)


def test_ids_are_names_and_numbers_of_later_paragraphs() -> None:
    assert Passage("heapq.merge", "Merge.").id == "heapq.merge"
    assert Passage("heapq.merge", "More.", 2).id == "heapq.merge ¶2"


def test_the_words_of_the_name_are_searched_too() -> None:
    passage = Passage("http.server.HTTPServer.get_request", "Get it.")
    assert passage.searchable_text == "http server http server get request. Get it."


@pytest.mark.parametrize(
    "name",
    ["csv.reader", "heapq.merge", "os.walk", "os.path.join", "str.join", "numpy.sort", "numpy.linalg.inv",
     "numpy.random.normal", "dask.delayed", "dask.array.Array.rechunk", "help: lambda", "open"],
)  # fmt: skip
def test_things_go_by_their_public_names(passages: list[Passage], name: str) -> None:
    assert any(passage.name == name for passage in passages)


def test_private_and_skipped_modules_are_left_out(passages: list[Passage]) -> None:
    parts = {part for passage in passages if ":" not in passage.name for part in passage.name.split(".")}
    assert not [part for part in parts if part.startswith("_")]
    roots = {passage.name.split(".")[0] for passage in passages}
    assert not roots & {"antigravity", "this", "idlelib", "test", "tkinter", "posix", "lib2to3"}


def test_texts_are_single_lines_without_markup(passages: list[Passage]) -> None:
    for passage in passages:
        assert passage.text == " ".join(passage.text.split())
        assert not re.search(r"^-{4,}$|:(?:func|class|meth|mod):`", passage.text)
        assert len(passage.text) < 4000


def test_collecting_twice_gives_the_same(passages: list[Passage]) -> None:
    assert collect_passages() == passages


def test_collecting_leaves_the_process_as_it_was(tmp_path: Path) -> None:
    # In a fresh process, because this one has imported much already.
    check = """
import os, signal, sys, threading, warnings
from dask_annoy.demo.corpus import collect_passages
def state():
    handlers = [signal.getsignal(s) for s in sorted(signal.valid_signals())]
    process = os.getcwd(), os.listdir(), dict(os.environ), handlers
    return set(sys.modules), process, sys.path[:], warnings.filters[:]
before = state()
assert len(collect_passages(())) > 3000
after = state()
assert before[1:] == after[1:]
assert after[0] - before[0] <= {"encodings.idna", "stringprep", "unicodedata"}, after[0] - before[0]
assert "antigravity" not in sys.modules
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_no_child_thread_or_folder_stays_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    threads = set(threading.enumerate())
    collect_passages(())
    deadline = time.monotonic() + 5
    while set(threading.enumerate()) - threads and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not set(threading.enumerate()) - threads
    assert list(tmp_path.iterdir()) == []


def test_imports_that_act_do_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_package(
        tmp_path,
        "acts_on_import",
        prints="import os, sys\nprint('{\"passages\": []}')\nos.write(1, b'noise')\n",
        leaves="raise SystemExit(3)\n",
        raises="raise RuntimeError('no')\n",
        strange="__all__ = 7\nclass Odd:\n    def __getattr__(self, name): raise OSError()\nodd = Odd()\n",
        writes="open('dropped', 'w').close()\n",
        wants="import a_package_that_nobody_has\n",
        zero='def works():\n    """This function is documented in spite of its neighbours."""\n',
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    names = {passage.name for passage in collect_passages(["acts_on_import"])}
    assert "acts_on_import.zero.works" in names
    assert "csv.reader" in names
    assert [path.name for path in tmp_path.iterdir()] == ["acts_on_import"]
    assert "acts_on_import" not in sys.modules


@pytest.mark.parametrize(
    "source",
    ["import time\ntime.sleep(600)\n", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n"],
    ids=["hangs", "kills"],
)
def test_a_module_that_hangs_or_kills_is_left_out_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, source: str
) -> None:
    good = 'def works():\n    """This function is documented in spite of its neighbour."""\n'
    make_package(tmp_path, "has_a_bad_module", bad=source, good=good)
    monkeypatch.syspath_prepend(str(tmp_path))
    with caplog.at_level(logging.WARNING):
        names = {passage.name for passage in collect_passages(["has_a_bad_module"], patience=4)}
    assert "has_a_bad_module.good.works" in names
    assert "has_a_bad_module.bad" in caplog.text


def test_running_out_of_time_is_an_error_that_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_package(tmp_path, "aaa_hangs_first", bad="import time\ntime.sleep(600)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    # The test's own time limit is shorter than the module's sleep.
    with pytest.raises(CorpusTimeoutError, match=r"aaa_hangs_first\.bad"):
        collect_passages(["aaa_hangs_first"], timeout=3)


def test_a_stray_file_of_the_caller_does_not_replace_the_standard_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "colorsys.py").write_text('"""A file of the user, who likes this name."""\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    texts = [passage.text for passage in collect_passages(()) if passage.name == "colorsys"]
    assert texts
    assert not [text for text in texts if "likes this name" in text]


def test_an_interrupt_ends_the_child_as_well(tmp_path: Path) -> None:
    check = """
import signal, subprocess, threading, _thread
from dask_annoy.demo import corpus
children = []
start = subprocess.Popen
def noted(*args, **kwargs):
    children.append(start(*args, **kwargs))
    return children[-1]
subprocess.Popen = noted
threading.Timer(0.5, _thread.interrupt_main).start()
try:
    corpus.collect_passages()
except KeyboardInterrupt:
    assert children[0].returncode == -signal.SIGKILL
    print("ended")
"""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "TMPDIR": str(tmp_path),
    }
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, env=environment)
    assert (done.stdout, done.stderr) == ("ended\n", "")
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGINT) is not None

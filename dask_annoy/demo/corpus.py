"""The demo's texts: the documentation that every machine with Python, numpy and dask already has.

Collecting means importing, and imports may print, warn, hang, crash or change their process. So this
file runs itself as a child process, which imports and reads, and the parent only receives JSON lines.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import json
import logging
import os
import pkgutil
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import IO

__all__ = ["CorpusTimeoutError", "Passage", "collect_passages"]

_log = logging.getLogger(__name__)

PACKAGES = ("numpy", "dask")
"""Packages read besides the standard library and Python's help topics."""

# Modules left out with all that is below them. Names with a leading underscore are never read.
_SKIPPED = {
    "antigravity": "opens a web browser when imported",
    "this": "prints a poem when imported",
    "idlelib": "a graphical application; needs tkinter",
    "tkinter": "needs a display library",
    "turtle": "needs tkinter",
    "turtledemo": "needs tkinter",
    "test": "Python's own tests; some act on import",
    "ctypes.test": "tests",
    "lib2to3": "deprecated; writes grammar caches",
    "distutils": "deprecated, and replaced by setuptools through an import hook",
    "ensurepip": "installs pip",
    "encodings": "some hundred tables without documentation",
    "posix": "the platform's part of os, which has its names too",
    "nt": "the platform's part of os, which has its names too",
    "pydoc_data": "read as help topics",
    "xxlimited": "an example of an extension module",
    "xxlimited_35": "an example of an extension module",
    "xxsubtype": "an example of an extension module",
    "numpy.core": "deprecated names of private modules; warns",
    "numpy.distutils": "deprecated; replaces parts of setuptools when imported",
    "numpy.f2py": "a compiler driver",
    "numpy.matlib": "deprecated; warns, and repeats numpy",
    "numpy.typing.mypy_plugin": "needs mypy",
}
_SKIPPED_PARTS = {"tests", "conftest", "utils_test", "setup"}  # tests and build scripts, anywhere

_SHORT_SUMMARY = 20  # characters: a shorter first paragraph takes in the next one
_SHORT = 120  # characters: any other shorter paragraph joins the one before it
_LONG = 900  # characters: a longer paragraph is cut between its lines


class CorpusTimeoutError(TimeoutError):
    """The child process that reads the documentation did not finish in time."""


@dataclass(frozen=True, slots=True)
class Passage:
    """One paragraph of documentation.

    Attributes
    ----------
    name : str
        What the paragraph documents, e.g. ``heapq.merge``, or ``help: LAMBDA`` for a help topic.
    text : str
        The paragraph on one line, without mark-up.
    paragraph : int
        Its place in the documentation of `name`, from 1.
    """

    name: str
    text: str
    paragraph: int = 1

    @property
    def id(self) -> str:
        """The name, and the number of the paragraph from the second one on: unique in a corpus."""
        return self.name if self.paragraph == 1 else f"{self.name} ¶{self.paragraph}"

    @property
    def searchable_text(self) -> str:
        """The text to embed: the words of the name come first, because a name tells a lot."""
        words = _name_in_words(self.name)
        return f"{words}. {self.text}"


def collect_passages(
    packages: Sequence[str] = PACKAGES, *, patience: float = 20.0, timeout: float = 90.0
) -> list[Passage]:
    """Read the documentation of the standard library, of `packages` and of Python's help topics.

    Everything is imported in a child process; the caller's process is left as it was. A module
    that cannot be imported is left out, and so is one that hangs or kills the child: the child is
    started again without it, and a warning is logged.

    Parameters
    ----------
    packages : sequence of str
        Packages to read besides the standard library.
    patience : float
        Seconds that a single import may take.
    timeout : float
        Seconds after which to give up altogether.

    Returns
    -------
    list of Passage
        In a fixed order, sorted by name, with unique ids and no text twice.

    Raises
    ------
    CorpusTimeoutError
        If `timeout` passes first.
    """
    deadline = time.monotonic() + timeout
    left_out: list[str] = []
    while True:
        child = _Child(packages, left_out)
        try:
            for line in child.lines(patience, deadline):
                if "passages" in line:
                    return [Passage(*fields) for fields in line["passages"]]
        finally:
            child.kill()
        if time.monotonic() >= deadline:
            raise CorpusTimeoutError(
                f"reading the documentation of the standard library and {', '.join(packages)} took more than "
                f"{timeout:g} s; the child process was at {child.at!r}"
            )
        if child.at in left_out or not child.at:
            raise RuntimeError(
                "the child process that reads the documentation ended without an answer; it was started as "
                f"{sys.executable} {__file__}"
            )
        _log.warning("left out of the demo: %s hangs or kills Python when it is read", child.at)
        left_out.append(child.at)


# --- the parent's side -------------------------------------------------------------------------------


class _Child:
    """A process of this file's `_main`, in its own session and folder, cut off from the terminal."""

    def __init__(self, packages: Sequence[str], left_out: Sequence[str]) -> None:
        self.at = ""  # the module being read
        # What an import may drop or look for stays in a folder of its own; no browser, no display.
        self._folder = tempfile.TemporaryDirectory(prefix="dask-annoy-demo-", ignore_cleanup_errors=True)
        environment = {k: v for k, v in os.environ.items() if k not in {"DISPLAY", "WAYLAND_DISPLAY"}}
        environment |= {"PYTHONWARNINGS": "ignore", "PYTHONIOENCODING": "utf-8", "BROWSER": "true"}
        # Run by path and told the caller's sys.path, so that it finds the same packages however
        # dask_annoy was installed.
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).resolve())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self._folder.name,
            env=environment,
            start_new_session=True,
            encoding="utf-8",
        )
        request = {
            "packages": list(packages),
            "left_out": list(left_out),
            "path": [str(Path(entry).resolve()) for entry in sys.path if entry],
        }
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError), self._process.stdin as stdin:
            json.dump(request, stdin)

    def lines(self, patience: float, deadline: float) -> Iterator[dict[str, list[tuple[str, str, int]]]]:
        """Yield what the child reports, until it ends, stalls for `patience` seconds or is out of time."""
        assert self._process.stdout is not None
        received: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=_pump, args=(self._process.stdout, received), daemon=True).start()
        while True:
            wait = min(patience, deadline - time.monotonic())
            try:
                line = received.get(timeout=max(wait, 0.001))
            except queue.Empty:
                return
            if not line:
                return
            message = json.loads(line)
            self.at = message.get("at", self.at)
            yield message

    def kill(self) -> None:
        """End the child, and whatever it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._folder.cleanup()


def _pump(source: IO[str], received: queue.SimpleQueue[str]) -> None:
    """Move lines to the queue; the empty string marks the end."""
    with source, contextlib.suppress(ValueError, OSError):
        for line in source:
            received.put(line)
    received.put("")


# --- the child's side: modules and objects -----------------------------------------------------------


def _main() -> None:
    """Answer one request from standard input, on what was standard output when the process began."""
    request = json.load(sys.stdin)
    # Imports may print: they get /dev/null, and only this function knows the pipe.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    warnings.simplefilter("ignore")
    # Appended, so that a stray random.py beside the caller's script cannot stand in for the real one.
    sys.path += [entry for entry in request["path"] if entry not in sys.path]

    def report(**message: object) -> None:
        json.dump(message, answers)
        answers.write("\n")
        answers.flush()

    skipped = {*_SKIPPED, *request["left_out"], os.path.__name__}  # os.path is read by that name
    modules = list(_public_modules(request["packages"], skipped, lambda name: report(at=name)))
    report(at="help topics")
    topics = _help_topics()
    documented = _documented_objects(modules, lambda name: report(at=name))
    report(at="paragraphs")
    report(passages=list(_passages(documented, topics)))
    answers.close()
    os._exit(0)  # threads and exit handlers of what was imported are of no interest


def _public_modules(
    packages: Iterable[str], skipped: set[str], announce: Callable[[str], None]
) -> Iterator[tuple[str, ModuleType]]:
    """Import all public modules and yield them with the name that they were imported by."""
    waiting = sorted({*sys.stdlib_module_names, *packages, "os.path"}, reverse=True)
    while waiting:
        name = waiting.pop()
        parts = name.split(".")
        if name in skipped or any(part.startswith("_") or part in _SKIPPED_PARTS for part in parts):
            continue
        announce(name)
        try:
            module = importlib.import_module(name)
            below = sorted(f"{name}.{found.name}" for found in pkgutil.iter_modules(getattr(module, "__path__", ())))
        except KeyboardInterrupt:
            raise
        except BaseException:  # whatever an import may raise, SystemExit included
            continue
        waiting.extend(reversed(below))
        yield name, module


def _documented_objects(modules: Sequence[tuple[str, ModuleType]], announce: Callable[[str], None]) -> dict[str, str]:
    """Map the best public name of each module, class, function and method to its docstring."""
    best: dict[int, tuple[tuple[bool, bool, int, str], str, object]] = {}

    def offer(rank: tuple[bool, bool], name: str, thing: object) -> None:
        shown = name.removeprefix("builtins.")
        key = (*rank, len(shown), shown)
        if id(thing) not in best or key < best[id(thing)][0]:
            best[id(thing)] = (key, shown, thing)

    for module_name, module in modules:
        announce(module_name)
        offer((False, False), module_name, module)
        listed = set(_strings(getattr(module, "__all__", ())))
        own_roots = {module_name.partition(".")[0], module.__name__.partition(".")[0], "builtins"}
        if module_name == "builtins":
            listed = set(vars(module))
        for attribute in sorted(listed | set(vars(module))):
            if attribute.startswith("_") or (listed and attribute not in listed):
                continue
            try:
                thing = getattr(module, attribute)
                home = getattr(thing, "__module__", None) or module_name
                documented = callable(thing) and bool(_own_doc(thing))
            except Exception:
                continue
            if not isinstance(home, str):
                home = module_name
            root = home.partition(".")[0]
            foreign = root not in own_roots and not root.startswith("_") and module_name != "builtins"
            if (not documented and not inspect.isclass(thing)) or (foreign and attribute not in listed):
                continue
            # An accelerator's object that is not listed here was only imported for use here.
            borrowed = root.startswith("_") and attribute not in listed
            offer((foreign, borrowed), f"{module_name}.{attribute}", thing)

    found: dict[str, str] = {}
    for _, name, thing in sorted(best.values(), key=lambda entry: entry[0]):
        # A thing without a text leaves its name to another: dask.delayed is a module and a function.
        if doc := _own_doc(thing):
            found.setdefault(name, doc)
        if inspect.isclass(thing):
            for attribute, member in sorted(vars(thing).items()):
                if not attribute.startswith("_"):
                    found.setdefault(f"{name}.{attribute}", _member_doc(member))
    return {name: doc for name, doc in found.items() if doc}


def _strings(value: object) -> list[str]:
    """Return the strings of what should be a list of strings."""
    return [item for item in value if isinstance(item, str)] if isinstance(value, list | tuple) else []


def _own_doc(thing: object) -> str:
    """Return the docstring that belongs to `thing` and is not its type's or base class's."""
    doc = vars(thing).get("__doc__") if inspect.isclass(thing) else getattr(thing, "__doc__", None)
    if inspect.isclass(thing) and not isinstance(doc, str):
        doc = thing.__doc__ if "__doc__" in vars(thing) else None
    if not isinstance(doc, str) or doc == type(thing).__doc__:
        return ""
    return inspect.cleandoc(doc)


def _member_doc(member: object) -> str:
    """Return the docstring of a method or property."""
    if isinstance(member, staticmethod | classmethod):
        member = member.__func__
    described = callable(member) or inspect.isdatadescriptor(member) or inspect.ismethoddescriptor(member)
    try:
        return _own_doc(member) if described and not inspect.isclass(member) else ""
    except Exception:
        return ""


def _help_topics() -> dict[str, str]:
    """Map ``help: NAME`` to the text of Python's help topics; NAME is what ``help("NAME")`` takes."""
    try:
        from pydoc import Helper
        from pydoc_data.topics import topics
    except ImportError:  # some distributions ship it apart
        return {}
    names: dict[str, str] = {}
    for table in (Helper.keywords, Helper.topics):
        for name, entry in table.items():
            label = entry[0] if isinstance(entry, tuple) else entry
            names.setdefault(label, name)
    return {f"help: {names.get(label, label)}": text for label, text in topics.items()}


# --- the child's side: paragraphs --------------------------------------------------------------------

_UNDERLINE = re.compile(r"^\s*([-=~*^\"#+])\1{2,}\s*$")
_DIRECTIVE = re.compile(r"^\s*\.\. [\w-]+::.*$")
_LINK = re.compile(r"^\s*\.\. (?:_|\[).*$")
_ROLE = re.compile(r":[\w:+-]+:`~?([^`<]*?)(?:\s*<[^`>]*>)?`")
_PARAMETER_FIELD = re.compile(r"^\s*:(?:param|type|returns?|rtype|raises?)\b\s*([^:]*):", re.MULTILINE)
_SIGNATURE = re.compile(r"^[\w.]+\((?:[^()]|\([^()]*\))*\)(?:\s*(?:->|=)\s*[\w\[\], .]+)?$")
_DROPPED_SECTIONS = {"see also", "references", "related help topics"}
_BOILERPLATE = re.compile(
    r"^(?:This docstring was copied from .*|Some inconsistencies with the .* version may exist\.?"
    r"|Alias for field number \d+|An enumeration\.|The type of the None singleton\."
    r"|Initialize self\. .*|Scalar method identical to .*|list of weak references.*"
    r"|(?:Read-only )?[Pp]roperty\.?)$"
)


def _passages(documented: dict[str, str], topics: dict[str, str]) -> Iterator[tuple[str, str, int]]:
    """Yield (name, text, paragraph) sorted by name; of equal texts the one with the shortest name."""
    seen: dict[str, tuple[str, int]] = {}
    everything = documented | topics
    for name in sorted(everything, key=lambda name: (len(name), name)):
        for number, text in enumerate(_paragraphs(name, everything[name]), start=1):
            seen.setdefault(text, (name, number))
    rows = ((name, text, number) for text, (name, number) in seen.items())
    yield from sorted(rows, key=lambda row: (row[0], row[2]))


def _paragraphs(name: str, doc: str) -> list[str]:
    """Split a docstring at blank lines into cleaned paragraphs of sensible length."""
    paragraphs: list[str] = []
    section = ""
    blocks = re.split(r"\n\s*\n", doc.replace("\r\n", "\n"))
    for block in blocks:
        heading, lines = _without_markup(block.split("\n"))
        section = heading or section
        if section in _DROPPED_SECTIONS:
            continue
        for piece in _pieces(lines):
            text = _plain(piece)
            if not re.search(r"[^\W\d]{3}", text) or _BOILERPLATE.match(text):
                continue
            if not paragraphs and _SIGNATURE.match(text):
                continue  # the call without a word about it: the name says as much
            short = len(paragraphs[-1]) < _SHORT_SUMMARY if len(paragraphs) == 1 else False
            late = len(paragraphs) > 1 and (len(text) < _SHORT or len(paragraphs[-1]) < _SHORT)
            if paragraphs and (short or (late and len(paragraphs[-1]) + len(text) < _LONG)):
                paragraphs[-1] = f"{paragraphs[-1]} {text}"
            else:
                paragraphs.append(text)
    return [text for text in paragraphs if len(text) >= _SHORT_SUMMARY or name.count(".") <= 1]


def _without_markup(lines: list[str]) -> tuple[str, list[str]]:
    """Drop doctests, underlines and directives; return the section heading, in lower case, if any."""
    heading = ""
    kept: list[str] = []
    in_doctest = False
    for line in lines:
        if line.lstrip().startswith((">>>", "In [")):
            in_doctest = True
        if in_doctest or _DIRECTIVE.match(line) or _LINK.match(line):
            continue
        if _UNDERLINE.match(line):
            if kept:
                heading = kept[-1].strip().lower()
                if heading in _NUMPYDOC_SECTIONS:
                    kept[-1] = "" if heading in {"notes", "examples"} else kept[-1].strip() + ":"
            continue
        kept.append(line)
    return heading, kept


_NUMPYDOC_SECTIONS = {
    "parameters", "returns", "yields", "raises", "notes", "examples", "attributes", "methods", "warns",
    "other parameters", "see also", "references", "warnings",
}  # fmt: skip


def _pieces(lines: list[str]) -> Iterator[str]:
    """Cut a long block between its lines, before those with the least indentation if it has such."""
    piece: list[str] = []
    size = 0
    for line in lines:
        if size + len(line) > _LONG and (not line.startswith(" ") or size > 2 * _LONG):
            yield "\n".join(piece)
            piece, size = [], 0
        piece.append(line)
        size += len(line)
    yield "\n".join(piece)


def _plain(text: str) -> str:
    """Return `text` on one line without reStructuredText mark-up."""
    text = _ROLE.sub(r"\1", text)
    text = _PARAMETER_FIELD.sub(r" \1:", text)
    text = re.sub(r"\[\d+\]_|\*\*|``?|(?<!\w)\*(?=\w)|(?<=\w)\*(?!\w)|::(?=\s|$)", " ", text.replace("::", ":"))
    text = re.sub(r"\s+([.,;:)])", r"\1", text)
    return " ".join(text.split())


def _name_in_words(name: str) -> str:
    """Split ``numpy.random.Generator.standard_normal`` into its words."""
    name = name.removeprefix("help: ")
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    return " ".join(re.split(r"[\W_]+", name)).strip().lower()


if __name__ == "__main__":
    _main()

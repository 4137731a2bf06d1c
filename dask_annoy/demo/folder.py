"""The demo's folder: what lies in it, which versions it was made with, and one run at a time."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from platform import python_version
from typing import BinaryIO, Final, Self

import platformdirs

from dask_annoy.demo.corpus import Passage
from dask_annoy.storage.local_files import staged

__all__ = ["DemoFolder", "DemoState", "default_folder"]

_FORMAT: Final = 1  # counts up when the files, the corpus or the embedding change
_VERSIONED: Final = ("dask-annoy", "numpy", "dask", "distributed")


def default_folder() -> Path:
    """A folder in the user's cache: found again from anywhere, nothing that a run could not make again."""
    return platformdirs.user_cache_path("dask-annoy") / "demo"


@dataclass(frozen=True)
class DemoState:
    """What the folder's JSON file says.

    Attributes
    ----------
    versions : dict
        Of everything that the texts and files follow from.
    recall : float or None
        Measured when all was built; None as long as it was not.
    recall_queries : int
        Number of questions it was measured on.
    """

    versions: dict[str, str]
    recall: float | None = None
    recall_queries: int = 0

    @classmethod
    def current(cls) -> Self:
        """The state of a folder where nothing was built yet, with the versions that are installed."""
        installed = {name: metadata.version(name) for name in _VERSIONED}
        return cls({"format": str(_FORMAT), "python": python_version(), **installed})


class DemoFolder:
    """A folder that holds the demo, or will. Each file is there whole or not at all.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.embedding = self.path / "embedding.npz"
        self.vectors = self.path / "vectors.npy"
        self.ids = self.path / "ids.npy"
        self.index = self.path / "index"
        self._passages = self.path / "passages.json"
        self._state = self.path / "demo.json"

    @contextlib.contextmanager
    def lock(self, on_wait: Callable[[], None]) -> Iterator[None]:
        """Keep other runs out; `on_wait` is called if one has to be waited for.

        Raises
        ------
        ValueError
            If the folder is in use for something else.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        others = [name for name in os.listdir(self.path) if not name.startswith(".")]  # noqa: PTH208 - names only
        if others and not self._state.exists():
            raise ValueError(f"{self.path} is not empty and holds no demo: give another folder, or an empty one")
        with (self.path / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                on_wait()
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def state(self) -> DemoState | None:
        """What was built, if anything was, by whichever versions."""
        try:
            document = json.loads(self._state.read_text())
            return DemoState(**document)
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def begin(self, state: DemoState) -> None:
        """Remove what was built before, and say what is to be built now."""
        self.write_state(replace(state, recall=None))
        for path in (self._passages, self.embedding, self.vectors, self.ids):
            path.unlink(missing_ok=True)
        if self.index.exists():
            shutil.rmtree(self.index)

    def write_state(self, state: DemoState) -> None:
        """Replace the JSON file."""
        self.write(self._state, lambda file: file.write(json.dumps(asdict(state), indent=1).encode()))

    def passages(self) -> list[Passage] | None:
        """The texts, if they were collected."""
        try:
            content = self._passages.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        return [Passage(*fields) for fields in json.loads(content)]

    def write_passages(self, passages: Sequence[Passage]) -> None:
        """Keep the texts."""
        rows = [(passage.name, passage.text, passage.paragraph) for passage in passages]
        self.write(self._passages, lambda file: file.write(json.dumps(rows, ensure_ascii=False).encode()))

    def write(self, path: Path, fill: Callable[[BinaryIO], object]) -> None:
        """Write a file of the folder; it has its name only when it is complete."""
        with staged(path, fill) as half:
            half.replace(path)

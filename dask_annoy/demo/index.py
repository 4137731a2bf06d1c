"""`prepare`: from an empty folder to an index that answers questions, continuing where an earlier run stopped."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from dask_annoy.cluster import QueryResult, ShardedIndex, build_index, exact_neighbors, open_index, recall
from dask_annoy.demo.corpus import Passage, collect_passages
from dask_annoy.demo.embedding import TextEmbedding
from dask_annoy.demo.folder import DemoFolder, DemoState, default_folder
from dask_annoy.errors import IndexNotFoundError

if TYPE_CHECKING:
    from dask_annoy.cluster.executor import ClientLike

__all__ = ["Answer", "Demo", "Step", "prepare"]

Made = TypeVar("Made")

_SHARD_ROWS: Final = 4000  # some five shards
_TARGET_RECALL: Final = 0.95
_RECALL_QUERIES: Final = 1000
_WORDS_OF_QUERY: Final = 8
_CANDIDATES: Final = 30  # looked at for a few different names


@dataclass(frozen=True)
class Step:
    """A step that was taken: what it was, what came out, how long it took."""

    name: str
    result: str
    seconds: float


@dataclass(frozen=True)
class Answer:
    """What a question was answered with: the best paragraph of one name."""

    passage: Passage
    distance: float

    @property
    def similarity(self) -> float:
        """Cosine of the angle between question and paragraph."""
        return 1 - self.distance**2 / 2


class Demo:
    """A demo that was built.

    Attributes
    ----------
    folder : DemoFolder
    index : ShardedIndex
    state : DemoState
    steps : list of Step
        What this call of `prepare` had to do.
    """

    def __init__(
        self,
        folder: DemoFolder,
        index: ShardedIndex,
        passages: Sequence[Passage],
        embedding: TextEmbedding,
        state: DemoState,
        steps: Sequence[Step],
    ) -> None:
        self.folder, self.index, self.state, self.steps = folder, index, state, list(steps)
        self._passages = {passage.id: passage for passage in passages}
        self._embedding = embedding

    def ask(self, question: str, n: int = 3) -> list[Answer]:
        """The `n` names whose documentation is closest to a question; none if it has no known word."""
        unknown, vector = self._embedding.transform(["", question])
        if np.array_equal(vector, unknown):
            return []
        ids, distances = self.index.query(vector, _CANDIDATES)
        best: dict[str, Answer] = {}
        for item, distance in zip(ids, distances, strict=True):
            if item is not None:
                passage = self._passages[item]
                best.setdefault(passage.name, Answer(passage, float(distance)))
        return list(best.values())[:n]


def prepare(
    path: Path | None = None,
    *,
    rebuild: bool = False,
    client: ClientLike = False,
    on_start: Callable[[str], None] | None = None,
    on_step: Callable[[Step], None] | None = None,
) -> Demo:
    """Open the demo in a folder; build what is missing of it first.

    Parameters
    ----------
    path : Path, optional
        A local folder; `default_folder()` if not given.
    rebuild : bool
        Build all anew. Happens by itself if Python, numpy, Dask or dask-annoy have another version than when it was
        built.
    client : distributed.Client or False
        Where the index is built and asked.
    on_start, on_step : callable, optional
        Called with the name of each step that is begun, and with the step when it is done.

    Raises
    ------
    ValueError
        If the folder is in use for something else.
    """
    folder = DemoFolder(default_folder() if path is None else path)
    steps = _Steps(on_start or _ignore, on_step or _ignore)
    with folder.lock(lambda: steps.note("another run is at work in this folder: waiting for it …")):
        state = folder.state()
        current = DemoState.current()
        if state is None or state.versions != current.versions or rebuild:
            folder.begin(current)
            state = current
        passages = folder.passages()
        if passages is None:
            passages = steps.take(
                "reading the documentation", collect_passages, lambda found: f"{len(found):,} paragraphs"
            )
            folder.write_passages(passages)
        embedding = _embedding(folder, passages, steps)
        if state.recall is not None:
            try:
                index = open_index(folder.index, client=client)
            except IndexNotFoundError:  # deleted by hand
                state = replace(state, recall=None)
        if state.recall is None:
            index = _build(folder, passages, embedding, client, steps)
            state = _measured(folder, state, passages, embedding, client, index, steps)
    return Demo(folder, index, passages, embedding, state, steps.taken)


def _embedding(folder: DemoFolder, passages: Sequence[Passage], steps: _Steps) -> TextEmbedding:
    if folder.embedding.exists():
        return TextEmbedding.load(folder.embedding)
    texts = [passage.searchable_text for passage in passages]
    embedding = steps.take(
        "learning an embedding", lambda: TextEmbedding.fit(texts), lambda made: f"{made.width} dimensions"
    )
    embedding.save(half := folder.embedding.with_name(".tmp-embedding"))
    half.replace(folder.embedding)
    return embedding


def _build(
    folder: DemoFolder, passages: Sequence[Passage], embedding: TextEmbedding, client: ClientLike, steps: _Steps
) -> ShardedIndex:
    if not (folder.vectors.exists() and folder.ids.exists()):
        texts = [passage.searchable_text for passage in passages]
        vectors = steps.take(
            "embedding the paragraphs", lambda: embedding.transform(texts), lambda rows: f"{len(rows):,} vectors"
        )
        names = np.array([passage.id for passage in passages])
        folder.write(folder.ids, lambda file: np.save(file, names))
        folder.write(folder.vectors, lambda file: np.save(file, vectors))

    def build() -> ShardedIndex:
        return build_index(
            folder.vectors,
            folder.index,
            ids=str(folder.ids),
            shard_rows=_SHARD_ROWS,
            target_recall=_TARGET_RECALL,
            overwrite=True,  # of an index that an earlier state of this folder left behind
            client=client,
        )

    return steps.take("building the index", build, lambda index: f"{index.n_shards} shards")


def _measured(
    folder: DemoFolder,
    state: DemoState,
    passages: Sequence[Passage],
    embedding: TextEmbedding,
    client: ClientLike,
    index: ShardedIndex,
    steps: _Steps,
) -> DemoState:
    """Recall on the first words of some paragraphs, as short as questions are: vectors that the index has not seen."""
    chosen = random.Random(0).sample(passages, min(_RECALL_QUERIES, len(passages)))
    queries = embedding.transform([" ".join(passage.text.split()[:_WORDS_OF_QUERY]) for passage in chosen])

    def measure() -> float:
        exact = exact_neighbors(folder.vectors, queries, client=client)
        return recall(index.query(queries), QueryResult(_named(exact.ids, passages), exact.distances))

    share = steps.take("comparing with exact search", measure, lambda found: f"recall@10 {found:.3f}")
    state = replace(state, recall=share, recall_queries=len(queries))
    folder.write_state(state)
    return state


def _named(rows: npt.NDArray[Any], passages: Sequence[Passage]) -> npt.NDArray[Any]:
    ids = np.array([*(passage.id for passage in passages), None], object)  # the last is what -1 stands for
    named: npt.NDArray[Any] = ids[rows]
    return named


class _Steps:
    """Takes steps, and tells of them."""

    def __init__(self, on_start: Callable[[str], None], on_step: Callable[[Step], None]) -> None:
        self.taken: list[Step] = []
        self.note, self._on_step = on_start, on_step

    def take(self, name: str, make: Callable[[], Made], describe: Callable[[Made], str]) -> Made:
        self.note(name)
        started = time.monotonic()
        made = make()
        self.taken.append(Step(name, describe(made), time.monotonic() - started))
        self._on_step(self.taken[-1])
        return made


def _ignore(what: object) -> None:
    del what

"""The corpus and its embedding, made once: they are what most of these tests look at."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from dask_annoy.demo.corpus import Passage, collect_passages
from dask_annoy.demo.embedding import TextEmbedding


@pytest.fixture(scope="session")
def passages() -> list[Passage]:
    return collect_passages()


@pytest.fixture(scope="session")
def embedding(passages: list[Passage]) -> TextEmbedding:
    return TextEmbedding.fit([passage.searchable_text for passage in passages])


@pytest.fixture(scope="session")
def vectors(passages: list[Passage], embedding: TextEmbedding) -> NDArray[np.float32]:
    return embedding.transform([passage.searchable_text for passage in passages])

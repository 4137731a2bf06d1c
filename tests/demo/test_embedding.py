from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dask_annoy.demo.corpus import Passage
from dask_annoy.demo.embedding import TextEmbedding
from dask_annoy.demo.questions import QUESTIONS

Vectors = NDArray[np.float32]


def answers(question: str, k: int, passages: list[Passage], embedding: TextEmbedding, vectors: Vectors) -> list[str]:
    similarity = vectors @ embedding.transform([question])[0]
    return [passages[row].name for row in np.argsort(-similarity, kind="stable")[:k]]


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("read a csv file", "csv.reader"),
        ("merge two sorted lists", "heapq.merge"),
        ("sort an array", "numpy.sort"),
        ("run a function in another thread", "asyncio.to_thread"),
        ("parse command line arguments", "argparse.ArgumentParser"),
        ("compress a file", "gzip.compress"),
        ("random numbers from a normal distribution", "numpy.random.normal"),
        ("matrix inverse", "numpy.linalg.inv"),
        ("temporary directory", "tempfile.TemporaryDirectory"),
        ("distributed task scheduling", "dask.distributed.Scheduler"),
        ("walk through a directory tree", "os.walk"),
        ("connect to a database", "sqlite3.connect"),
        ("round a number to two digits", "round"),
    ],
)
def test_plain_questions_find_what_a_person_would_name(
    question: str, expected: str, passages: list[Passage], embedding: TextEmbedding, vectors: Vectors
) -> None:
    assert expected in answers(question, 3, passages, embedding, vectors)


def test_the_demo_asks_five_or_six_questions_that_are_close_to_their_answers(
    embedding: TextEmbedding, vectors: Vectors
) -> None:
    assert 5 <= len(QUESTIONS) <= 6
    assert ((embedding.transform(QUESTIONS) @ vectors.T).max(axis=1) > 0.8).all()


def test_vectors_are_unit_float32_rows_of_the_width(passages: list[Passage], vectors: Vectors) -> None:
    assert vectors.shape == (len(passages), 256)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_fitting_again_gives_the_same_vectors(passages: list[Passage]) -> None:
    texts = [passage.searchable_text for passage in passages[:3000]]
    first, second = (TextEmbedding.fit(texts, width=64, seed=5).transform(texts) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_another_seed_finds_the_same_space(passages: list[Passage]) -> None:
    texts = [passage.searchable_text for passage in passages[:3000]]
    first, second = (TextEmbedding.fit(texts, width=64, seed=seed).transform(texts) for seed in (0, 1))
    assert np.abs(first[:500] @ first.T - second[:500] @ second.T).mean() < 0.1


def test_a_saved_embedding_gives_the_same_vectors(
    embedding: TextEmbedding, passages: list[Passage], vectors: Vectors, tmp_path: Path
) -> None:
    embedding.save(tmp_path / "embedding")
    loaded = TextEmbedding.load(tmp_path / "embedding")
    assert loaded.width == 256
    texts = [passage.searchable_text for passage in passages[:200]]
    np.testing.assert_array_equal(loaded.transform(texts), vectors[:200])
    assert (tmp_path / "embedding").stat().st_size < 100e6


@pytest.mark.parametrize("damage", ["text", "pickle", "other arrays", "cut", "empty"])
def test_a_file_that_is_no_embedding_is_refused_by_name(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "embedding.npz"
    if damage == "text":
        path.write_text("not a zip file")
    elif damage == "pickle":
        np.savez(path, features=np.array([{"a": 1}], dtype=object))
    elif damage == "other arrays":
        np.savez(path, features=np.arange(3), weights=np.ones(3), basis=np.ones((2, 4)), typical=np.ones(4))
    elif damage == "empty":
        path.touch()
    else:
        TextEmbedding.fit(["some words", "other words"], width=4).save(path)
        path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"embedding\.npz is not a text embedding"):
        TextEmbedding.load(path)


def test_no_texts_give_no_vectors(embedding: TextEmbedding) -> None:
    assert embedding.transform([]).shape == (0, 256)
    assert embedding.transform([]).dtype == np.float32


@pytest.mark.parametrize("text", ["", "   ", "?!…", "the of and", "ⵣⵣⵣⵣ ⵥⵥⵥⵥ"])
def test_a_text_without_a_known_word_gets_the_mean_direction(
    embedding: TextEmbedding, vectors: Vectors, text: str
) -> None:
    vector = embedding.transform([text])[0]
    np.testing.assert_allclose(np.linalg.norm(vector), 1, atol=1e-5)
    assert vector @ (vectors.mean(axis=0) / np.linalg.norm(vectors.mean(axis=0))) > 0.999


def test_a_text_has_the_same_vector_alone_and_among_others(embedding: TextEmbedding) -> None:
    texts = ["read a csv file", "", "sort an array"]
    together = embedding.transform(texts)
    for text, vector in zip(texts, together, strict=True):
        np.testing.assert_array_equal(embedding.transform([text])[0], vector)


def test_endings_of_words_matter_little(embedding: TextEmbedding) -> None:
    first, second = embedding.transform(["compressing files", "compress a file"])
    assert first @ second > 0.9


@pytest.mark.parametrize("texts", [["word"], ["red green", "green blue"], ["a b c"] * 3 + ["word " * 50]])
def test_a_tiny_corpus_is_enough(texts: list[str]) -> None:
    vectors = TextEmbedding.fit(texts, width=8).transform(texts)
    assert vectors.shape == (len(texts), 8)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("texts", [[], [""], ["the", "of"]])
def test_a_corpus_without_words_is_refused(texts: list[str]) -> None:
    with pytest.raises(ValueError, match="no words"):
        TextEmbedding.fit(texts)


def test_a_width_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="width is 0"):
        TextEmbedding.fit(["some words"], width=0)

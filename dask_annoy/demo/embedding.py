"""Vectors of texts in numpy alone: hashed words and character n-grams, tf-idf, leading eigenvectors.

The method is latent semantic analysis (Deerwester et al., 1990) on hashed features, its eigenvectors
found by randomised subspace iteration (Halko, Martinsson & Tropp, 2011). It needs no download and
knows no language; it is a good enough embedding for a demo, not a substitute for a language model.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

__all__ = ["TextEmbedding"]

_BUCKETS = 1 << 30  # for each kind of feature; only those in use take space
_WORDS, _PAIRS, _GRAMS = range(3)
_SHARES = np.array([1.0, 0.3, 0.3], np.float32)  # length that words, word pairs, n-grams have in a text's row
_GRAM_SIZES = (3, 4, 5)
_RARE = 5  # a feature of fewer texts cannot tie texts together …
_RARE_FROM = 1000  # … but in a small corpus nearly all are rare
_IDF_POWER = 2.25  # rare words say more: with 1, common ones take up the eigenvectors, and "lambda" is lost
_OVERSAMPLING = 32
_ITERATIONS = 2


@dataclass(frozen=True, slots=True)
class _Rows:
    """A sparse matrix by rows: row i holds columns[starts[i]:starts[i + 1]] and their values."""

    starts: NDArray[np.int64]
    columns: NDArray[np.int64]
    values: NDArray[np.float32]

    def __matmul__(self, dense: NDArray[np.float32]) -> NDArray[np.float32]:
        # One small product a row: the gathered rows stay in the processor's cache, which makes this
        # four times faster than any form that handles many rows at once in numpy. Not np.dot, whose
        # threads would wait for each other on a busy machine.
        result = np.zeros((len(self.starts) - 1, dense.shape[1]), np.float32)
        for row, (start, stop) in enumerate(pairwise(self.starts.tolist())):
            if start < stop:
                gathered = dense[self.columns[start:stop]]
                np.einsum("i,ij->j", self.values[start:stop], gathered, out=result[row])
        return result

    def transposed(self, n_columns: int) -> _Rows:
        order = np.argsort(self.columns, kind="stable")
        rows = np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))
        counts = np.bincount(self.columns, minlength=n_columns)
        return _Rows(_offsets(counts), rows[order], self.values[order])


class TextEmbedding:
    """Unit vectors of texts; texts on the same subject are close in angle.

    Made by `fit` or `load`. All arrays are plain numpy; nothing is pickled.

    Attributes
    ----------
    width : int
        Length of the vectors.
    """

    def __init__(
        self,
        features: NDArray[np.int64],
        weights: NDArray[np.float32],
        basis: NDArray[np.float32],
        typical: NDArray[np.float32],
    ) -> None:
        self.width = int(basis.shape[1])
        self._features = features  # (f,) sorted hashes of the features in use
        self._weights = weights  # (f,) their idf weights
        self._basis = basis  # (f, width) from features to vectors
        self._typical = typical  # (width,) the vector of a text without any known feature

    @classmethod
    def fit(cls, texts: Sequence[str], width: int = 256, seed: int = 0) -> TextEmbedding:
        """Learn the embedding from `texts`; the same texts and seed give the same embedding.

        Parameters
        ----------
        texts : sequence of str
            The corpus. With fewer than `width` texts or features, the last columns are zero.
        width : int
            Length of the vectors.
        seed : int
            Seed of the random start of the eigenvector search.

        Returns
        -------
        TextEmbedding

        Raises
        ------
        ValueError
            If `width` is below 1, or if there is not a single word in `texts`.
        """
        if width < 1:
            raise ValueError(f"width is {width}, but vectors need at least one column")
        starts, hashes, counts = _hashed_features(texts)
        features, of_feature, n_texts = np.unique(hashes, return_inverse=True, return_counts=True)
        rare = n_texts < (_RARE if len(texts) >= _RARE_FROM else 1)
        weights = np.where(rare, 0, np.log((len(texts) + 1) / n_texts) ** _IDF_POWER).astype(np.float32)
        if not weights.any():
            raise ValueError(f"no words were found in the {len(texts)} texts to fit the embedding to")
        starts, columns, counts = _only(starts, of_feature, counts, ~rare)
        features, weights = features[~rare], weights[~rare]
        rows = _weighted(starts, columns, features[columns] // _BUCKETS, counts, weights)

        basis = _leading_eigenvectors(rows, len(features), width, seed)
        # Kept in half precision on disk: rounded here, so that a loaded embedding gives the same vectors.
        basis = basis.astype(np.float16).astype(np.float32)
        vectors, _ = _unit_rows(rows @ basis)
        mean, known = _unit_rows(vectors.mean(axis=0, keepdims=True))
        typical = mean[0] if known[0] else np.eye(1, width, dtype=np.float32)[0]
        return cls(features, weights, basis, typical)

    def transform(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts, those of `fit` or others.

        A text without any known feature (empty, or in an alphabet that the corpus lacks) has no
        direction of its own. It gets the mean direction of the corpus, so that its vector is a unit
        vector like all others and it is closest to texts that are about nothing in particular.

        Parameters
        ----------
        texts : sequence of str

        Returns
        -------
        numpy.ndarray
            Shape (len(texts), width), float32, rows of length 1.
        """
        starts, hashes, counts = _hashed_features(texts)
        places = np.minimum(np.searchsorted(self._features, hashes), len(self._features) - 1)
        known = self._features[places] == hashes
        starts, columns, counts = _only(starts, places, counts, known, by_entry=True)
        rows = _weighted(starts, columns, self._features[columns] // _BUCKETS, counts, self._weights)
        vectors, has_direction = _unit_rows(rows @ self._basis)
        vectors[~has_direction] = self._typical
        return vectors

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the embedding to `path` as an .npz file (the name is taken as it is)."""
        with Path(path).open("wb") as file:
            np.savez(
                file,
                features=self._features,
                weights=self._weights,
                basis=self._basis.astype(np.float16),
                typical=self._typical,
            )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> TextEmbedding:
        """Read an embedding that `save` wrote; it gives the same vectors as the one saved.

        Raises
        ------
        ValueError
            If the file is not an embedding.
        """
        try:
            with np.load(path, allow_pickle=False) as stored:
                features, weights = stored["features"], stored["weights"]
                basis, typical = stored["basis"].astype(np.float32), stored["typical"]
        except (KeyError, ValueError, TypeError, AttributeError, EOFError, BadZipFile) as error:
            raise ValueError(f"{os.fspath(path)} is not a text embedding written by dask-annoy") from error
        if not (features.shape == weights.shape == basis.shape[:1] and typical.shape == basis.shape[1:]):
            raise ValueError(f"{os.fspath(path)} is not a text embedding: its arrays do not fit together")
        return cls(features, weights, basis, typical)


# --- words -------------------------------------------------------------------------------------------

_WORD = re.compile(r"[^\W\d_]+|\d+")
_CAMEL_CASE = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")

_STOP_WORDS = frozenset(
    """a about all also am an and any are as at be been being but by can could did do does doing done each
    for from get give had has have having he her here him his how i if in into is it its just let many may
    me might much must my need no not of off on one or our out over please s shall she should so some such
    t than that the their them then there these they this those to too under up us very want was way we
    were what when where which who whom whose why will with would you your""".split()  # noqa: SIM905
)

# Names abbreviate, and run together, what questions spell out.
_SPELLED_OUT = {
    "arg": "argument",
    "attr": "attribute",
    "del": "delete",
    "dict": "dictionary",
    "dir": "directory",
    "email": "mail",
    "filename": "file name",
    "folder": "directory",
    "func": "function",
    "int": "integer",
    "len": "length",
    "listdir": "list directory",
    "mkdir": "make directory",
    "param": "parameter",
    "pathname": "path name",
    "rand": "random",
    "rmdir": "remove directory",
    "sendmail": "send mail",
    "str": "string",
    "temp": "temporary",
    "tmp": "temporary",
    "urlopen": "url open",
}


def _words(text: str) -> list[str]:
    """Return the stems of the words that carry meaning, in order."""
    return [stem for word in _WORD.findall(_CAMEL_CASE.sub(" ", text).lower()) for stem in _stems(word)]


@lru_cache(maxsize=1 << 16)
def _stems(word: str) -> tuple[str, ...]:
    """Spell a word out and cut its commonest English endings: sorts, sorted, sorting become sort."""
    if word in _STOP_WORDS:
        return ()
    if word.endswith("s") and len(word) > 3 and not word.endswith(("ss", "us", "is")):
        word = word[:-3] + "y" if word.endswith("ies") and len(word) > 4 else word[:-1]
    return tuple(_without_ending(part) for part in _SPELLED_OUT.get(word, word).split())


def _without_ending(word: str) -> str:
    if len(word) > 5:
        for ending in ("ing", "ed", "er"):
            if word.endswith(ending):
                word = word[: -len(ending)]
                if word[-1] == word[-2] and word[-1] not in "sl":
                    word = word[:-1]
                break
    return word[:-1] if word.endswith("e") and len(word) > 4 else word


# --- features ----------------------------------------------------------------------------------------


def _hashed_features(
    texts: Sequence[str],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Count the features of each text: row starts, sorted hashes within a row, and counts.

    A hash is ``kind * _BUCKETS + bucket``.
    """
    numbers: dict[str, int] = {}  # of each stem, in order of appearance
    tokens: list[int] = []
    lengths: list[int] = []
    for text in texts:
        found = _words(text)
        tokens.extend(numbers.setdefault(stem, len(numbers)) for stem in found)
        lengths.append(len(found))
    word = np.array(tokens, np.int64)
    text_of = np.repeat(np.arange(len(texts)), lengths)

    checksums = np.array([zlib.crc32(stem.encode()) for stem in numbers], np.uint64)
    pair = np.flatnonzero(text_of[1:] == text_of[:-1])
    first, second = checksums[word[pair]], checksums[word[pair + 1]]

    grams = [_checksums_of_grams(stem) for stem in numbers]
    gram_counts = np.array([len(g) for g in grams], np.int64)
    gram_starts = _offsets(gram_counts)
    all_grams = np.array([c for g in grams for c in g], np.uint64)
    repeats = gram_counts[word]
    within = np.arange(repeats.sum()) - np.repeat(_offsets(repeats)[:-1], repeats)

    hashes = [
        _bucket(checksums[word], _WORDS),
        _bucket(first * np.uint64(31) + second, _PAIRS),
        _bucket(all_grams[np.repeat(gram_starts[word], repeats) + within], _GRAMS),
    ]
    owners = [text_of, text_of[pair], np.repeat(text_of, repeats)]
    n_hashes = len(hashes) * _BUCKETS
    keys, counts = np.unique(np.concatenate(owners) * n_hashes + np.concatenate(hashes), return_counts=True)
    starts = np.searchsorted(keys, np.arange(len(texts) + 1) * n_hashes)
    return starts, keys % n_hashes, counts


def _checksums_of_grams(stem: str) -> list[int]:
    """Return the CRC-32 of each character n-gram within a word, its ends marked."""
    marked = f"<{stem}>"
    return [
        zlib.crc32(marked[start : start + size].encode())
        for size in _GRAM_SIZES
        for start in range(len(marked) - size + 1)
    ]


def _bucket(checksums: NDArray[np.uint64], kind: int) -> NDArray[np.int64]:
    """Spread checksums over the buckets of a kind (Fibonacci hashing: the product's high bits)."""
    spread = checksums * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(64 - _BUCKETS.bit_length() + 1)
    return spread.astype(np.int64) + kind * _BUCKETS


def _only(
    starts: NDArray[np.int64],
    columns: NDArray[np.int64],
    counts: NDArray[np.int64],
    wanted: NDArray[np.bool_],
    *,
    by_entry: bool = False,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Keep wanted columns and number them anew, or, `by_entry`, keep wanted entries as they are."""
    kept = wanted if by_entry else wanted[columns]
    numbered = columns[kept] if by_entry else (np.cumsum(wanted) - 1)[columns[kept]]
    return _offsets(kept)[starts], numbered, counts[kept]


def _weighted(
    starts: NDArray[np.int64],
    columns: NDArray[np.int64],
    kinds: NDArray[np.int64],
    counts: NDArray[np.int64],
    weights: NDArray[np.float32],
) -> _Rows:
    """Turn counts into tf-idf rows in which each kind of feature has its fixed share of the length."""
    values = ((1 + np.log(counts)) * weights[columns]).astype(np.float32)
    row = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    group = row * len(_SHARES) + kinds
    lengths = np.sqrt(np.bincount(group, values * values, minlength=(len(starts) - 1) * len(_SHARES)))
    lengths[lengths == 0] = 1
    values *= (_SHARES[kinds] / lengths[group]).astype(np.float32)
    return _Rows(starts, columns, values)


# --- linear algebra ----------------------------------------------------------------------------------


def _leading_eigenvectors(rows: _Rows, n_columns: int, width: int, seed: int) -> NDArray[np.float32]:
    """Return the leading eigenvectors of rowsᵀ·rows as (n_columns, width), most important first."""
    n_rows = len(rows.starts) - 1
    rank = min(width, n_rows, n_columns)
    sought = min(rank + _OVERSAMPLING, n_rows, n_columns)
    columns = rows.transposed(n_columns)
    random = np.random.default_rng(seed)
    space = columns @ random.standard_normal((n_rows, sought), dtype=np.float32)
    for _ in range(_ITERATIONS):
        space = columns @ _orthonormal(rows @ space, sought)
    vectors = _orthonormal(space, rank)
    # An eigenvector's sign is arbitrary: make its largest entry positive.
    largest = np.abs(vectors).argmax(axis=0)
    vectors *= np.sign(vectors[largest, np.arange(vectors.shape[1])])
    basis = np.zeros((n_columns, width), np.float32)
    basis[:, : vectors.shape[1]] = vectors
    return basis


def _orthonormal(space: NDArray[np.float32], rank: int) -> NDArray[np.float32]:
    """Return at most `rank` orthonormal columns that span the main directions of `space`, longest first.

    Through the small matrix spaceᵀ·space, not a QR decomposition: on a busy machine the threads of
    LAPACK's QR wait for each other, and half a second becomes twelve.
    """
    wide = space.astype(np.float64)
    squared, mixing = np.linalg.eigh(wide.T @ wide)
    order = np.argsort(squared)[::-1][:rank]
    order = order[squared[order] > squared.max() * 1e-10]
    columns: NDArray[np.float64] = wide @ (mixing[:, order] / np.sqrt(squared[order]))
    return columns.astype(np.float32)


def _unit_rows(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Scale rows to length 1; say which of them had a length to scale."""
    lengths: NDArray[np.float32] = np.linalg.norm(vectors, axis=1).astype(np.float32)
    has_length = lengths > 1e-7
    lengths[~has_length] = 1
    return (vectors / lengths[:, None]).astype(np.float32, copy=False), has_length


def _offsets(counts: NDArray[np.int64] | NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the running total of counts, from 0."""
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

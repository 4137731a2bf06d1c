"""A second reading of Annoy's files and of its search: float64, with bounds on what float32 may make of it.

Two programs that add the same products in another order get sums that differ in the last places, and where two margins
or two distances are that close, either order is right. So the reference does not answer with one list: it tells which
answers are admissible, and admits more than one only where a tie within the rounding error is there to see.

Bounds are worst cases: a float32 sum of n products, in whatever order and with or without FMA, is off by at most
n·u/(1 − n·u) times the sum of the products' magnitudes, u = 2⁻²⁴ (Higham, Accuracy and Stability of Numerical
Algorithms, 2nd ed., section 3.1). What follows from equal bytes is equal in any program, however it rounds.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

U = 2.0**-24
TINY = float(np.finfo(np.float32).tiny)
EXACT = 2.0**20  # sums of integers below it are exact in float32, and the roots of neighbours differ

# metric: offset of the children, of the scalar, of the vector
OFFSETS = {
    "angular": (4, 4, 12),
    "euclidean": (8, 4, 16),
    "manhattan": (8, 4, 16),
    "dot": (4, 12, 16),
    "hamming": (4, 12, 16),
}


def rounding(n: int) -> float:
    """Relative error bound of n roundings in a row."""
    return n * U / (1 - n * U)


def is_whole(values: NDArray[np.float64]) -> bool:
    return bool((values == np.rint(values)).all())


@dataclass(frozen=True)
class Priority:
    """What a queue entry is ordered by: bounds, and an origin that equal computations share."""

    low: float
    high: float
    origin: object

    def same_as(self, other: Priority) -> bool:
        if self.origin is other.origin or self.origin == other.origin:
            return True
        return self.low == self.high == other.low == other.high

    def or_less(self, other: Priority) -> Priority:
        """The lesser of the two."""
        if self.high <= other.low:
            return self
        if other.high <= self.low:
            return other
        if self.same_as(other):
            return self
        return Priority(min(self.low, other.low), min(self.high, other.high), object())


@dataclass(frozen=True)
class Candidates:
    """Items a search certainly scores, and those it may score; holes are left out."""

    certain: frozenset[int]
    possible: frozenset[int]

    @property
    def known(self) -> bool:
        return self.certain == self.possible


class ForestFile:
    """The nodes of a file, and the trees that a program found in it.

    Parameters
    ----------
    data : bytes
    metric : str
    width : int
    n_trees : int
        As the program counts them: the roots are the last nodes.
    """

    def __init__(self, data: bytes, metric: str, width: int, n_trees: int) -> None:
        children, scalar, vector = OFFSETS[metric]
        self.metric, self.width = metric, width
        size = vector + (8 * math.ceil(width / 64) if metric == "hamming" else 4 * width)
        nodes = np.frombuffer(data, np.uint8).reshape(-1, size)
        self.capacity = (size - children) // 4
        self.descendants = nodes[:, :4].copy().view(np.int32)[:, 0]
        self.lists = nodes[:, children:].copy()[:, : 4 * self.capacity].view(np.int32)
        self.bytes = nodes[:, vector:].copy()
        self.n_items = int(self.descendants[-1])
        self.roots = list(range(len(nodes) - n_trees, len(nodes)))
        self.present = frozenset(np.flatnonzero(self.descendants[: self.n_items] == 1).tolist())
        if metric == "hamming":
            self.words = self.bytes.view(np.uint64)
        else:
            self.vectors = self.bytes.view(np.float32).astype(np.float64)
            self.scalars = nodes[:, scalar : scalar + 4].copy().view(np.float32)[:, 0].astype(np.float64)

    # --- candidates

    def candidates(self, query: NDArray[Any], n: int, search_k: int) -> Candidates:
        """What a search with this budget scores. ``query``: float32, or for hamming words of bits."""
        budget = n * len(self.roots) if search_k == -1 else search_k
        if budget < 0:
            budget = 2**62
        splits = self._splits(query)
        met = self._walk(splits, budget)
        if met is not None:
            return Candidates(met & self.present, met & self.present)
        certain, possible = self._bounds(splits, budget)
        return Candidates(certain & self.present, possible & self.present)

    def _splits(self, query: NDArray[Any]) -> dict[int, tuple[Any, ...]]:
        """Each split's margin with its bounds; for hamming the bit it asks for."""
        ids = np.flatnonzero(self.descendants > self.capacity)
        ids = ids[ids >= self.n_items]
        if self.metric == "hamming":
            asked = self.words[ids, 0]
            bits = query[(asked // np.uint64(64)).astype(int)] >> (np.uint64(63) - asked % np.uint64(64)) & np.uint64(1)
            return {i: (int(bit),) for i, bit in zip(ids.tolist(), bits, strict=True)}
        values = query.astype(np.float64)
        margins = self.vectors[ids] @ values
        sizes = np.abs(self.vectors[ids]) @ np.abs(values)
        exact = sizes == 0
        if self.metric in ("euclidean", "manhattan"):
            margins, sizes = margins + self.scalars[ids], sizes + np.abs(self.scalars[ids])
        elif self.metric == "dot":  # 1.17.3 adds the square of the planes' extra dimension
            margins, sizes = margins + self.scalars[ids] ** 2, sizes + self.scalars[ids] ** 2
            exact &= self.scalars[ids] == 0
        errors = np.where(exact, 0.0, rounding(self.width + 4) * sizes + (self.width + 4) * TINY)
        return {
            i: (margin, error, self.bytes[i].tobytes() + self.scalars[i].tobytes())
            for i, margin, error in zip(ids.tolist(), margins.tolist(), errors.tolist(), strict=True)
        }

    def _children(self, node: int, priority: Priority, splits: dict[int, Any]) -> list[tuple[int, Priority]]:
        first, second = self.lists[node, :2].tolist()
        if self.metric == "hamming":
            (bit,) = splits[node]
            kept, lost = priority, Priority(priority.low - 1, priority.high - 1, ("wrong turn", priority.high - 1))
            return [(second, kept if bit == 1 else lost), (first, kept if bit == 0 else lost)]
        margin, error, plane = splits[node]
        right = Priority(margin - error, margin + error, (plane, 1))
        left = Priority(-margin - error, -margin + error, (plane, 0))
        return [(second, priority.or_less(right)), (first, priority.or_less(left))]

    def _start(self) -> Priority:
        start = 0.0 if self.metric == "hamming" else math.inf
        return Priority(start, start, "root")

    def _leaf(self, node: int) -> list[int] | None:
        """The item numbers that a visit of the node yields; None for a split."""
        n = int(self.descendants[node])
        if node < self.n_items:
            return [node] if n == 1 else []
        return self.lists[node, :n].tolist() if n <= self.capacity else None

    def _walk(self, splits: dict[int, Any], budget: int) -> frozenset[int] | None:
        """The items met best first; None if rounding may decide which entry comes first."""
        queue: list[tuple[float, int, int, Priority]] = []
        count = 0

        def push(node: int, priority: Priority) -> None:
            nonlocal count
            count += 1
            bisect.insort(queue, (priority.high, node, count, priority))

        for root in self.roots:
            push(root, self._start())
        met: set[int] = set()
        n_met = 0
        while queue and n_met < budget:
            _, node, _, priority = queue.pop()
            for rival in range(len(queue) - 1, -1, -1):
                if queue[rival][0] < priority.low:
                    break
                if not queue[rival][3].same_as(priority):  # if it is the same, the larger number goes first
                    return None
            leaf = self._leaf(node)
            if leaf is None:
                for child, its in self._children(node, priority, splits):
                    push(child, its)
            else:
                met.update(leaf)
                n_met += len(leaf)
        return frozenset(met)

    def _bounds(self, splits: dict[int, Any], budget: int) -> tuple[frozenset[int], frozenset[int]]:
        """A leaf is met if those before it hold fewer items than the budget. Priorities fall on the way down, so
        leaves come in their own order of priority; where bounds overlap either may come first.
        """
        leaves: list[tuple[list[int], Priority]] = []
        stack = [(root, self._start()) for root in self.roots]
        while stack:
            node, priority = stack.pop()
            leaf = self._leaf(node)
            if leaf is None:
                stack.extend(self._children(node, priority, splits))
            else:
                leaves.append((leaf, priority))
        sizes = np.array([len(leaf) for leaf, _ in leaves])
        low = np.array([priority.low for _, priority in leaves])
        high = np.array([priority.high for _, priority in leaves])
        certain: set[int] = set()
        possible: set[int] = set()
        for i, (leaf, _) in enumerate(leaves):
            if sizes[low > high[i]].sum() < budget:
                possible.update(leaf)
            if sizes[high >= low[i]].sum() - sizes[i] < budget:
                certain.update(leaf)
        return frozenset(certain), frozenset(possible)

    # --- distances

    def distances(self, query: NDArray[Any], items: Sequence[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Bounds of what float32 may return, smaller is nearer (dot: negated). Equal where the result is exact."""
        if self.metric == "hamming":
            differing = np.array([[int(w).bit_count() for w in self.words[i] ^ query] for i in items], np.float64)
            exact = differing.sum(axis=1)
            return exact, exact
        q, rows = query.astype(np.float64), self.vectors[list(items)]
        slack = (self.width + 8) * TINY
        error = rounding(self.width + 8)
        whole = is_whole(q) and is_whole(rows)
        if self.metric == "dot":
            products, sizes = -(rows @ q), np.abs(rows) @ np.abs(q)
            errors = np.where((sizes == 0) | (whole & (sizes < EXACT)), 0.0, error * sizes + slack)
            return products - errors, products + errors
        if self.metric == "manhattan":
            sums = np.abs(rows - q).sum(axis=1)
            errors = np.where((sums == 0) | (whole & (sums < EXACT)), 0.0, error * sums + slack)
            return sums - errors, sums + errors
        if self.metric == "euclidean":
            squares = ((rows - q) ** 2).sum(axis=1)
            errors = np.where((squares == 0) | (whole & (squares < EXACT)), 0.0, error * squares + slack)
        else:
            norms = np.linalg.norm(rows, axis=1) * np.linalg.norm(q)
            cosines = np.divide(rows @ q, norms, out=np.zeros(len(rows)), where=norms > 0)
            squares = 2 - 2 * cosines
            errors = np.where(norms > 0, 6 * error, 0.0)
        low, high = np.sqrt(np.maximum(squares - errors, 0)), np.sqrt(squares + errors)
        return np.where(errors > 0, low * (1 - 4 * U), low), np.where(errors > 0, high * (1 + 4 * U), high)

    # --- answers

    def why_not(self, query: NDArray[Any], n: int, search_k: int, answer: tuple[list[int], list[float]]) -> str | None:
        """What is wrong with an answer, in words; None if it is admissible."""
        candidates = self.candidates(query, n, search_k)
        ids, returned = answer
        if len(set(ids)) < len(ids):
            return f"repeats among {ids}"
        if not candidates.possible.issuperset(ids):
            return f"{sorted(set(ids) - candidates.possible)} cannot be met within the budget"
        if not min(n, len(candidates.certain)) <= len(ids) <= min(n, len(candidates.possible)):
            return f"{len(ids)} items for n={n}, of {len(candidates.certain)} to {len(candidates.possible)} candidates"
        omitted = sorted(candidates.certain - set(ids))
        if omitted and len(ids) < n:
            return f"{omitted} are candidates, and left out of a short answer"
        everything = ids + omitted
        if not everything:
            return None
        low, high = self.distances(query, everything)
        seen = np.array(returned, np.float64) * (-1 if self.metric == "dot" else 1)
        k = len(ids)
        wrong = ~((low[:k] - 4 * U * np.abs(low[:k]) <= seen) & (seen <= high[:k] + 4 * U * np.abs(high[:k])))
        if wrong.any():
            at = int(np.argmax(wrong))
            return f"item {ids[at]} at {seen[at]!r}, which is not within {low[at]!r} … {high[at]!r}"
        if (np.diff(seen) < 0).any():
            return f"distances out of order: {returned}"
        twins = np.unique(self.bytes[everything], axis=0, return_inverse=True)[1].reshape(-1)
        numbers = np.array(everything)
        for a in range(k):
            # Who is surely nearer than the item of rank a must stand before it.
            later = slice(a + 1, None)
            tie = (twins[later] == twins[a]) | ((low[a] == high[a]) & (low[later] == low[a]) & (high[later] == high[a]))
            nearer = (high[later] < low[a]) | (tie & (numbers[later] < numbers[a]))
            if nearer.any():
                return f"item {numbers[later][nearer][0]} is nearer than item {numbers[a]} of rank {a}, and comes later"
        return None

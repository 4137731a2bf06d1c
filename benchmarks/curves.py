"""What a sweep of recall and speed says: the frontier, the speed at a recall, and how a cost grows."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

TARGETS = (0.80, 0.90, 0.95, 0.99)


class Point(NamedTuple):
    """A setting's recall, and its speed in queries per second."""

    recall: float
    speed: float


def frontier(points: Iterable[Point]) -> list[Point]:
    """The points that no other beats in both, by rising recall and so by falling speed."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda point: (-point.recall, -point.speed)):
        if not kept or point.speed > kept[-1].speed:
            kept.append(point)
    return kept[::-1]


def speed_at(points: Iterable[Point], recall: float) -> float | None:
    """Queries per second at a recall: between the points of the frontier, linear in the speed's logarithm.

    Where even the cheapest setting that was tried finds more than asked for, its own speed; where none finds as much,
    None.
    """
    edge = frontier(points)
    above = next((place for place, point in enumerate(edge) if point.recall >= recall), None)
    if above is None:
        return None
    if above == 0:
        return edge[0].speed
    low, high = edge[above - 1], edge[above]
    share = (recall - low.recall) / (high.recall - low.recall)
    return math.exp((1 - share) * math.log(low.speed) + share * math.log(high.speed))


def median(values: Iterable[float | None]) -> float | None:
    """The median of what there is, None if that is less than half: a target that most rounds missed was missed."""
    given = list(values)
    present = [value for value in given if value is not None]
    return statistics.median(present) if 2 * len(present) > len(given) else None


def ratio(value: float | None, other: float | None) -> float | None:
    """None where either is unknown."""
    return None if value is None or other is None or other == 0 else value / other


class Growth(NamedTuple):
    """A cost that grows as ``scale * n ** exponent``."""

    exponent: float
    scale: float

    def at(self, n: float) -> float:
        """The cost at that size."""
        return float(self.scale * n**self.exponent)


def fitted_growth(sizes: Sequence[float], costs: Sequence[float]) -> Growth:
    """The straight line through the logarithms, by least squares; two sizes or more."""
    exponent, offset = np.polyfit(np.log(sizes), np.log(costs), 1)
    return Growth(float(exponent), float(np.exp(offset)))


Setting = TypeVar("Setting")


def climb(
    ladder: Iterable[Setting], measure: Callable[[Setting], tuple[float, float]], top: float, patience: float
) -> None:
    """Measure settings from the cheapest up, until one finds `top` of the neighbours or nothing is to be gained.

    `measure` gives recall and seconds. Ends, too, after a setting that took more than `patience` seconds, and where
    three in a row found the same (above a half: cheap settings may all look at one and the same list).
    """
    recalls: list[float] = []
    for setting in ladder:
        recall, seconds = measure(setting)
        recalls.append(recall)
        level = len(recalls) >= 3 and recall > 0.5 and recall - recalls[-3] < 0.0005
        if recall >= top or seconds > patience or level:
            return

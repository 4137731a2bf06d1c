from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.curves import Point, climb, fitted_growth, frontier, median, ratio, speed_at

points = st.lists(st.builds(Point, st.floats(0, 1), st.floats(1, 1e6)), min_size=1, max_size=20)


def test_between_two_settings_the_logarithm_of_the_speed_is_linear_in_recall() -> None:
    sweep = [Point(0.8, 1000.0), Point(0.9, 10.0)]
    assert speed_at(sweep, 0.85) == pytest.approx(100.0)
    assert speed_at(sweep, 0.80) == pytest.approx(1000.0)
    assert speed_at(sweep, 0.90) == pytest.approx(10.0)


def test_a_recall_that_no_setting_reaches_has_no_speed() -> None:
    assert speed_at([Point(0.8, 1000.0)], 0.81) is None
    assert speed_at([], 0.5) is None


def test_an_exact_scan_has_its_speed_at_every_recall() -> None:
    assert speed_at([Point(1.0, 50.0)], 0.8) == 50.0


def test_a_setting_that_another_beats_in_recall_and_speed_does_not_matter() -> None:
    sweep = [Point(0.8, 1000.0), Point(0.85, 20.0), Point(0.9, 100.0)]
    assert frontier(sweep) == [Point(0.8, 1000.0), Point(0.9, 100.0)]
    assert speed_at(sweep, 0.85) == pytest.approx(1e5**0.5)


@given(points)
def test_no_point_of_a_frontier_is_beaten_and_all_others_are(sweep: list[Point]) -> None:
    edge = frontier(sweep)
    for point in sweep:
        assert any(other.recall >= point.recall and other.speed >= point.speed for other in edge)
    for one, next_one in pairwise(edge):
        assert one.recall < next_one.recall
        assert one.speed > next_one.speed


@given(points, st.floats(0, 1), st.floats(0, 1))
def test_more_recall_never_costs_less(sweep: list[Point], one: float, other: float) -> None:
    low, high = (speed_at(sweep, recall) for recall in sorted((one, other)))
    assert high is None or (low is not None and low >= high * (1 - 1e-9))


@given(points, st.floats(0, 1))
def test_a_speed_lies_within_what_was_measured(sweep: list[Point], recall: float) -> None:
    speed = speed_at(sweep, recall)
    if speed is not None:
        speeds = [point.speed for point in sweep]
        assert min(speeds) * (1 - 1e-9) <= speed <= max(speeds) * (1 + 1e-9)


@given(st.floats(-1, 2), st.floats(1e-3, 1e3))
def test_a_power_law_is_found_again(exponent: float, scale: float) -> None:
    sizes = [50e3, 100e3, 200e3, 800e3]
    fit = fitted_growth(sizes, [scale * size**exponent for size in sizes])
    assert fit.exponent == pytest.approx(exponent, abs=1e-6)
    assert fit.at(400e3) == pytest.approx(scale * 400e3**exponent, rel=1e-4)


def test_a_target_that_most_rounds_missed_has_no_median() -> None:
    assert median([1.0, None, 3.0]) == 2.0
    assert median([1.0, None, None]) is None
    assert median([1.0, None]) is None
    assert median([]) is None


def test_a_ratio_to_what_is_not_known_is_not_known() -> None:
    assert ratio(6.0, 3.0) == 2.0
    assert ratio(6.0, None) is None
    assert ratio(None, 3.0) is None
    assert ratio(6.0, 0.0) is None


def climbed(recalls: list[float], *, top: float = 0.99, seconds: float = 1.0) -> int:
    """How many of the settings were tried."""
    tried: list[int] = []

    def measure(place: int) -> tuple[float, float]:
        tried.append(place)
        return recalls[place], seconds

    climb(range(len(recalls)), measure, top, patience=5.0)
    assert tried == list(range(len(tried)))
    return len(tried)


def test_a_sweep_ends_with_the_first_setting_beyond_the_last_target() -> None:
    assert climbed([0.5, 0.9, 0.992, 0.999]) == 3


def test_a_sweep_ends_where_more_work_finds_no_more() -> None:
    assert climbed([0.6, 0.8, 0.8, 0.8, 0.8]) == 4


def test_a_sweep_goes_on_over_settings_that_look_at_one_and_the_same_list() -> None:
    assert climbed([0.2, 0.2, 0.2, 0.2, 0.995]) == 5


def test_a_sweep_ends_after_a_setting_that_took_too_long() -> None:
    assert climbed([0.5, 0.6, 0.7], seconds=6.0) == 1

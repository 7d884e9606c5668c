"""Aiming at what is measured by asking for what is foretold."""

import random

import pytest

from pomona.engines.aim import NEAR, aimed
from pomona.vocabulary import InputError


@pytest.mark.parametrize("goal", [0.25, 0.5, 0.75])
@pytest.mark.parametrize(
    "real",
    [lambda x: x, lambda x: 0.2 + 0.8 * x, lambda x: x**1.4, lambda x: min(1.0, 1.25 * x), lambda x: 0.8 * x],
    ids=range(5),
)
def test_a_wrong_forecast_is_corrected(goal, real):
    asked = []
    found = aimed(goal, lambda x: asked.append(x) or x, real)
    if real(0.0) < goal:
        assert real(found) == pytest.approx(goal, rel=2 * NEAR)
    assert len(asked) <= 5


def test_a_hit_is_measured_once():
    asked = []
    assert aimed(0.5, lambda x: asked.append(x) or x, lambda x: x) == 0.5 and asked == [0.5]


def test_nothing_below_the_floor_is_asked_for_and_the_nearest_shot_is_kept():
    asked = []
    found = aimed(0.5, lambda x: asked.append(x) or x, lambda x: 0.5 + x, floor=0.2)
    assert min(asked) == found == 0.2


def test_a_staircase_ends_at_its_nearest_step():
    steps = lambda x: 0.7 if x > 0.45 else 0.42  # noqa: E731
    assert steps(aimed(0.5, lambda x: x, steps)) == 0.42


def test_a_later_request_out_of_reach_ends_the_aiming_and_a_first_one_is_refused():
    def cut(x):
        if x < 0.4:
            raise InputError("out of reach")
        return x

    assert aimed(0.5, cut, lambda x: x + 0.3) == 0.5
    with pytest.raises(InputError):
        aimed(0.3, cut, lambda x: x)


def test_between_shots_on_both_sides_the_next_one_lies_between_them():
    """A step in the middle: what the last two shots say alone would lead away from it."""
    real = lambda x: 0.42 * (x / 0.5) if x < 0.52 else 0.8 * (x / 0.6) ** 3  # noqa: E731
    asked = []
    found = aimed(0.5, lambda x: asked.append(x) or x, real)
    low, high = max(x for x in asked if real(x) < 0.5), min(x for x in asked if real(x) > 0.5)
    assert all(min(asked[:2]) <= x <= max(asked[:2]) for x in asked) and low < high
    assert abs(real(found) / 0.5 - 1) <= min(abs(real(x) / 0.5 - 1) for x in asked)


@pytest.mark.parametrize("seed", range(20))
def test_noise_of_two_percent_is_no_obstacle(seed):
    draw = random.Random(seed)
    real = lambda x: 0.1 + 0.7 * x**1.3  # noqa: E731
    assert real(aimed(0.5, lambda x: x, lambda x: real(x) * draw.gauss(1, 0.02))) == pytest.approx(0.5, rel=0.1)

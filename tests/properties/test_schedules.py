"""Laws of every schedule, found through the registry; a schedule without an example here fails."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pomona import registry
from pomona.criteria.magnitude import Magnitude
from pomona.criteria.random import Random
from pomona.schedules.at_step import AtStep
from pomona.schedules.cubic import Cubic
from pomona.schedules.drop_grow import DropGrow
from pomona.schedules.emerging import Emerging
from pomona.schedules.every import Every
from pomona.schedules.once import Once
from pomona.schedules.rounds import Rounds
from pomona.schedules.slices import Slices
from pomona.vocabulary import Clock, Goal, Prune, Recover, Schedule

EXAMPLES = [
    Once(),
    Rounds(),
    Rounds(1),
    Rounds(7, "linear", recover=False),
    Rounds(4, "cubic", first_train=True),
    Cubic(every=7),
    Cubic(0.1, 0.9, every=3, initial=0.3, power=1, revive=False),
    DropGrow(Random(), Magnitude(), every=5),
    AtStep(),
    AtStep(20),
    AtStep(None),
    Every(),
    Every(3),
    Emerging(),
    Emerging(10),
    Slices(),
    Slices(0.3),
]
each = pytest.mark.parametrize("schedule", EXAMPLES, ids=str)
STEPS = 101


def run(schedule, goal):
    """All actions of a whole run, in order."""
    if schedule.clock == "step":
        return [a for t in range(STEPS + 1) for a in schedule.actions(Clock(step=t, steps=STEPS), goal)]
    found, round = [], 0
    while actions := schedule.actions(Clock(round=round), goal):
        found, round = [*found, *actions], round + 1
        assert round < 100
    return found


def test_every_schedule_has_an_example():
    assert {type(e).__name__ for e in EXAMPLES} == set(registry.parts("schedules"))
    assert all(isinstance(e, Schedule) for e in EXAMPLES)


@each
@settings(max_examples=10)
@given(ratio=st.floats(0.01, 1.0))
def test_ratios_fall_from_the_dense_price_to_exactly_the_goal(schedule, ratio):
    ratios = [a.ratio for a in run(schedule, Goal("macs", ratio)) if isinstance(a, Prune)]
    assert all(0 < r <= 1 for r in ratios)
    assert all(a >= b - 1e-15 for a, b in pairwise(ratios))
    assert ratios[-1] == ratio


@each
def test_equal_clocks_give_equal_actions_in_any_order(schedule):
    goal = Goal("sparsity", 0.1)
    clocks = [Clock(step=t, round=t, steps=STEPS) for t in range(STEPS + 1)]
    forward = [schedule.actions(c, goal) for c in clocks]
    assert [schedule.actions(c, goal) for c in reversed(clocks)] == forward[::-1]


@each
def test_only_rounds_recover_and_only_after_a_cut(schedule):
    actions = run(schedule, Goal("sparsity", 0.1))
    for before, action in zip([None, *actions], actions, strict=False):
        assert not isinstance(action, Recover) or (schedule.clock == "round" and isinstance(before, Prune))

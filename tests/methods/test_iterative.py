"""Schedules: iterative, lottery rounds, gradual (Zhu and Gupta, 2017), drop and grow (Evci et al., 2020)."""

import pytest

from pomona.schedules.at_step import AtStep
from pomona.schedules.cubic import Cubic
from pomona.schedules.drop_grow import DropGrow
from pomona.schedules.every import Every
from pomona.schedules.once import Once
from pomona.schedules.rounds import Rounds
from pomona.vocabulary import Clock, Drop, Goal, InputError, Prune, Recover, Regrow

GOAL = Goal("sparsity", 0.2)


class Anyone:
    """Stands for a criterion."""


def sparsities(schedule, goal=GOAL):
    found = []
    while actions := schedule.actions(Clock(round=len(found)), goal):
        found.append(1 - next(a.ratio for a in actions if isinstance(a, Prune)))
    return found


def test_geometric_rounds_take_a_fifth_of_the_survivors_each():
    left = [1 - s for s in sparsities(Rounds(4), Goal("sparsity", 0.8**4))]
    assert left == pytest.approx([0.8, 0.64, 0.512, 0.4096])


def test_linear_and_cubic_rounds():
    assert sparsities(Rounds(4, "linear")) == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert sparsities(Rounds(4, "cubic")) == pytest.approx([0.4625, 0.7, 0.7875, 0.8])


def test_each_round_is_a_cut_and_a_recovery():
    assert Rounds(2).actions(Clock(round=1), GOAL) == (Prune(0.2), Recover())
    assert Rounds(2, recover=False).actions(Clock(round=1), GOAL) == (Prune(0.2),)
    assert Rounds(2).actions(Clock(round=2), GOAL) == ()
    assert Rounds(1).actions(Clock(), GOAL) == Once().actions(Clock(), GOAL) == (Prune(0.2), Recover())


def updates(schedule, steps, goal=GOAL):
    return {t: a[0].ratio for t in range(steps + 1) if (a := schedule.actions(Clock(step=t, steps=steps), goal))}


def test_the_published_cube():
    ratios = updates(Cubic(end=1.0, every=1), 4)
    assert [1 - r for r in ratios.values()] == pytest.approx([0, 0.4625, 0.7, 0.7875, 0.8])
    assert ratios[4] == 0.2


def test_seven_eighths_are_done_at_half_time():
    assert 1 - updates(Cubic(end=1.0, every=50), 100)[50] == pytest.approx(0.8 * 0.875)


def test_power_one_is_linear():
    assert [1 - r for r in updates(Cubic(end=1.0, every=1, power=1), 4).values()] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])


def test_the_last_update_is_at_the_end_even_where_every_does_not_divide():
    ratios = updates(Cubic(begin=0.4, end=0.5, every=100), 2500)
    assert list(ratios) == [1000, 1100, 1200, 1250]
    assert ratios[1200] > ratios[1250] == 0.2


def test_the_start_may_be_sparse_and_revival_is_the_default():
    schedule = Cubic(initial=0.5, end=1.0, every=1)
    assert schedule.actions(Clock(step=0, steps=4), GOAL) == (Prune(0.5, revive=True),)


def test_the_cosine_of_drop_and_grow():
    schedule = DropGrow(Anyone(), Anyone(), every=1, share=0.3, end=1.0)
    assert [schedule.dropped(Clock(step=t, steps=100)) for t in (0, 50, 100)] == pytest.approx([0.3, 0.15, 0])


def test_drop_and_grow_prunes_once_then_moves():
    first, grow = Anyone(), Anyone()
    schedule = DropGrow(first, grow, every=10)
    assert schedule.actions(Clock(step=0, steps=100), GOAL) == (Prune(0.2, by=first),)
    drop, wake = schedule.actions(Clock(step=10, steps=100), GOAL)
    assert isinstance(drop, Drop) and drop.by is None and wake == Regrow(grow)
    moved = [t for t in range(1, 101) if schedule.actions(Clock(step=t, steps=100), GOAL)]
    assert moved == [10, 20, 30, 40, 50, 60, 70]


def test_a_share_of_nothing_is_static():
    schedule = DropGrow(Anyone(), Anyone(), every=10, share=0.0)
    assert not any(schedule.actions(Clock(step=t, steps=100), GOAL) for t in range(1, 101))


def test_once_at_a_step_and_at_every_step():
    assert list(updates(AtStep(3), 10)) == [3]
    assert list(updates(Every(4), 10)) == [0, 4, 8]


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (Rounds, {"n": 0}),
        (Rounds, {"spacing": "square"}),
        (Cubic, {"begin": 0.8}),
        (Cubic, {"every": 0}),
        (AtStep, {"step": -1}),
        (Every, {"every": 0}),
        (Cubic, {"initial": 1.0}),
    ],
)
def test_senseless_schedules_are_refused(make, options):
    with pytest.raises(InputError):
        make(**options)

"""Global comparison, raw and relative."""

import pytest
import torch

from budgets import counts, flat, scored, wish
from pomona.allocations.everywhere import Global
from pomona.vocabulary import InputError, Scores

SITES = flat(a=4, b=4)
SCORES = scored(a=[1.0, 2, 3, 4], b=[100.0, 200, 300, 400])


def kept(relative, ratio=0.5, scores=SCORES):
    return counts(Global(relative).allocate(SITES, scores, wish(SITES, ratio, lower=dict.fromkeys(SITES, 0))))


def test_raw_scores_empty_the_small_layer():
    assert kept("none") == [0, 4]


@pytest.mark.parametrize("relative", ["mean", "l2", "max", "standardise"])
def test_relative_scores_do_not_see_the_scale(relative):
    assert kept(relative) == [2, 2]


def test_standardising_removes_the_shift_too():
    shifted = scored(a=[1.0, 2, 3, 4], b=[11.0, 12, 13, 14])
    assert kept("standardise", ratio=6 / 8, scores=shifted) == [3, 3]
    assert kept("mean", ratio=6 / 8, scores=shifted) == [2, 4]  # over the mean: .4 .8 1.2 1.6 against .88 .96 1.04 1.12


def test_an_order_decides_who_leaves_before_whom():
    # Unit 1 of a leaves first though it is worth most: nobody can leave after it for less.
    scores = {"a": Scores(torch.tensor([1.0, 9, 1, 1]), torch.tensor([1, 0, 2, 3])), "b": Scores(torch.full((4,), 5.0))}
    assert kept("none", scores=scores) == [4, 0]


def test_the_dead_leave_first_and_do_not_shift_the_scale():
    dead = float("-inf")
    scores = scored(a=[dead, dead, 3, 4], b=[300.0, 400, 300, 400])
    assert kept("mean", ratio=6 / 8, scores=scores) == [2, 4]
    assert kept("mean", ratio=5 / 8, scores=scores) == [1, 4]


def test_equal_scores_are_no_division_by_zero():
    assert sum(kept("standardise", scores=scored(a=[2.0] * 4, b=[0.0] * 4))) == 4


def test_an_unknown_norm_is_refused():
    with pytest.raises(InputError, match="'l3' is none of them"):
        Global("l3")

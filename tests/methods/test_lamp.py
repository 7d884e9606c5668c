"""LAMP: Layer-adaptive Sparsity for the Magnitude-based Pruning (Lee et al., 2021)."""

import pytest
import torch
from torch.testing import assert_close

from budgets import counts, flat, scored, wish
from pomona.allocations.everywhere import Global
from pomona.allocations.lamp import Lamp
from pomona.vocabulary import InputError, Scores

A, B = [1.0, 2.0, 3.0], [10.0, 20.0, 30.0]


def keys(values, **options):
    return Lamp(**options).keys("a", Scores(torch.tensor(values)))


def test_the_keys_of_one_two_three():
    assert_close(keys([3.0, 1.0, 2.0]), torch.tensor([1 / 14, 4 / 13, 1.0]))
    assert_close(keys([1.0, 2.0, 3.0], power=1.0), torch.tensor([1 / 6, 2 / 5, 1.0]))


def test_two_layers_of_other_scale_are_cut_alike_where_global_empties_one():
    sites, scores = flat(a=3, b=3), scored(a=A, b=B)
    assert counts(Lamp().allocate(sites, scores, wish(sites, 4 / 6))) == [2, 2]
    assert counts(Global().allocate(sites, scores, wish(sites, 4 / 6))) == [1, 3]


def test_the_best_of_every_layer_has_key_one_and_no_layer_dies():
    sites = flat(a=50, b=7, c=90)
    scores = scored(a=torch.rand(50) * 1e-6, b=torch.rand(7), c=torch.rand(90) * 1e6)
    assert all(float(keys(s.value.tolist())[-1]) == 1 for s in scores.values())
    assert counts(Lamp().allocate(sites, scores, wish(sites, 3 / 147, lower=dict.fromkeys(sites, 0)))) == [1, 1, 1]


def test_the_dead_count_for_nothing():
    dead = float("-inf")
    assert_close(keys([dead, 1.0, 2.0, dead, 3.0])[2:], keys(A))
    assert torch.isinf(keys([dead, 1.0])[0])


def test_a_layer_of_zeros_is_defined():
    assert keys([0.0, 0.0]).tolist() == [0, 0]
    assert torch.isfinite(keys([1e-30, 1e30])).all()


def test_negative_scores_are_refused():
    with pytest.raises(InputError, match="not negative; the smallest at a is -1"):
        keys([-1.0, 2.0])

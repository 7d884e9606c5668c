"""Uniform and per-layer sparsities."""

import pytest
import torch

from budgets import counts, flat, on, scored, wish
from papergraph import bias, linear, transposed
from pomona.allocations.per_layer import PerLayer
from pomona.allocations.uniform import Uniform
from pomona.vocabulary import InputError


def test_every_tensor_loses_the_same_share_whatever_its_scores():
    sites = flat(a=1000, b=300, c=50)
    kept = counts(Uniform().allocate(sites, {}, wish(sites, 0.3)))
    assert sum(kept) == 405
    assert all(abs(k - 0.3 * s.units) <= 1 for k, s in zip(kept, sites.values(), strict=True))


@pytest.mark.parametrize("weight", [linear("w", 6, 10), transposed("w", 10, 6)])
def test_every_output_row_loses_the_same_share(weight):
    sites = {"w": on(weight)}
    assert Uniform(per="row").allocate(sites, {}, wish(sites, 0.5))["w"].tolist() == [5] * 6
    kept = Uniform(per="row").allocate(sites, {}, wish(sites, 0.55))["w"]
    assert int(kept.sum()) == 33 and set(kept.tolist()) == {5, 6}


def test_level_sites_keep_the_same_share_to_the_unit():
    sites = flat(a=6, b=6, c=6)
    for ratio, kept in ((11 / 18, 3), (12 / 18, 4), (1.0, 6)):
        assert counts(Uniform(level=True).allocate(sites, {}, wish(sites, ratio))) == [kept] * 3
    assert set(counts(Uniform().allocate(sites, {}, wish(sites, 11 / 18)))) == {3, 4}
    unlike = flat(a=6, b=6, c=12)
    assert counts(Uniform(level=True).allocate(unlike, {}, wish(unlike, 14 / 24))) == [3, 3, 6]


def test_who_is_held_by_a_bound_lifts_nobody_else():
    sites = flat(a=6, b=6, c=6)
    kept = Uniform(level=True).allocate(sites, {}, wish(sites, 0.5, lower={"a": 5}, upper={"b": 1}))
    assert counts(kept) == [5, 1, 3]
    with pytest.raises(InputError, match="level between sites only"):
        Uniform("row", level=True)


def test_what_has_no_rows_counts_whole():
    sites = {"b": on(bias("b", 10))}
    assert Uniform(per="row").allocate(sites, {}, wish(sites, 0.5))["b"].shape == ()


def test_named_layers_get_their_sparsity_and_the_others_share_the_rest():
    sites = flat(a=100, b=100, c=200)
    kept = PerLayer((("a", 0.9), ("b", 0.0))).allocate(sites, scored(), wish(sites, 0.5))
    assert counts(kept) == [10, 100, 90]


def test_the_first_pattern_that_matches_wins():
    sites = flat(a=100, ab=100)
    assert counts(PerLayer((("ab", 0.5), ("a*", 0.2))).allocate(sites, {}, wish(sites, 1.0))) == [80, 50]


def test_rates_that_miss_the_goal_or_name_nothing_are_refused():
    sites = flat(a=100)
    with pytest.raises(InputError, match=r"0\.8"):
        PerLayer((("a", 0.2),)).allocate(sites, {}, wish(sites, 0.5))
    with pytest.raises(InputError, match="names no site; sites are called like a"):
        PerLayer((("b", 0.2),)).allocate(sites, {}, wish(sites, 0.5))
    with pytest.raises(InputError):
        PerLayer((("a", 1.0),))
    with pytest.raises(InputError):
        Uniform(per="rows")


def test_rows_keep_at_least_one_each():
    sites = {"w": on(linear("w", 4, 8))}
    assert Uniform(per="row").allocate(sites, {}, wish(sites, 4 / 32))["w"].tolist() == [1, 1, 1, 1]
    assert torch.equal(Uniform(per="row").allocate(sites, {}, wish(sites, 1.0))["w"], torch.full((4,), 8))

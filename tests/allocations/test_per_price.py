"""Importance per price, and no site bearing far more than its part."""

from dataclasses import dataclass, replace
from itertools import product

import pytest
import torch

from budgets import counts, flat, scored, wish
from pomona.allocations.everywhere import Global
from pomona.allocations.fair import Fair
from pomona.allocations.knapsack import Knapsack
from pomona.allocations.per_price import PerPrice
from pomona.allocations.uniform import Uniform
from pomona.vocabulary import Budget, InputError


def test_of_equal_importance_the_dear_leave_first():
    sites = flat(cheap=8, dear=8)
    budget = wish(sites, 0.7, cost={"cheap": 1.0, "dear": 5.0})  # 33.6 of 48: three dear units must go
    alike = scored(cheap=torch.ones(8), dear=torch.ones(8))
    assert counts(PerPrice(0.0).allocate(sites, alike, budget)) == counts(PerPrice().allocate(sites, alike, budget)) == [8, 5]
    worth_it = scored(cheap=torch.ones(8), dear=torch.full((8,), 6.0))
    assert counts(PerPrice(0.0).allocate(sites, worth_it, budget))[0] == 1


@pytest.mark.parametrize("seed", range(8))
def test_at_straight_prices_nothing_that_fits_is_worth_more_by_a_unit(seed):
    g = torch.Generator().manual_seed(seed)
    sites = flat(a=6, b=5, c=4)
    values = {n: torch.rand(s.units, generator=g).sort(descending=True).values for n, s in sites.items()}
    cost = {n: float(torch.randint(1, 9, (), generator=g)) for n in sites}
    budget = wish(sites, 0.6, cost)

    def worth(kept):
        return sum(float(values[n][:k].sum()) for n, k in zip(sites, kept, strict=True))

    every = product(*(range(1, s.units + 1) for s in sites.values()))
    best = max(worth(k) for k in every if sum(cost[n] * u for n, u in zip(sites, k, strict=True)) <= budget.limit)
    found = PerPrice(0.0).allocate(sites, scored(**values), budget)
    assert best - max(float(v.max()) for v in values.values()) <= worth(counts(found)) <= best + 1e-6
    solved = worth(counts(Knapsack().allocate(sites, scored(**values), budget)))
    assert solved == pytest.approx(best, rel=1e-6)


def test_balanced_the_product_of_what_sites_keep_is_the_largest():
    """At straight prices and equal units: when each site has the same part of the price."""
    sites = flat(cheap=16, dear=16)
    budget = Budget(wish(sites, 0.5, {"cheap": 1.0, "dear": 3.0}).price, 12.0, dict.fromkeys(sites, 1), dict.fromkeys(sites, 16))
    alike = scored(cheap=torch.ones(16), dear=torch.ones(16))
    assert counts(PerPrice().allocate(sites, alike, budget)) == [6, 2]
    assert counts(PerPrice(0.0).allocate(sites, alike, budget)) == [9, 1]


@pytest.mark.parametrize("seed", range(6))
def test_balanced_no_fitting_counts_keep_a_product_larger_by_a_unit(seed):
    g = torch.Generator().manual_seed(seed)
    sites = flat(a=8, b=7, c=6)
    values = {n: torch.rand(s.units, generator=g).sort(descending=True).values + 0.1 for n, s in sites.items()}
    cost = {n: float(torch.randint(1, 5, (), generator=g)) for n in sites}
    budget = wish(sites, 0.6, cost)

    def kept(counts_):
        return float(torch.stack([values[n][:k].sum() / values[n].sum() for n, k in zip(sites, counts_, strict=True)]).prod())

    def paid(counts_):
        return sum(cost[n] * u for n, u in zip(sites, counts_, strict=True))

    found = counts(PerPrice().allocate(sites, scored(**values), budget))
    every = product(*(range(1, s.units + 1) for s in sites.values()))
    # Greedy stops within one unit of the limit: what it has is the best that can be had for as much.
    assert kept(found) == pytest.approx(max(kept(k) for k in every if paid(k) <= paid(found)), rel=1e-5)


def test_the_scale_of_a_site_does_not_matter_unless_asked_for():
    sites, g = flat(a=9, b=9), torch.Generator().manual_seed(0)
    a, b = torch.rand(9, generator=g), torch.rand(9, generator=g)
    budget = wish(sites, 0.5, {"a": 1.0, "b": 2.0})
    one, two = (PerPrice().allocate(sites, scored(a=a, b=scale * b), budget) for scale in (1.0, 1e4))
    assert counts(one) == counts(two)
    assert counts(PerPrice(0.0).allocate(sites, scored(a=a, b=1e4 * b), budget)) != counts(one)


@dataclass(frozen=True)
class Free:
    """Only one of the sites costs anything; the other is cheaper the wider it is."""

    dense: float = 10.0

    def __call__(self, keeps):
        return float(keeps["a"]) + 0.01 * (10 - float(keeps["b"]))


def test_a_stream_counts_for_every_weight_that_it_runs_through():
    """Four times the price and four weights: as much leaves as from a site of one weight, where one weight would lose more."""
    sites = flat(layer=16, stream=16)
    several = replace(sites["stream"], members=sites["stream"].members * 4)
    budget = wish(sites, 0.5, {"layer": 1.0, "stream": 4.0})
    alike = scored(layer=torch.ones(16), stream=torch.ones(16))
    assert counts(PerPrice().allocate({**sites, "stream": several}, alike, budget)) == [8, 8]
    assert counts(PerPrice().allocate(sites, alike, budget)) == [16, 6]


def test_units_that_save_nothing_stay():
    sites = flat(a=10, b=10)
    budget = Budget(Free(), 4.0, dict.fromkeys("ab", 1), dict.fromkeys("ab", 10))
    assert counts(PerPrice().allocate(sites, scored(a=torch.ones(10), b=torch.ones(10)), budget)) == [4, 10]


STARVED = scored(a=torch.linspace(1, 2, 32), b=torch.linspace(10, 20, 32), c=torch.linspace(100, 200, 32))


@pytest.mark.parametrize("ratio", [0.6, 0.4, 0.2])
def test_nobody_bears_more_than_twice_what_equal_shares_would_ask(ratio):
    sites = flat(a=32, b=32, c=32)
    budget = wish(sites, ratio)
    equal = Uniform().allocate(sites, STARVED, budget)
    free, fair = (how.allocate(sites, STARVED, budget) for how in (Global(), Fair()))
    assert int(free["a"]) == 1 and all(2 * int(fair[n]) >= int(equal[n]) for n in sites)
    assert counts(fair)[0] < counts(fair)[2] and budget.price(fair) <= budget.limit


def test_its_share_leads_from_the_inner_allocation_to_equal_shares():
    sites = flat(a=32, b=32, c=32)
    budget = wish(sites, 0.5)
    assert counts(Fair(share=0.0).allocate(sites, STARVED, budget)) == counts(Global().allocate(sites, STARVED, budget))
    assert counts(Fair(share=1.0).allocate(sites, STARVED, budget)) == counts(Uniform().allocate(sites, STARVED, budget))


def test_a_goal_that_equal_shares_just_reach_is_in_reach():
    sites = flat(a=32, b=32, c=32)
    assert counts(Fair().allocate(sites, STARVED, wish(sites, 3 / 96))) == [1, 1, 1]


def test_what_means_nothing_is_refused():
    with pytest.raises(InputError, match="from 0 to 1"):
        Fair(share=1.5)
    with pytest.raises(InputError, match="from 0, none, to 1"):
        PerPrice(-1.0)
    sites = flat(a=2, b=2)
    with pytest.raises(InputError, match="the smallest at a is -1"):
        PerPrice().allocate(sites, scored(a=[-1.0, 1.0], b=[1.0, 2.0]), wish(sites, 0.5))

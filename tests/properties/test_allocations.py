"""Laws of every allocation, found through the registry; an allocation without an example here fails."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from budgets import on, wish
from papergraph import conv, linear, transposed
from pomona import registry
from pomona.allocations.above import Above
from pomona.allocations.erk import Erk
from pomona.allocations.everywhere import Global
from pomona.allocations.fair import Fair
from pomona.allocations.knapsack import Knapsack
from pomona.allocations.lamp import Lamp
from pomona.allocations.owl import Owl
from pomona.allocations.per_layer import PerLayer
from pomona.allocations.per_price import PerPrice
from pomona.allocations.snapped import Snapped
from pomona.allocations.spared_ends import SparedEnds
from pomona.allocations.two_prices import TwoPrices
from pomona.allocations.uniform import Uniform
from pomona.vocabulary import Allocation, InputError, Scores

EXAMPLES = [
    Uniform(),
    Uniform(per="row"),
    Global(),
    Global("mean"),
    Global("l2"),
    Global("standardise"),
    Global("max"),
    Above(),
    Lamp(),
    Lamp(1.0),
    Erk(),
    Erk(kernel=False),
    PerLayer(),
    PerLayer((("b", 0.5),)),
    Knapsack(),
    Owl(),
    Owl(per="site"),
    Snapped(),
    PerPrice(),
    PerPrice(0.0),
    Fair(),
    Fair(PerPrice(), 0.8),
    SparedEnds(),
    TwoPrices(),
]
SITES = {w.tensor: on(w) for w in (linear("a", 5, 7), transposed("b", 6, 4), conv("c", 4, 3), linear("d", 1, 2))}
COSTS = [dict.fromkeys(SITES, 1.0), {"a": 1.0, "b": 3.0, "c": 0.5, "d": 2.0}]
each = pytest.mark.parametrize("allocation", EXAMPLES, ids=str)


def scores(seed):
    g = torch.Generator().manual_seed(seed)
    return {name: Scores(torch.rand(s.shape, generator=g) * 10.0**i) for i, (name, s) in enumerate(SITES.items())}


def totals(keeps):
    return {name: int(keep.sum()) for name, keep in keeps.items()}


def test_every_allocation_has_an_example():
    assert {type(e).__name__ for e in EXAMPLES} == set(registry.parts("allocations"))
    assert all(isinstance(e, Allocation) for e in EXAMPLES)


@each
@settings(max_examples=15)
@given(ratio=st.floats(0.3, 1.0), seed=st.integers(0, 99), cost=st.sampled_from(COSTS))
def test_the_goal_is_met_within_one_unit(allocation, ratio, seed, cost):
    budget = wish(SITES, ratio, cost)
    keeps = allocation.allocate(SITES, scores(seed), budget)
    assert set(keeps) == set(SITES) and all(k.dtype == torch.int64 for k in keeps.values())
    paid = budget.price(keeps)
    named = isinstance(allocation, PerLayer) and allocation.rates  # rates by hand may already meet it
    assert paid <= budget.limit
    assert named or paid > budget.limit - max(cost.values()) or totals(keeps) == budget.upper


@each
@settings(max_examples=15)
@given(ratio=st.floats(0.4, 0.95), seed=st.integers(0, 99))
def test_bounds_hold_and_nobody_is_emptied(allocation, ratio, seed):
    lower, upper = {"a": 10, "c": 40}, {"b": 20, "d": 1}
    budget = wish(SITES, ratio, lower=lower, upper=upper)
    try:
        keeps = totals(allocation.allocate(SITES, scores(seed), budget))
    except InputError:  # bounds by row add up to more than the bounds by site
        keeps = dict(budget.upper)
    assert all(budget.lower[name] <= keep <= budget.upper[name] for name, keep in keeps.items())
    assert min(keeps.values()) >= 1


@each
def test_a_smaller_goal_keeps_no_more_anywhere(allocation):
    steps = [totals(allocation.allocate(SITES, scores(0), wish(SITES, ratio))) for ratio in (0.95, 0.8, 0.6, 0.5, 0.4)]
    for more, less in pairwise(steps):
        assert all(less[name] <= more[name] for name in SITES)


@each
def test_a_goal_of_everything_keeps_everything(allocation):
    keeps = totals(allocation.allocate(SITES, scores(0), wish(SITES, 1.0)))
    named = [p for p, _ in getattr(allocation, "rates", ())]
    assert all(keeps[name] == site.units for name, site in SITES.items() if name not in named)


@each
def test_equal_inputs_give_equal_counts(allocation):
    one, two = (allocation.allocate(SITES, scores(4), wish(SITES, 0.5)) for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in SITES)


@each
def test_out_of_reach_is_refused(allocation):
    with pytest.raises(InputError, match="ask for at least that"):
        allocation.allocate(SITES, scores(0), wish(SITES, 0.1, lower={"c": 108}))

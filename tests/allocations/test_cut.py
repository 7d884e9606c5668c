"""One threshold, exact counts."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from budgets import counts, flat, wish
from pomona.allocations.cut import cut
from pomona.native.selection import value_at
from pomona.vocabulary import InputError


def ladder(*keys):
    return torch.tensor(keys, dtype=torch.float32)


def test_the_lowest_keys_of_the_model_leave():
    sites = flat(a=3, b=3)
    assert counts(cut(sites, {"a": ladder(1, 5, 6), "b": ladder(2, 3, 4)}, wish(sites, 0.5))) == [2, 1]


def test_ties_leave_by_the_order_of_sites():
    sites = flat(a=4, b=4)
    keys = {"a": ladder(0, 0, 0, 0), "b": ladder(0, 0, 0, 0)}
    assert counts(cut(sites, keys, wish(sites, 0.75))) == [2, 4]


KEYS = st.sampled_from([-3.0, -0.5, 0.0, 0.25, 1e-30, 7.0])


@settings(max_examples=60)
@given(st.lists(st.lists(KEYS, min_size=1, max_size=8), min_size=1, max_size=4), st.data())
def test_it_is_the_stable_sort_cut_at_the_first_place_that_fits(lists, draw):
    sites = flat(**{f"s{i}": len(keys) for i, keys in enumerate(lists)})
    cost = {name: draw.draw(st.sampled_from([1.0, 2.0, 0.5])) for name in sites}
    keys = {name: ladder(*sorted(k)) for name, k in zip(sites, lists, strict=True)}
    lower = {name: draw.draw(st.integers(0, site.units)) for name, site in sites.items()}
    least = sum(lower[n] * cost[n] for n in sites)
    budget = wish(sites, 1.0, cost, lower)
    ratio = draw.draw(st.floats(least / budget.price.dense, 1.0))
    budget = wish(sites, max(ratio, 1e-9), cost, lower)
    queue = sorted((k, i, j) for i, name in enumerate(sites) for j, k in enumerate(keys[name].tolist()))
    stay = {name: site.units for name, site in sites.items()}

    def price():
        return sum(max(stay[n], lower[n]) * cost[n] for n in sites)

    for _, i, _ in queue:
        if price() <= budget.limit:
            break
        stay[f"s{i}"] -= 1
    assert counts(cut(sites, keys, budget)) == [max(stay[n], lower[n]) for n in sites]
    mixed = {name: ladder(*k) for name, k in zip(sites, lists, strict=True)}
    assert counts(cut(sites, mixed, budget, ascending=False)) == [max(stay[n], lower[n]) for n in sites]


def test_multiples_round_down_and_whole_axes_stay_whole():
    sites = flat(a=30, b=30)
    keys = {"a": torch.zeros(30), "b": torch.ones(30)}
    assert counts(cut(sites, keys, wish(sites, 0.75, multiple={"a": 8, "b": 8}))) == [8, 30]


def test_a_lower_bound_is_raised_to_the_next_multiple():
    sites = flat(a=32, b=32)
    keys = {"a": torch.zeros(32), "b": torch.ones(32)}
    assert counts(cut(sites, keys, wish(sites, 0.5, lower={"a": 9}, multiple={"a": 8, "b": 8}))) == [16, 16]


def test_an_upper_bound_prunes_even_when_the_goal_is_met():
    sites = flat(a=10, b=10)
    keys = {"a": torch.zeros(10), "b": torch.ones(10)}
    assert counts(cut(sites, keys, wish(sites, 1.0, upper={"b": 4}))) == [10, 4]


def test_out_of_reach_is_refused_with_what_can_be_reached():
    sites = flat(a=10, b=10)
    with pytest.raises(InputError, match=r"costs 0\.55 of it; ask for at least that \(as a sparsity: at most 0\.45\)"):
        cut(sites, {"a": torch.zeros(10), "b": torch.zeros(10)}, wish(sites, 0.5, lower={"a": 10}))


def test_the_price_is_asked_a_few_dozen_times():
    sites = flat(a=100_000)
    budget = wish(sites, 0.5)
    asked = []
    price = budget.price

    class Counting:
        dense = price.dense

        def __call__(self, keeps):
            asked.append(1)
            return price(keeps)

    object.__setattr__(budget, "price", Counting())
    assert counts(cut(sites, {"a": torch.zeros(100_000)}, budget)) == [50_000]
    assert len(asked) < 60


def test_float32_values_are_ordered_by_their_places():
    bits = torch.tensor([float("-inf"), -2.0, -1e-40, 0.0, 1e-40, 3.5, float("inf")])
    places = [b if b >= 0 else -(b & 0x7FFFFFFF) for b in bits.view(torch.int32).tolist()]
    assert places == sorted(places)
    assert [value_at(p) for p in places] == bits.tolist()

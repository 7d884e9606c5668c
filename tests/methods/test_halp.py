"""The latency-saliency knapsack (card 18) and the edges of latency steps (card 14)."""

from dataclasses import dataclass
from itertools import product

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from budgets import counts, flat, scored
from handmade import axis_site, data, net, view
from pomona.allocations.everywhere import Global
from pomona.allocations.knapsack import Knapsack
from pomona.allocations.snapped import Snapped, right_edges
from pomona.allocations.uniform import Uniform
from pomona.collect import collect
from pomona.criteria.absolute_taylor import AbsoluteTaylor
from pomona.schedules.rounds import Rounds
from pomona.vocabulary import Axis, Budget, Goal, InputError, Site


@dataclass(frozen=True, eq=False)
class Tables:
    """A price that is a sum of one table a site: what each count from 0 up costs."""

    tables: dict[str, list[float]]

    @property
    def dense(self):
        return float(sum(table[-1] for table in self.tables.values()))

    def __call__(self, keeps):
        return float(sum(table[int(keeps[n])] if n in keeps else table[-1] for n, table in self.tables.items()))


def within(limit, tables, least=0):
    units = {name: len(table) - 1 for name, table in tables.items()}
    return Budget(Tables(tables), limit, dict.fromkeys(units, least), units)


def laddered(costs):
    """Tables from the costs of bundles, most important first."""
    return {name: [0.0, *torch.tensor(c).double().cumsum(0).tolist()] for name, c in costs.items()}


@pytest.mark.parametrize("seed", range(6))
def test_the_solution_is_the_best_of_all_prefixes(seed):
    g = torch.Generator().manual_seed(seed)
    values = {n: torch.rand(4, generator=g).sort(descending=True).values for n in "abc"}
    costs = {n: torch.randint(1, 20, (4,), generator=g).tolist() for n in "abc"}
    costs["b"][1] = -3
    tables = laddered(costs)
    sites, limit = flat(a=4, b=4, c=4), 25.0

    def worth(kept):
        return sum(float(values[n][:k].sum()) for n, k in zip("abc", kept, strict=True))

    best = max(worth(k) for k in product(range(5), repeat=3) if sum(tables[n][i] for n, i in zip("abc", k, strict=True)) <= limit)
    found = Knapsack().allocate(sites, scored(**values), within(limit, tables))
    assert Tables(tables)(found) <= limit
    assert worth(counts(found)) == pytest.approx(best, rel=1e-6)


def test_a_worse_unit_never_stays_without_a_better_one():
    sites, values = flat(a=2, b=1), scored(a=[4.0, 5.0], b=[0.1])
    tables = {"a": [0.0, 10.0, 11.0], "b": [0.0, 0.5]}
    assert counts(Knapsack().allocate(sites, values, within(1.0, tables))) == [0, 1]  # 4 for 1 is not for sale without the 5


def test_equal_costs_are_a_ranking():
    values = scored(a=[5.0, 1.0, 3.0], b=[4.0, 2.0, 6.0])
    budget = within(3.0, laddered({"a": [1, 1, 1], "b": [1, 1, 1]}))
    sites = flat(a=3, b=3)
    assert counts(Knapsack().allocate(sites, values, budget)) == counts(Global().allocate(sites, values, budget)) == [1, 2]


def test_worthless_units_stay_where_there_is_room():
    budget = within(6.0, laddered({"a": [1] * 8, "b": [1] * 4}))
    assert counts(Knapsack().allocate(flat(a=8, b=4), scored(a=torch.zeros(8), b=[1.0, 2.0, 0.0, 3.0]), budget))[1] >= 3
    assert sum(counts(Knapsack().allocate(flat(a=8, b=4), scored(a=torch.zeros(8), b=torch.zeros(4)), budget))) == 6


def test_what_fits_stays():
    budget = within(100.0, laddered({"a": [1, 2], "b": [3]}))
    assert counts(Knapsack().allocate(flat(a=2, b=1), scored(a=[1.0, 2.0], b=[1.0]), budget)) == [2, 1]


def test_the_knapsack_buys_more_than_one_threshold_where_costs_differ():
    sites, values = flat(a=8, b=8), scored(a=torch.linspace(1, 2, 8), b=torch.linspace(1, 2, 8))
    tables = laddered({"a": [5] * 8, "b": [1] * 8})
    kept = {name: how.allocate(sites, values, within(24.0, tables)) for name, how in (("bag", Knapsack()), ("rank", Global()))}
    worth = {
        how: sum(float(values[n].value.sort(descending=True).values[: int(k)].sum()) for n, k in keep.items())
        for how, keep in kept.items()
    }
    assert worth["bag"] > 1.2 * worth["rank"]


def test_costs_that_multiply_meet_the_budget():
    @dataclass(frozen=True)
    class Chain:
        dense: float = 3 * 16 * 16

        def __call__(self, keeps):
            a, b, c = (int(keeps.get(n, torch.tensor(16))) for n in "abc")
            return float(a * b + b * c + 16 * c)

    sites = flat(a=16, b=16, c=16)
    values = scored(**{n: torch.rand(16, generator=torch.Generator().manual_seed(i)) for i, n in enumerate("abc")})
    for share in (0.8, 0.5, 0.3):
        budget = Budget(Chain(), share * 768, dict.fromkeys("abc", 1), dict.fromkeys("abc", 16))
        paid = Chain()(Knapsack().allocate(sites, values, budget))
        assert 0.93 * budget.limit <= paid <= budget.limit


def test_bundles_are_kept_whole():
    budget = within(37.0, laddered({"a": [1] * 32, "b": [1] * 24}), least=1)
    found = Knapsack(step=8).allocate(flat(a=32, b=24), scored(a=torch.rand(32), b=torch.rand(24)), budget)
    assert all(k % 8 == 0 or k == 1 for k in counts(found)) and sum(counts(found)) <= 37


@pytest.mark.parametrize("share", [0.32, 0.42, 0.48, 0.5, 0.56, 0.8])
def test_where_the_sum_misjudges_the_price_bundles_stay_whole_and_no_less_is_bought_than_by_equal_shares(share):
    """Two sites whose price is a product: what both of them give up saves less than the sum says."""

    @dataclass(frozen=True)
    class Product:
        dense: float = 128.0

        def __call__(self, keeps):
            a, b, c = (int(keeps.get(n, torch.tensor(64))) for n in "abc")
            return a * b / 64 + c

    sites, values = flat(a=64, b=64, c=64), {"a": torch.linspace(0.5, 0.6, 64), "b": torch.linspace(0.5, 0.6, 64)}
    values["c"] = torch.linspace(1, 2, 64)
    budget = Budget(Product(), share * 128, dict.fromkeys("abc", 1), dict.fromkeys("abc", 64))
    found = Knapsack(step=8).allocate(sites, scored(**values), budget)
    equal = [k // 8 * 8 for k in counts(Uniform().allocate(sites, scored(**values), budget))]

    def worth(kept):
        return sum(float(values[n].flip(0)[:k].sum()) for n, k in zip("abc", kept, strict=True))

    assert budget.price(found) <= budget.limit and all(k % 8 == 0 or k == 1 for k in counts(found))
    assert worth(counts(found)) >= worth(equal)


def test_the_targets_fall_by_equal_factors():
    rounds = Rounds(n=3, spacing="geometric")
    assert [round(100 * rounds.ratio(k, Goal("macs", 0.5)), 2) for k in range(3)] == [79.37, 63.0, 50.0]


def test_too_many_bundles_are_refused():
    with pytest.raises(InputError, match="step="):
        Knapsack().allocate(flat(a=60_000), scored(a=torch.rand(60_000)), within(1.0, {"a": list(range(60_001))}))


def test_importance_is_the_derivative_by_scale_and_shift():
    model, (x, y) = net(), data(16)
    site = axis_site()
    stats = collect(model, [site], AbsoluteTaylor().needs, [(x, y)], cross_entropy)[site.name]
    gamma, beta = model.norm.weight, model.norm.bias
    by_gamma, by_beta = torch.autograd.grad(cross_entropy(model(x), y), [gamma, beta])
    wanted = (gamma * by_gamma + beta * by_beta).abs().detach()
    assert_close(AbsoluteTaylor().score(view(model, site, stats)).value, wanted, rtol=1e-4, atol=1e-9)


def axes(**units):
    return {n: Site(n, "axis", (u,), (), axis=Axis(n, u, "channel", ())) for n, u in units.items()}


def test_edges_of_the_papers_kind_of_table():
    prices = torch.tensor([10, 12, 7, 7, 7.5, 4, 4, 3.9]).flip(0)
    assert (right_edges(prices).nonzero().flatten() + 1).tolist() == [1, 3, 6, 8]
    assert right_edges(torch.arange(9.0)).all()
    assert torch.equal(prices[right_edges(prices)], prices[right_edges(prices)].unique())


STAIRS = [float(-(-c // 8)) for c in range(65)]


@pytest.mark.parametrize(("mode", "width"), [("up", 16), ("nearest", 16), ("down", 8)])
def test_widths_move_to_the_edges_of_the_steps(mode, width):
    @dataclass(frozen=True)
    class Thirteen:
        def allocate(self, sites, scores, budget):
            return {n: torch.tensor(13) for n in sites}

    found = Snapped(Thirteen(), mode).allocate(axes(a=64, b=64), {}, within(4.0, {"a": STAIRS, "b": STAIRS}, least=1))
    assert counts(found) == [width, width]


def test_snapping_up_costs_nothing_and_loses_nothing():
    slow = [s + (2.0 if c % 8 else 0.0) for c, s in enumerate(STAIRS)]  # a width that fills no vector pays for it
    sites, budget = axes(a=64, b=64), within(9.0, {"a": slow, "b": STAIRS}, least=1)
    values = scored(a=torch.rand(64), b=torch.rand(64))
    plain, snapped = (how.allocate(sites, values, budget) for how in (Uniform(), Snapped(Uniform())))
    assert all(s >= p for s, p in zip(counts(snapped), counts(plain), strict=True))
    assert budget.price(snapped) <= budget.price(plain) <= budget.limit
    assert all(k % 8 == 0 for k in counts(snapped))


def test_a_margin_looks_through_noise_and_the_budget_still_holds():
    g = torch.Generator().manual_seed(0)
    noisy = [s * (1 + 0.01 * float(torch.randn((), generator=g))) for s in STAIRS]
    sites, budget = axes(a=64, b=64), within(8.0, {"a": noisy, "b": noisy}, least=1)
    exact, tolerant = (Snapped(Uniform(), margin=margin).allocate(sites, {}, budget) for margin in (0.0, 0.05))
    assert any(k % 8 for k in counts(exact)) and not any(k % 8 for k in counts(tolerant))
    assert max(budget.price(exact), budget.price(tolerant)) <= budget.limit


@pytest.mark.parametrize("lanes", [1, 4, 8])
def test_where_prices_rise_slowly_a_margin_does_not_creep_up_to_the_whole_width(lanes):
    """No step of such a price is above the margin by itself."""
    slow = [0.0, *(float(-(-c // lanes) * lanes) for c in range(1, 513))]
    budget = within(1000.0, {"a": slow, "b": slow}, least=1)

    @dataclass(frozen=True)
    class Thirteen:
        def allocate(self, sites, scores, budget):
            return {n: torch.tensor(13) for n in sites}

    found = counts(Snapped(Thirteen(), margin=0.03).allocate(axes(a=512, b=512), {}, budget))
    assert all(13 <= k <= 13 + lanes + 0.03 * 512 for k in found) and all(k % lanes == 0 for k in found)

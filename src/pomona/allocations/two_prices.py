"""TwoPrices: a few dear units or many cheap ones, tried for every number of the dear (Kwon et al., 2022)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pomona.allocations.leaving import leaving
from pomona.allocations.per_price import unit_cost
from pomona.allocations.uniform import Uniform
from pomona.vocabulary import Budget, Keeps, Scores, Site

_DEAR = 0.5  # of the dearest unit's price: heads are dear beside neurons, and in latency no two of them cost the same


@dataclass(frozen=True)
class TwoPrices:
    """The counts whose kept scores have the largest sum that the budget can buy, where units have two prices: heads and neurons.

    For each number of the dear units, the best of them, what is left of the budget buys cheap ones, the best first; the best
    pair is taken. That is exact for two prices, without integer programming. Where prices differ further, units of either kind
    are bought by score over price, which is nearly so. The least that must stay of a site (in the paper: of the
    model) is bought first. Scores should be additive within the model.
    """

    def allocate(self, sites: Mapping[str, Site], scores: Mapping[str, Scores], budget: Budget) -> Keeps:
        """Counts (); raises InputError for goals out of reach."""
        around = Uniform().allocate(sites, scores, budget)
        costs = {name: max(unit_cost(site, around, budget), 0.0) for name, site in sites.items()}
        dearest = max(costs.values())
        dear = [name for name in sites if costs[name] >= _DEAR * dearest]
        few = _Shelf.of(dear, sites, scores, costs, budget)
        many = _Shelf.of([name for name in sites if name not in dear], sites, scores, costs, budget)

        def keeps(number: int, beside: int) -> Keeps:
            counts = few.counts(number) | many.counts(beside)
            return budget.even({name: _rounded(budget, site, counts[name]) for name, site in sites.items()})

        def fits(number: int, beside: int) -> bool:
            return budget.price(keeps(number, beside)) <= budget.limit

        number = _best(few, many, budget.limit - budget.price(keeps(0, 0)), 1e-9 * budget.price.dense)
        # Sums over sites only foretell some prices; the price itself has the last word.
        number = _most(lambda n: fits(n, 0), number)
        beside = _most(lambda n: fits(number, n), len(many.owner))
        return keeps(_most(lambda n: fits(n, beside), len(few.owner)), beside)


@dataclass(frozen=True, eq=False)
class _Shelf:
    """The units of some sites that need not stay, the best buy first.

    `owner` (n,) is the number of the site, `worth` and `cost` (n + 1,) what the first so many sum up to. `least` is what
    each site has without them.
    """

    names: Sequence[str]
    least: Sequence[int]
    owner: Tensor
    worth: Tensor
    cost: Tensor

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        sites: Mapping[str, Site],
        scores: Mapping[str, Scores],
        costs: Mapping[str, float],
        budget: Budget,
    ) -> _Shelf:
        least = [budget.least(sites[name]) for name in names]
        free = [_free(sites[name], scores[name], low, budget) for name, low in zip(names, least, strict=True)]
        owner = torch.cat([torch.full((len(f),), i) for i, f in enumerate(free)]) if names else torch.zeros(0, dtype=torch.int64)
        worth = torch.cat(free) if names else torch.zeros(0, dtype=torch.float64)
        price = torch.tensor([costs[name] for name in names], dtype=torch.float64)[owner]
        order = (worth / price.clamp_min(torch.finfo(price.dtype).tiny)).argsort(descending=True, stable=True)
        return cls(names, least, owner[order], _sums(worth[order]), _sums(price[order]))

    def counts(self, number: int) -> dict[str, int]:
        """What each site keeps when so many are bought."""
        bought = torch.bincount(self.owner[:number], minlength=len(self.names)).tolist()
        return {name: low + more for name, low, more in zip(self.names, self.least, bought, strict=True)}


def _free(site: Site, scores: Scores, least: int, budget: Budget) -> Tensor:
    """(n,) float64: the scores of the units that may stay beyond the least, falling; the dead may not."""
    values = leaving(scores).flip(0)
    most = min(int((values > -torch.inf).sum()), budget.upper.get(site.name, site.units))
    return values[least : max(least, most)]


def _sums(values: Tensor) -> Tensor:
    return torch.cat([values.new_zeros(1), values.cumsum(0)])


def _best(dear: _Shelf, cheap: _Shelf, room: float, slack: float) -> int:
    """How many of the dear go with as many of the cheap as they leave room for, so that the sum of the scores is the largest."""
    affordable = dear.cost[dear.cost <= room + slack]
    beside = torch.searchsorted(cheap.cost, room + slack - affordable, right=True) - 1
    worth = dear.worth[: len(affordable)] + cheap.worth[beside.clamp_min(0)]
    return int((worth == worth.max()).nonzero().max())


def _most(fits: Callable[[int], bool], most: int) -> int:
    """The largest number up to `most` that fits; 0 always does."""
    low, high = 0, most + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _rounded(budget: Budget, site: Site, count: int) -> Tensor:
    """A count on its multiple, rounded down, but all units where all are bought."""
    multiple = budget.multiple.get(site.name, 1)
    return torch.tensor(count if count == site.units else max(budget.least(site), count // multiple * multiple))

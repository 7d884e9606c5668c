"""Knapsack: the most valuable counts that a budget can buy, solved exactly (Shen et al., HALP, 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pomona.allocations.ladders import Ladder, chosen
from pomona.allocations.leaving import leaving
from pomona.allocations.marginals import along
from pomona.allocations.uniform import Uniform
from pomona.vocabulary import Budget, InputError, Keeps, Scores, Site

_ROUNDS, _TRIES, _MOST = 3, 5, 50_000


@dataclass(frozen=True)
class Knapsack:
    """The units of a site form bundles of `step` by rank; the sum of the scores of the kept bundles is the largest possible.

    A bundle may stay only if all better ones of its site do, and its cost depends on its rank: what the price rises by when
    it is added. That is the augmented knapsack of the paper, here an integer programme (scipy's HiGHS; its dynamic
    programme needs integer costs). Costs are taken with the other sites as a first solution leaves them (at first equal
    shares), then solved for anew around the solution found; the price of the whole decides whether it fits. With prices that
    are sums over sites the answer is optimal, otherwise nearly so. Scores should be additive within the model.
    """

    step: int = 1

    def __post_init__(self) -> None:
        if self.step < 1:
            raise InputError(f"Bundles hold at least 1 unit, not {self.step}.")

    def allocate(self, sites: Mapping[str, Site], scores: Mapping[str, Scores], budget: Budget) -> Keeps:
        """Counts (); raises InputError without scipy, for more bundles than can be solved for, and for goals out of reach."""
        _check_scipy()
        counts = {name: self._counts(site, scores[name], budget) for name, site in sites.items()}
        if sum(map(len, counts.values())) > _MOST:
            raise InputError(f"Knapsack takes up to {_MOST} bundles of units; prune axes, or make bundles larger with step=.")
        values = {name: _values(scores[name], counts[name]) for name in sites}
        best = around = Uniform().allocate(sites, scores, budget)
        everything = {name: torch.tensor(allowed[-1]) for name, allowed in counts.items()}
        if budget.price(everything) <= budget.limit:
            return everything
        worth = -torch.inf
        for _ in range(_ROUNDS):
            ladders = [
                Ladder(name, counts[name], values[name], along(budget.price, around, name, counts[name])) for name in sites
            ]
            found, exact = _solution(ladders, around, budget)
            if found is None or (value := _worth(found, counts, values)) <= worth:
                break
            best = around = found
            worth = value
            if exact:
                break
        return best

    def _counts(self, site: Site, scores: Scores, budget: Budget) -> list[int]:
        """What a site may keep, ascending, in whole bundles from the least up; the most is always among it."""
        living = int((scores.value > -torch.inf).sum())
        least = min(site.units, budget.least(site))
        most = max(least, min(living, budget.upper.get(site.name, site.units)))
        step = max(self.step, budget.multiple.get(site.name, 1))
        return sorted({least, *range(-(-least // step) * step, most + 1, step), most})


def _values(scores: Scores, counts: list[int]) -> Tensor:
    """(counts,) float64: what the best so many units are worth together."""
    best = leaving(scores).flip(0)
    finite = torch.where(torch.isfinite(best), best, 0.0)
    return torch.cat([finite.new_zeros(1), finite.cumsum(0)])[counts]


def _worth(keeps: Keeps, counts: Mapping[str, list[int]], values: Mapping[str, Tensor]) -> float:
    """The value of a solution; counts that lie between bundles count as the bundle below."""
    places = {name: int(torch.searchsorted(torch.tensor(counts[name]), keeps[name], right=True)) - 1 for name in counts}
    return float(sum(values[name][max(0, place)] for name, place in places.items()))


def _solution(ladders: list[Ladder], around: Keeps, budget: Budget) -> tuple[Keeps | None, bool]:
    """The best counts whose real price fits, and whether the sum over sites told that price exactly.

    The sum is a first-order guess around a point; where it is wrong by some amount, the capacity is moved by as much.
    """
    centre, best = budget.price(around), None
    capacity = budget.limit - centre
    for _ in range(_TRIES):
        raw, cost = chosen(ladders, capacity, centre)
        keeps = budget.even(raw)
        price = budget.price(keeps)
        if price <= budget.limit:
            best = keeps
        if abs(price - centre - cost) <= 1e-9 * budget.price.dense and all(int(keeps[name]) == int(raw[name]) for name in raw):
            return best, True
        if 0 <= budget.limit - price <= 0.002 * budget.price.dense:
            break
        capacity += budget.limit - price
    return best, False


def _check_scipy() -> None:
    try:
        import scipy.optimize  # noqa: F401
    except ImportError:
        raise InputError("The knapsack is solved by scipy, which is not installed; pip install 'pomona[knapsack]'.") from None

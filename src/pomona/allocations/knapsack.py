"""Knapsack: the most valuable counts that a budget can buy, solved exactly (Shen et al., HALP, 2022)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pomona.allocations.ladders import Ladder, chosen
from pomona.allocations.leaving import leaving
from pomona.allocations.marginals import along
from pomona.allocations.uniform import Uniform
from pomona.vocabulary import Budget, InputError, Keeps, Scores, Site

_ROUNDS, _TRIES, _MOST = 3, 8, 50_000


@dataclass(frozen=True)
class Knapsack:
    """The units of a site form bundles of `step` by rank; the sum of the scores of the kept bundles is the largest possible.

    A bundle may stay only if all better ones of its site do, and its cost depends on its rank: what the price rises by when
    it is added. That is the augmented knapsack of the paper, here an integer programme (scipy's HiGHS; its dynamic
    programme needs integer costs). Costs are taken with the other sites as a first solution leaves them (at first equal
    shares), then solved for anew around the solution found; the price of the whole decides whether it fits. With prices that
    are sums over sites the answer is optimal, otherwise nearly so, and worth no less than equal shares in whole bundles.
    Scores should be additive within the model.
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
        everything = {name: torch.tensor(allowed[-1]) for name, allowed in counts.items()}
        if budget.price(everything) <= budget.limit:
            return everything
        around = Uniform().allocate(sites, scores, budget)
        best, worth, last = around, -torch.inf, -torch.inf
        if budget.price(bundled := budget.even(_bundled(around, counts))) <= budget.limit:
            best, worth = bundled, _worth(bundled, counts, values)
        for _ in range(_ROUNDS):
            ladders = [
                Ladder(name, counts[name], values[name], along(budget.price, around, name, counts[name])) for name in sites
            ]
            found, exact = _solution(ladders, around, budget)
            if found is None or (value := _worth(found, counts, values)) <= last:
                break
            around, last = found, value
            if value > worth:
                best, worth = found, value
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


def _places(keeps: Keeps, counts: Mapping[str, list[int]]) -> dict[str, int]:
    """Where each site stands on its ladder; counts that lie between bundles count as the bundle below."""
    return {name: max(0, bisect_right(counts[name], int(keeps[name])) - 1) for name in counts}


def _bundled(keeps: Keeps, counts: Mapping[str, list[int]]) -> dict[str, Tensor]:
    return {name: torch.tensor(counts[name][place]) for name, place in _places(keeps, counts).items()}


def _worth(keeps: Keeps, counts: Mapping[str, list[int]], values: Mapping[str, Tensor]) -> float:
    """The value of a solution."""
    return float(sum(values[name][place] for name, place in _places(keeps, counts).items()))


def _solution(ladders: list[Ladder], around: Keeps, budget: Budget) -> tuple[Keeps | None, bool]:
    """The best counts found whose real price fits, and whether the sum over sites told that price exactly.

    The sum is a first-order guess around a point; where it is wrong by some amount, the capacity is moved by as much, and
    once a solution that fits and one that does not are known, it stays between what they spend.
    """
    counts, values = {x.name: x.counts for x in ladders}, {x.name: x.values for x in ladders}
    centre, dense = budget.price(around), budget.price.dense
    fits, worth, best = -torch.inf, -torch.inf, None
    capacity, high = budget.limit - centre, torch.inf
    for _ in range(_TRIES):
        raw, cost = chosen(ladders, capacity, centre)
        keeps = budget.even(raw)
        room = budget.limit - budget.price(keeps)
        if room >= 0 and (value := _worth(keeps, counts, values)) > worth:
            best, worth = keeps, value
        if abs(budget.limit - room - centre - cost) <= 1e-9 * dense and all(int(keeps[name]) == int(raw[name]) for name in raw):
            return best, True
        fits, high = (max(fits, cost), high) if room >= 0 else (fits, min(high, cost))
        if 0 <= room <= 0.002 * dense or high - fits <= 1e-6 * dense:
            break
        # What was not spent of the capacity is no help to a solution that is too dear: it goes down by a rung at least.
        capacity = (capacity if room >= 0 else min(capacity, cost)) + room
        if not fits < capacity < high and fits > -torch.inf and high < torch.inf:
            capacity = (fits + high) / 2
    return best, False


def _check_scipy() -> None:
    try:
        import scipy.optimize  # noqa: F401
    except ImportError:
        raise InputError("The knapsack is solved by scipy, which is not installed; pip install 'pomona[knapsack]'.") from None

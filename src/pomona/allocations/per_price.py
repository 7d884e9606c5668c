"""PerPrice: importance per millisecond, or whatever else a goal counts, says which sites give (after HALP, Shen et al., 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pomona.allocations.cut import cut
from pomona.allocations.leaving import leaving
from pomona.allocations.marginals import along
from pomona.allocations.uniform import Uniform
from pomona.vocabulary import Budget, InputError, Keeps, Scores, Site

_LEAST = 1e-3  # of the mean price of a unit: those that save next to nothing leave last, but can still be told apart


@dataclass(frozen=True)
class PerPrice:
    """A unit's key is what its site loses with it over what a unit of the site costs; one threshold for the whole model.

    At `balance` 0 a unit is worth its score, whatever is left beside it: the paper's knapsack without its integers, the best
    buy while prices are straight lines in the counts. It empties dear sites before it touches cheap ones. At 1 a unit is
    worth its share of what is left at its site, once for each weight that the site runs through, so that the product over all
    weights of the shares of importance that they keep is the largest: the first units are cheap to lose and the last ones
    dear, a residual stream counts for all the layers on it, and scales of scores do not matter. A unit's cost is the mean
    over its site, the other sites having equal shares of their units.
    """

    balance: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.balance <= 1:
            raise InputError(f"The balance between sites is from 0, none, to 1; it is {self.balance:g}.")

    def allocate(self, sites: Mapping[str, Site], scores: Mapping[str, Scores], budget: Budget) -> Keeps:
        """Counts () of the units above the one threshold that meets the budget; raises InputError on negative scores.

        At balance 0 scores may have any sign.
        """
        around = Uniform().allocate(sites, scores, budget)
        costs = torch.tensor([unit_cost(site, around, budget) for site in sites.values()], dtype=torch.float64).clamp_min(0)
        costs = costs.clamp_min(_LEAST * float(costs.mean()) or 1.0)
        keys = {name: self._keys(site, scores[name]) / float(c) for (name, site), c in zip(sites.items(), costs, strict=True)}
        return cut(sites, {name: key.float() for name, key in keys.items()}, budget)

    def _keys(self, site: Site, scores: Scores) -> Tensor:
        """(units,) float64, never falling; -inf for the dead."""
        values = leaving(scores)
        if not self.balance:
            return values
        competing = torch.isfinite(values)
        worth = torch.where(competing, values, 0.0)
        if bool((worth < 0).any()):
            raise InputError(f"Shares need scores that are not negative; the smallest at {site.name} is {float(worth.min()):g}.")
        left = worth.flip(0).cumsum(0).flip(0).clamp_min(torch.finfo(worth.dtype).tiny)
        weights = max(1, sum(member.role in ("self", "out", "in") for member in site.members))
        return torch.where(competing, weights**self.balance * worth / left**self.balance, values).cummax(0).values


def unit_cost(site: Site, around: Keeps, budget: Budget) -> float:
    """What one unit costs on average between the least and all of the site, the other sites as in `around`."""
    ends = (budget.least(site), site.units)
    if ends[0] == ends[1]:
        return 0.0
    low, high = along(budget.price, around, site.name, ends).tolist()
    return float(high - low) / (ends[1] - ends[0])

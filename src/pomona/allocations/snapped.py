"""Snapped: widths moved to the right edges of the price's steps (Radu et al., Performance Aware Channel Pruning, 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from pomona.allocations.everywhere import Global
from pomona.allocations.marginals import along
from pomona.vocabulary import Allocation, Budget, InputError, Keeps, Scores, Site

Mode = Literal["up", "nearest", "down"]
_TRIES = 6


@dataclass(frozen=True)
class Snapped:
    """What `inner` leaves at each axis, moved to a count that no larger one matches in price.

    Latency over width is a staircase with slow outliers: between two steps, units can stay for nothing. "up" keeps them;
    "nearest" and "down" may cut on to the step below. Prices without steps change nothing. Sites are moved one after the
    other, those that are left as they now are. Prices that differ by at most `margin` of what the site costs are taken as
    equal, which measured ones need, and are the most that moving can add at a site; where that makes the model too dear,
    `inner` is asked for a little less.
    """

    inner: Allocation = field(default_factory=Global)
    mode: Mode = "up"
    margin: float = 0.0

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise InputError(f"Widths can be snapped {', '.join(get_args(Mode))}; '{self.mode}' is none of them.")
        if not 0 <= self.margin < 1:
            raise InputError(f"The margin is a share of what a site costs, at least 0 and below 1; it is {self.margin:g}.")

    def allocate(self, sites: Mapping[str, Site], scores: Mapping[str, Scores], budget: Budget) -> Keeps:
        """The inner counts on edges of steps; sites of elements and blocks as they are."""
        first = self.inner.allocate(sites, scores, budget)
        snapped = budget.even(self._snapped(sites, first, budget))
        if budget.price(snapped) <= budget.limit:
            return snapped
        best, high = first, budget.limit
        low = budget.price(budget.even({name: torch.tensor(budget.least(site)) for name, site in sites.items()}))
        for _ in range(_TRIES):
            middle = (low + high) / 2
            found = self.inner.allocate(sites, scores, replace(budget, limit=middle))
            snapped = budget.even(self._snapped(sites, found, budget))
            if budget.price(snapped) <= budget.limit:
                best, low = snapped, middle
            else:
                high = middle
        return best

    def _snapped(self, sites: Mapping[str, Site], found: Keeps, budget: Budget) -> Keeps:
        keeps = dict(found)
        for name, site in sites.items():
            if site.kind == "axis" and keeps[name].dim() == 0:
                counts = torch.tensor(self._counts(site, budget, int(keeps[name])))
                bottom, *steps = along(budget.price, keeps, name, [budget.least(site), *counts.tolist()]).tolist()
                edges = counts[right_edges(torch.tensor(steps, dtype=torch.float64), self.margin * abs(steps[-1] - bottom))]
                keeps[name] = self._snap(edges, keeps[name])
        return keeps

    def _counts(self, site: Site, budget: Budget, now: int) -> list[int]:
        """What the site may keep, the present count among it."""
        multiple = budget.multiple.get(site.name, 1)
        most = min(site.units, budget.upper.get(site.name, site.units))
        lowest = max(1, now) if self.mode == "up" else budget.least(site)
        allowed = {count for count in range(lowest, most + 1) if count % multiple == 0 or count == site.units}
        return sorted(allowed | {now})

    def _snap(self, edges: Tensor, now: Tensor) -> Tensor:
        above, below = edges[edges >= now][:1], edges[edges <= now][-1:]
        near = {"up": above, "down": below if len(below) else above}
        if self.mode in near:
            return near[self.mode][0]
        both = torch.cat([above, below])
        return both[(both - now).abs().argmin()]


def right_edges(prices: Tensor, equal: float = 0.0) -> Tensor:
    """Bool by count (ascending): every larger count costs more; of such edges that cost nearly the same, the last.

    They do up to `equal` above the first of them, where the next ones begin: a slow rise has edges, too.

    >>> right_edges(torch.tensor([3.9, 4.0, 4.0, 7.5, 7.0, 7.0, 12.0, 10.0])).nonzero().flatten().add(1).tolist()
    [1, 3, 6, 8]
    >>> right_edges(torch.tensor([4.0, 4.1, 7.0, 7.2, 7.1]), equal=0.3).nonzero().flatten().add(1).tolist()
    [2, 5]
    >>> right_edges(torch.arange(9.0), equal=2.0).nonzero().flatten().add(1).tolist()
    [3, 6, 9]
    """
    least = prices.flip(0).cummin(0).values.flip(0)
    exact = torch.cat([prices[:-1] < least[1:], prices.new_ones(1, dtype=torch.bool)]).nonzero().flatten()
    rising, found, start = prices[exact], torch.zeros(len(prices), dtype=torch.bool), 0
    while start < len(exact):
        start = int(torch.searchsorted(rising, rising[start] + equal, right=True))
        found[exact[start - 1]] = True
    return found

"""Contribution: the channels that the next layer misses least, chosen together (ThiNet, Luo et al., 2017)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pomona.statistics.contributions import ContributionGram
from pomona.vocabulary import Scores, Statistic, View


@dataclass(frozen=True)
class Contribution:
    """Units leave one by one, each time the one that leaves the least error: sum of (what all who left added to a reader)^2.

    Contributions cancel, so worth depends on who has left: the scores come with an order. A unit's value is the error once
    it has left, as a share of the energy of the whole axis; sites can be compared by it. The paper looks at one reader;
    here all readers of the axis add up, whatever its family, but for those inside a recurrent module, which nothing sees.
    `positions` outputs of each example are looked at.
    """

    positions: int = 10

    @property
    def needs(self) -> tuple[Statistic, ...]:
        """What the units add to their readers."""
        return (ContributionGram(self.positions),)

    def score(self, view: View) -> Scores:
        """The dead leave first."""
        gram = view.stats[self.needs[0]]
        order, errors = greedy(gram, ~view.alive.to(gram.device))
        energy = gram.sum().clamp_min(torch.finfo(gram.dtype).tiny)
        return Scores((errors / energy).clamp(0, torch.finfo(torch.float32).max).float(), order)


def greedy(gram: Tensor, gone: Tensor) -> tuple[Tensor, Tensor]:
    """(order (units,) int64, 0 leaves first; the error s'Gs over all that have left by then, (units,)), `gone` ahead of all."""
    order, errors = torch.empty(len(gram), dtype=torch.int64, device=gram.device), torch.empty_like(gram[0])
    left, error = torch.zeros_like(gone), gram.new_zeros(())
    increase = gram.diagonal().clone()  # of the error, should this unit leave now: G_cc + 2 sum over those who left of G_cj
    for turn in range(len(gram)):
        candidates = gone & ~left if turn < int(gone.sum()) else ~left
        unit = increase.masked_fill(~candidates, torch.inf).argmin()
        error = error + increase[unit]
        order[unit], errors[unit], left[unit] = turn, error, True
        increase = increase + 2 * gram[unit]
    return order, errors

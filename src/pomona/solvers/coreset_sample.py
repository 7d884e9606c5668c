"""Coreset: survivors are drawn by their sensitivity and speak for those who were not (Mussay et al., 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pomona.solvers.readers import scaled
from pomona.statistics.sensitivity import Activation, Shared, sensitivities
from pomona.vocabulary import Decision, Statistic, View


@dataclass(frozen=True)
class CoresetSample:
    """Draws units until as many are distinct as the proposal keeps, and has their readers weigh them by 1 / chance.

    What readers receive is then right on average, for every input. The paper weighs by (times drawn) / (draws * probability),
    which is biased once drawing stops at a count; here the chance of having been drawn by then takes its place (Cohen and
    Kaplan, 2007): the same draws, an exact expectation, and everyone kept means factors of 1. Units of sensitivity 0 stay
    only where others are too few. The settings are those of the criterion `Sensitivity`.
    """

    beta: float = 1.0
    activation: Activation = "relu"
    shared: Shared = "max"
    needs: ClassVar[tuple[Statistic, ...]] = ()

    def solve(self, view: View, proposal: Tensor) -> Decision:
        """Other survivors than proposed, as many; the readers with scaled columns. Nothing changes where everyone stays."""
        if proposal.all() or not proposal.any():
            return Decision(proposal)
        worth = sensitivities(view, self.beta, self.activation, self.shared)
        keep, factors = drawn(worth, proposal.to(worth.device), view.generator)
        return Decision(keep.to(proposal.device), scaled(view, view.members("in"), factors))


def drawn(worth: Tensor, proposal: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(who stays: bool, as many as the proposal has; factors: float64, 1 / P(drawn) for them, 1 for the others).

    Drawing with replacement until k are distinct takes the k that come first in a race of exponential clocks with rates in
    proportion to worth. Given the time t at which the next would have come, unit i was there with chance 1 - exp(-rate t).
    """
    clocks = torch.empty(len(worth), dtype=torch.float64).exponential_(generator=generator).to(worth.device)
    finish = torch.where(worth > 0, clocks / worth, torch.inf)
    # Those who never come are taken last, proposed ones first.
    places = torch.argsort(finish.masked_fill(torch.isinf(finish) & proposal, torch.finfo(finish.dtype).max), stable=True)
    count = int(proposal.sum())
    keep = torch.zeros_like(proposal)
    keep[places[:count]] = True
    until = finish[places[count]]
    certain = torch.isinf(until) | (worth == 0)
    return keep, torch.where(keep & ~certain, 1 / -torch.expm1(-worth * until), 1.0)

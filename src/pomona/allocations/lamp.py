"""LAMP: scores relative to everything in the layer that is still there (Lee et al., Layer-adaptive Sparsity, 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pomona.allocations.cut import cut
from pomona.allocations.leaving import leaving
from pomona.vocabulary import Budget, InputError, Keeps, Scores, Site


@dataclass(frozen=True)
class Lamp:
    """Key of unit u: score(u)^power / sum of score(v)^power over all v of the site that leave no earlier than u.

    The best unit of every site has key 1, so no layer dies before all others are down to one unit. The paper uses |w|
    and power 2; power 1 suits scores that are squares already. Any non-negative score will do. The dead count for nothing.
    """

    power: float = 2.0

    @property
    def shares_out(self) -> bool:
        """How much goes where is what it is for: it is refused where a structure fixes that."""
        return True

    def allocate(self, sites: Mapping[str, Site], scores: Mapping[str, Scores], budget: Budget) -> Keeps:
        """Counts () of the units above the one threshold that meets the budget; raises InputError on negative scores."""
        return cut(sites, {name: self.keys(name, scores[name]) for name in sites}, budget)

    def keys(self, name: str, scores: Scores) -> Tensor:
        """The keys of one site, ascending, float32; -inf for the dead."""
        values = leaving(scores)
        competing = torch.isfinite(values)
        energy = torch.where(competing, values, 0.0)
        if bool((energy < 0).any()):
            raise InputError(f"LAMP needs scores that are not negative; the smallest at {name} is {float(energy.min()):g}.")
        energy = energy.pow(self.power)
        rest = energy.flip(0).cumsum(0).flip(0)  # from the back: subtracting from the total would cancel
        ratio = torch.where(rest > 0, energy / rest.clamp(min=torch.finfo(rest.dtype).tiny), 0.0)
        return torch.where(competing, ratio, values).float().cummax(0).values

"""ER and ERK: layers with few weights for their width stay denser (Mocanu et al., SET, 2018; Evci et al., RigL, 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from pomona.allocations.cut import cut
from pomona.vocabulary import Budget, InputError, Keeps, Scores, Site


@dataclass(frozen=True)
class Erk:
    """Density of a layer ~ r = (sum of its dimensions) / (their product), never above 1; without `kernel` (ER) only the

    in- and output widths count. The common factor is what meets the budget, layers at density 1 stepping aside. Only
    sites on weights; scores are not read.
    """

    kernel: bool = True

    @property
    def blind(self) -> bool:
        """Reads no scores."""
        return True

    @property
    def shares_out(self) -> bool:
        """How much goes where is what it is for: it is refused where a structure fixes that."""
        return True

    def allocate(self, sites: Mapping[str, Site], scores: Mapping[str, Scores], budget: Budget) -> Keeps:
        """Counts () in proportion to r; raises InputError for sites that are not on a weight."""
        sizes = {name: (site.units, self._density(site)) for name, site in sites.items()}
        known = {size: _keys(*size) for size in set(sizes.values())}  # sites of one kind share their keys
        return cut(sites, {name: known[size] for name, size in sizes.items()}, budget)

    def _density(self, site: Site) -> float:
        weight = site.weight
        if weight is None:
            raise InputError(f"ERK divides single weights and blocks; {site.name} is neither: use uniform or global there.")
        flat = weight.out_dim is None or weight.in_dim is None
        widths = weight.shape if self.kernel or flat else (weight.shape[weight.out_dim or 0], weight.shape[weight.in_dim or 0])
        return sum(widths) / prod(widths)


def _keys(units: int, density: float) -> Tensor:
    # The j-th best unit stays while (j + 1/2) / (units * density) is below the common factor: least negative, last to go.
    best = torch.arange(units - 1, -1, -1, dtype=torch.float64) + 0.5
    return (-best / (units * density)).float()

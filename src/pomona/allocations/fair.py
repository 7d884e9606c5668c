"""Fair: whatever an allocation prefers, no site bears far more of a goal than the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import ceil

from pomona.allocations.everywhere import Global
from pomona.allocations.uniform import Uniform
from pomona.vocabulary import Allocation, Budget, InputError, Keeps, Scores, Site


@dataclass(frozen=True)
class Fair:
    """What `inner` leaves when every site keeps at least `share` of what equal shares would leave it.

    The floor falls with the goal, so every goal that equal shares can meet stays within reach: at 0 the inner allocation is
    free, at 1 it is uniform.
    """

    inner: Allocation = field(default_factory=Global)
    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise InputError(f"The share of what equal shares leave is from 0 to 1; it is {self.share:g}.")

    def allocate(self, sites: Mapping[str, Site], scores: Mapping[str, Scores], budget: Budget) -> Keeps:
        """Counts (); sites of elements are counted whole."""
        equal = Uniform().allocate(sites, scores, budget)
        lower = {name: max(budget.least(site), ceil(self.share * int(equal[name]))) for name, site in sites.items()}
        return self.inner.allocate(sites, scores, replace(budget, lower=lower))

"""Sparsities by hand, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from pomona.allocations.uniform import Uniform
from pomona.vocabulary import Budget, InputError, Keeps, Scores, Site


@dataclass(frozen=True)
class PerLayer:
    """`rates` are (glob pattern over site names, share of the units that goes), the first match wins.

    Sites without a match share out evenly what the goal still asks for; if the named ones meet it alone, the others stay
    whole. Limits by site still hold.
    """

    rates: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        for pattern, sparsity in self.rates:
            if not 0 <= sparsity < 1:
                raise InputError(f"The sparsity of '{pattern}' must be at least 0 and below 1; it is {sparsity:g}.")

    @property
    def blind(self) -> bool:
        """Reads no scores."""
        return True

    def allocate(self, sites: Mapping[str, Site], scores: Mapping[str, Scores], budget: Budget) -> Keeps:
        """The counts of the named sites, and equal shares elsewhere; raises InputError on a pattern that names no site."""
        for pattern, _ in self.rates:
            if not any(fnmatchcase(name, pattern) for name in sites):
                raise InputError(f"The pattern '{pattern}' names no site; sites are called like {next(iter(sites))}.")
        fixed = {name: count for name, site in sites.items() if (count := self._count(site, budget)) is not None}
        bound = replace(budget, lower={**budget.lower, **fixed}, upper={**budget.upper, **fixed})
        return Uniform().allocate(sites, scores, bound)

    def _count(self, site: Site, budget: Budget) -> int | None:
        sparsity = next((share for pattern, share in self.rates if fnmatchcase(site.name, pattern)), None)
        if sparsity is None:
            return None
        keep = site.units - round(sparsity * site.units)
        return min(max(keep, budget.lower.get(site.name, 1)), budget.upper.get(site.name, site.units))

"""Goals by family: every family is cut to its own share of units, whatever remains of the price is met by the rest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

import torch
from torch import Tensor

from pomona.engines.budget import SLACK, budget
from pomona.structures.chosen import goes_by, kind_of, title_of
from pomona.vocabulary import (
    BLOCKS,
    FAMILIES,
    Allocation,
    Budget,
    Goal,
    InputError,
    Keeps,
    Limits,
    Price,
    Scores,
    Site,
)


@dataclass(frozen=True, eq=False)
class Units:
    """The price of sites when every unit costs 1."""

    sites: tuple[Site, ...]

    @property
    def dense(self) -> float:
        """All units."""
        return float(sum(site.units for site in self.sites))

    def __call__(self, keeps: Keeps) -> float:
        """The units that stay."""
        return float(sum(int(keeps[site.name].sum()) if site.name in keeps else site.units for site in self.sites))


def apportion(
    allocation: Allocation, goal: Goal, limits: Limits, price: Price, sites: Sequence[Site], scores: Mapping[str, Scores]
) -> Keeps:
    """How many units stay at each site.

    Families first, each by one cut of its own (an allocation that never compares sites cuts them one by one); then the
    others meet what the price still asks for. Raises InputError where the least that may stay costs more than that.
    """
    whole = budget(goal, limits, price, sites)
    found: dict[str, Tensor] = {}
    for share, family in parted(goal, sites):
        for group in _apart(family) if getattr(allocation, "alone", False) else [family]:
            found |= allocation.allocate(_named(group), scores, _share(whole, share, group))
    rest = [site for site in sites if site.name not in found]
    if goal.priced:
        found |= allocation.allocate(_named(rest), scores, replace(whole, price=_Beside(price, found)) if found else whole)
    return {site.name: torch.tensor(site.units) for site in rest} | found


def parted(goal: Goal, sites: Sequence[Site]) -> list[tuple[float, list[Site]]]:
    """(share of the units that stays, its sites) for each share of the goal; the first that names a site has it.

    Raises InputError on a share that is left without a site.
    """
    left, found = list(sites), []
    for name, share in goal.shares:
        family = [site for site in left if goes_by(title_of(site), (name,))]
        if not family:
            raise InputError(f"The goal {name}={share:g} names nothing here that can be pruned; {_instead(name, sites, left)}.")
        found.append((share, family))
        left = [site for site in left if site not in family]
    return found


def _instead(name: str, sites: Sequence[Site], left: Sequence[Site]) -> str:
    if len(left) < len(sites) and any(goes_by(title_of(site), (name,)) for site in sites):
        return "what it names is named before it"
    if name in FAMILIES or name in BLOCKS:
        return f"there are {', '.join(dict.fromkeys(map(kind_of, sites)))}"
    known = list(dict.fromkeys(own for site in sites for own in title_of(site)))
    close = get_close_matches(name, known, 1)
    return f"did you mean {close[0]}" if close else f"sites are called like {sites[0].name}"


def _apart(sites: Sequence[Site]) -> list[list[Site]]:
    """One by one, but those together that must keep equal shares."""
    groups: dict[str, list[Site]] = {}
    for site in sites:
        groups.setdefault((site.axis and site.axis.even) or site.name, []).append(site)
    return list(groups.values())


def _named(sites: Iterable[Site]) -> dict[str, Site]:
    return {site.name: site for site in sites}


def _share(whole: Budget, share: float, sites: Sequence[Site]) -> Budget:
    """So many units of these sites; where the least that must stay is more, that."""
    units = Units(tuple(sites))
    least = units(whole.even({site.name: torch.tensor(whole.least(site)) for site in sites}))
    return replace(whole, price=units, limit=max(share * units.dense * (1 + SLACK), least))


@dataclass(frozen=True, eq=False)
class _Beside:
    """A price when the counts of some sites are settled."""

    price: Price
    settled: Keeps

    @property
    def dense(self) -> float:
        """The price of the untouched model."""
        return self.price.dense

    def __call__(self, keeps: Keeps) -> float:
        """The price when these stay as well."""
        return self.price({**self.settled, **keeps})
